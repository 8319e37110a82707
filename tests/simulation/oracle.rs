//! What everybody must have seen once a run is over.

use crate::front::Fate;
use crate::player::{Ended, Player};
use crate::talk::{Talk, Told};
use crate::world::{FIRST_BACKEND, World};
use seaprox::sim::SimKernel;

/// What may go wrong in a run by no fault of the proxy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excuses {
    /// How many clients may find no backend: the proxy said so itself, for plausible reasons.
    pub(crate) refused: u64,
    /// Whatever runs may be cut off: the proxy was told to stop, or to be impatient.
    pub(crate) cut_off: bool,
    /// Anybody may be refused for anything: calls failed that no peer can help.
    pub(crate) anything: bool,
    /// How long a reset may be held back for bytes that came before it.
    pub(crate) reset_flush_millis: u64,
}

pub(crate) fn judge(
    world: &World<'_>,
    sim: &SimKernel<'_>,
    excuses: Excuses,
) -> Result<(), String> {
    let mut pairs: Vec<Option<usize>> = vec![None; world.players.len()];
    for (index, player) in world.players.iter().enumerate() {
        let Some(peer_id) = player.peer_id() else { continue };
        let peer = world.players.iter().position(|other| other.id == peer_id);
        let peer = peer.ok_or_else(|| format!("{} hears of nobody: {peer_id}", player.id))?;
        if is_backend(player) == is_backend(&world.players[peer]) {
            return Err(format!("{} is connected to {peer_id}", player.id));
        }
        for (one, other) in [(index, peer), (peer, index)] {
            if pairs[one].replace(other).is_some_and(|before| before != other) {
                return Err(format!("{} is connected twice", world.players[one].id));
            }
        }
    }
    let mut refused = 0;
    for (index, player) in world.players.iter().enumerate() {
        if let Some(talk) = &player.talk {
            let peer = pairs[index].map(|peer| &world.players[peer]);
            // Reset before anybody looked, it was refused.
            let anything = excuses.anything || have_gone(player, (world, sim), &pairs);
            judge_talk(player, talk, peer, anything)
                .map_err(|what| format!("{what}\n{player:?}"))?;
        }
        let spoiled = player.end.spoiled(sim);
        match pairs[index] {
            Some(peer) => {
                let peer = &world.players[peer];
                let spoiled = spoiled || peer.end.spoiled(sim) || excuses.cut_off;
                judge_pair(player, peer, spoiled, excuses)
                    .map_err(|what| format!("{what}\n{player:?}\n{peer:?}, spoiled: {spoiled}"))?;
            }
            None => {
                let cut_off = spoiled || excuses.cut_off;
                let found = judge_alone(player, (world, sim), &pairs, cut_off);
                refused += found.map_err(|what| format!("{what}\n{player:?}"))?;
            }
        }
    }
    if refused > excuses.refused {
        return Err(format!("{refused} clients were refused; {excuses:?}"));
    }
    Ok(())
}

fn is_backend(player: &Player) -> bool {
    player.id >= FIRST_BACKEND
}

/// What a client was told before bytes flowed, and where it got.
fn judge_talk(
    player: &Player,
    talk: &Talk,
    peer: Option<&Player>,
    anything: bool,
) -> Result<(), String> {
    let ended_in_order = matches!(player.ended, Some((Ended::Fin, _)));
    talk.judge(ended_in_order, anything)?;
    match (peer, &talk.fate) {
        (None, _) => Ok(()),
        (Some(_), _) if player.is_refused() => Err("it was refused, and connected".into()),
        (Some(peer), Fate::Served(place)) if peer.place == *place => Ok(()),
        (Some(peer), fate) => Err(format!("{} is not whom it wanted: {fate:?}", peer.id)),
    }
}

/// Two that were connected through the proxy: what `player` saw of `peer`.
fn judge_pair(
    player: &Player,
    peer: &Player,
    spoiled: bool,
    excuses: Excuses,
) -> Result<(), String> {
    if player.received > peer.sent {
        return Err("more was received than was sent".into());
    }
    let Some((ended, at)) = player.ended else {
        return if player.left.is_some() { Ok(()) } else { Err("nobody told of an end".into()) };
    };
    match ended {
        // Strictly, whatever else went wrong: a FIN promises that nothing is missing.
        Ended::Fin if !peer.fin_sent => Err("a FIN that nobody sent".into()),
        Ended::Fin if player.received != peer.sent => Err("bytes are missing before a FIN".into()),
        Ended::Fin => Ok(()),
        Ended::Error(_) if spoiled => Ok(()),
        Ended::Error(_) => {
            let Some(left) = peer.left else { return Err("a reset for no reason".into()) };
            let late = at.since(left.at) >= excuses.reset_flush_millis;
            if left.reset && left.clean && !late && player.received != peer.sent {
                return Err("bytes are missing that came before a reset".into());
            }
            Ok(())
        }
    }
}

/// One who never heard of a peer, nor the peer of it. Gives 1 if it was refused.
fn judge_alone(
    player: &Player,
    (world, sim): (&World<'_>, &SimKernel<'_>),
    pairs: &[Option<usize>],
    cut_off: bool,
) -> Result<u64, String> {
    let talk = player.talk.as_ref();
    match player.ended {
        None if player.left.is_some() => Ok(0),
        None => Err("nobody told of an end".into()),
        // As it had to be.
        Some(_) if talk.is_some_and(|talk| matches!(talk.fate, Fate::Refused(_))) => Ok(0),
        Some(_) if player.is_refused() => Ok(u64::from(!have_gone(player, (world, sim), pairs))),
        // The loser of two connects, or one that came too late.
        Some(_) if is_backend(player) => Ok(0),
        Some((Ended::Fin, _)) => {
            let mut others = others(player, world, pairs);
            let silent = others.any(|other| other.sent == player.received && other.fin_sent);
            if silent { Ok(0) } else { Err("a FIN from nowhere".into()) }
        }
        Some((Ended::Error(_), _)) if cut_off => Ok(0),
        Some((Ended::Error(_), _)) => {
            let gone = have_gone(player, (world, sim), pairs);
            match talk.and_then(|talk| talk.told) {
                Some(Told::Connected) if !gone => Err("a reset for no reason".into()),
                _ => Ok(u64::from(!gone)),
            }
        }
    }
}

/// All on the other side of the proxy that nobody heard of: any of them may have been the peer.
fn others<'p>(
    player: &Player,
    world: &'p World<'_>,
    pairs: &[Option<usize>],
) -> impl Iterator<Item = &'p Player> {
    let players = world.players.iter().zip(pairs);
    players.filter_map(|(other, pair)| {
        (pair.is_none() && is_backend(other) != is_backend(player)).then_some(other)
    })
}

/// Whether one of them left, or its network did.
fn have_gone(
    player: &Player,
    (world, sim): (&World<'_>, &SimKernel<'_>),
    pairs: &[Option<usize>],
) -> bool {
    others(player, world, pairs).any(|other| other.left.is_some() || other.end.spoiled(sim))
}
