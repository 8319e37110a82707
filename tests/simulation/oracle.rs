//! What everybody must have seen once a run is over.

use crate::player::{Ended, Player};
use crate::world::{FIRST_BACKEND, World};
use seaprox::sim::SimKernel;

/// What may go wrong in a run by no fault of the proxy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excuses {
    /// How many clients may find no backend: the proxy said so itself, for plausible reasons.
    pub(crate) refused: u64,
    /// Whatever runs may be cut off: the proxy was told to stop, or to be impatient.
    pub(crate) cut_off: bool,
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
    // Any of the others may have been the peer.
    let mut others = world.players.iter().enumerate().filter(|(index, other)| {
        pairs[*index].is_none() && is_backend(other) != is_backend(player)
    });
    match player.ended {
        None if player.left.is_some() => Ok(0),
        None => Err("nobody told of an end".into()),
        // The loser of two connects, or one that came too late.
        Some(_) if is_backend(player) => Ok(0),
        Some((Ended::Fin, _)) => {
            let silent = others.any(|(_, other)| other.sent == player.received && other.fin_sent);
            if silent { Ok(0) } else { Err("a FIN from nowhere".into()) }
        }
        Some((Ended::Error(_), _)) if cut_off => Ok(0),
        Some((Ended::Error(_), _)) => {
            let gone = others.any(|(_, other)| other.left.is_some() || other.end.spoiled(sim));
            Ok(u64::from(!gone))
        }
    }
}
