//! What each peer may have of a thread, over all of its links there, so that nobody takes what others
//! need. Knows a peer by its number only, and no link.
//!
//! Invariant: half of a thread's connections, and of its links, is kept in equal parts for those who have
//! less than their part: no peer, whatever it does, keeps another from that. The other half is for
//! whoever comes first.

use crate::carrier::PeerNumber;
use crate::session::Rate;
use seaprox::fail::FailReason;
use seaprox::side::SideKey;
use seaprox::time::Instant;

/// How much one peer may have of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Channels at once.
    pub channels_max: u32,
    /// Channels it opens in a second, those that are refused included.
    pub opens_per_second_max: u32,
}

impl Quota {
    /// As much as there is, but for what is kept for others.
    pub const UNBOUNDED: Quota = Quota { channels_max: u32::MAX, opens_per_second_max: u32::MAX };
}

impl Default for Quota {
    fn default() -> Self {
        Quota::UNBOUNDED
    }
}

/// One peer: how much it may have, and has.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    quota: Quota,
    connections: u32,
    opens: Rate,
}

impl Account {
    /// Of a peer that has nothing.
    #[must_use]
    pub const fn new(quota: Quota) -> Account {
        Account { quota, connections: 0, opens: Rate::NONE }
    }
}

/// Nobody's connection: what [`Accounts::new`] is given a place for each of.
pub const NOBODY: PeerNumber = PeerNumber::MAX;

/// The peers of a thread. All is O(1) but for what it says of itself.
///
/// ```
/// use seaprox_proto::source::{Account, Accounts, NOBODY, Quota};
///
/// let quota = Quota { channels_max: 10, ..Quota::UNBOUNDED };
/// // Two peers, on a thread whose table has four connections.
/// let (mut peers, mut owners) = ([Account::new(quota); 2], [NOBODY; 4]);
/// let _accounts = Accounts::new(&mut peers, &mut owners);
/// ```
#[derive(Debug, Default)]
pub struct Accounts<'m> {
    peers: &'m mut [Account],
    /// Whose each connection of the table is.
    owners: &'m mut [PeerNumber],
    /// What is kept for each peer.
    part: u32,
    /// How much of all parts nobody has.
    unclaimed: u32,
    /// How many connections there are.
    taken: u32,
}

impl<'m> Accounts<'m> {
    /// Of peers by their numbers, and a place for each connection of the thread's table. Without peers
    /// everybody may have anything. O(connections).
    pub fn new(peers: &'m mut [Account], owners: &'m mut [PeerNumber]) -> Self {
        owners.fill(NOBODY);
        let part = (owners.len() / 2).checked_div(peers.len()).unwrap_or(0) as u32;
        let unclaimed = part * peers.len() as u32;
        Accounts { peers, owners, part, unclaimed, taken: 0 }
    }

    /// A connection comes over a link of this peer, and is this side.
    ///
    /// # Errors
    /// [`FailReason::OverLimit`]: the peer has as much as it may have. [`FailReason::TableFull`]: what
    /// is left is kept for others. [`FailReason::Denied`]: nobody knows it.
    pub(super) fn open(
        &mut self,
        peer: Option<PeerNumber>,
        side: SideKey,
        now: Instant,
    ) -> Result<(), FailReason> {
        if self.peers.is_empty() {
            return Ok(());
        }
        let number = peer.ok_or(FailReason::Denied)?;
        let account = self.peers.get_mut(usize::from(number)).ok_or(FailReason::Denied)?;
        let Quota { channels_max, opens_per_second_max } = account.quota;
        if !account.opens.count(opens_per_second_max, now) || account.connections >= channels_max {
            return Err(FailReason::OverLimit);
        }
        let places = self.owners.len() as u32;
        let owner = self.owners.get_mut(side.connection()).ok_or(FailReason::TableFull)?;
        if account.connections < self.part {
            self.unclaimed -= 1;
        } else if self.taken + self.unclaimed >= places {
            return Err(FailReason::TableFull);
        }
        *owner = number;
        account.connections += 1;
        self.taken += 1;
        Ok(())
    }

    /// The connection of this side is over, or there was none.
    pub(super) fn close(&mut self, side: SideKey) {
        let Some(owner) = self.owners.get_mut(side.connection()) else { return };
        let owner = core::mem::replace(owner, NOBODY);
        let Some(account) = self.peers.get_mut(usize::from(owner)) else { return };
        account.connections -= 1;
        self.taken -= 1;
        if account.connections < self.part {
            self.unclaimed += 1;
        }
    }

    /// Whether somebody may have one more link, of whom `others` are the peers of all links that are not
    /// vacant, and so many are. O(links^2).
    pub(super) fn may_link(
        &self,
        peer: Option<PeerNumber>,
        others: impl Iterator<Item = PeerNumber> + Clone,
        vacant: usize,
    ) -> bool {
        let Some(peer) = peer.filter(|_| !self.peers.is_empty()) else { return vacant > 0 };
        if !others.clone().any(|other| other == peer) {
            return vacant > 0;
        }
        let linked = others.clone().enumerate().filter(|&(at, other)| {
            // Each peer once.
            !others.clone().take(at).any(|earlier| earlier == other)
        });
        let without = self.peers.len().saturating_sub(linked.count());
        let links = others.count() + vacant;
        vacant > without.min(links / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(5_000);

    fn side(connection: usize) -> SideKey {
        SideKey::source(connection)
    }

    /// How many connections a peer is given, from this place of the table on.
    fn fill(accounts: &mut Accounts<'_>, peer: PeerNumber, from: usize) -> (usize, FailReason) {
        let mut given = 0;
        loop {
            match accounts.open(Some(peer), side(from + given), NOW) {
                Ok(()) => given += 1,
                Err(reason) => return (given, reason),
            }
        }
    }

    #[test]
    fn without_peers_anybody_has_anything() {
        let mut accounts = Accounts::new(&mut [], &mut []);
        for connection in 0..1000 {
            assert_eq!(accounts.open(None, side(connection), NOW), Ok(()));
            accounts.close(side(connection));
        }
        assert!(accounts.may_link(None, [].into_iter(), 1));
        assert!(!accounts.may_link(None, [].into_iter(), 0));
    }

    #[test]
    fn who_is_alone_has_all() {
        let (mut peers, mut owners) = ([Account::new(Quota::UNBOUNDED)], [0; 100]);
        let mut accounts = Accounts::new(&mut peers, &mut owners);
        assert_eq!(fill(&mut accounts, 0, 0), (100, FailReason::TableFull));
        accounts.close(side(7));
        assert_eq!(accounts.open(Some(0), side(7), NOW), Ok(()));
        assert!(accounts.may_link(Some(0), [0, 0, 0].into_iter(), 1));
    }

    #[test]
    fn nobody_takes_what_is_kept_for_others() {
        let (mut peers, mut owners) = ([Account::new(Quota::UNBOUNDED); 4], [0; 100]);
        let mut accounts = Accounts::new(&mut peers, &mut owners);
        // A part is 12, and the other three's are kept.
        assert_eq!(fill(&mut accounts, 2, 0), (100 - 3 * 12, FailReason::TableFull));
        for (peer, from) in [(0, 64), (3, 76), (1, 88)] {
            assert_eq!(fill(&mut accounts, peer, from), (12, FailReason::TableFull));
        }
        // What one gives back beyond its part is anybody's; within it, its own again.
        accounts.close(side(0));
        assert_eq!(accounts.open(Some(1), side(0), NOW), Ok(()));
        accounts.close(side(64));
        assert_eq!(accounts.open(Some(2), side(64), NOW), Err(FailReason::TableFull));
        assert_eq!(accounts.open(Some(0), side(64), NOW), Ok(()));
        (0..100).for_each(|connection| accounts.close(side(connection)));
        assert_eq!((accounts.taken, accounts.unclaimed), (0, 48));
        assert_eq!(fill(&mut accounts, 0, 0).0, 64);
    }

    #[test]
    fn a_peer_at_its_limit_is_refused_and_others_go_on() {
        let quota = Quota { channels_max: 3, ..Quota::UNBOUNDED };
        let mut peers = [Account::new(quota), Account::new(Quota::UNBOUNDED)];
        let mut owners = [0; 50];
        let mut accounts = Accounts::new(&mut peers, &mut owners);
        assert_eq!(fill(&mut accounts, 0, 0), (3, FailReason::OverLimit));
        assert_eq!(accounts.open(Some(1), side(3), NOW), Ok(()));
        accounts.close(side(3));
        assert_eq!(accounts.open(Some(0), side(3), NOW), Err(FailReason::OverLimit));
        accounts.close(side(1));
        assert_eq!(accounts.open(Some(0), side(1), NOW), Ok(()));
    }

    #[test]
    fn opens_count_for_a_second() {
        let quota = Quota { opens_per_second_max: 2, ..Quota::UNBOUNDED };
        let mut peers = [Account::new(quota), Account::new(Quota::UNBOUNDED)];
        let mut owners = [0; 50];
        let mut accounts = Accounts::new(&mut peers, &mut owners);
        for millis in [0, 1000, 5000] {
            let now = NOW.after(millis);
            for expected in [Ok(()), Ok(()), Err(FailReason::OverLimit)] {
                assert_eq!(accounts.open(Some(0), side(0), now), expected);
                accounts.close(side(0));
            }
            assert_eq!(accounts.open(Some(1), side(0), now), Ok(()));
            accounts.close(side(0));
        }
    }

    #[test]
    fn who_is_not_known_has_nothing() {
        let (mut peers, mut owners) = ([Account::new(Quota::UNBOUNDED); 2], [0; 2]);
        let mut accounts = Accounts::new(&mut peers, &mut owners);
        for peer in [None, Some(2), Some(NOBODY)] {
            assert_eq!(accounts.open(peer, side(0), NOW), Err(FailReason::Denied));
        }
        // There are fewer places than connections.
        assert_eq!(accounts.open(Some(0), side(2), NOW), Err(FailReason::TableFull));
        accounts.close(side(2));
        accounts.close(side(0));
        assert_eq!(accounts.taken, 0);
    }

    #[test]
    fn one_peer_does_not_have_every_link() {
        let (mut peers, mut owners) = ([Account::new(Quota::UNBOUNDED); 3], [0; 2]);
        let accounts = Accounts::new(&mut peers, &mut owners);
        let may = |peer, others: &[PeerNumber], vacant| {
            accounts.may_link(Some(peer), others.iter().copied(), vacant)
        };
        // Of two the last is for another.
        assert!(may(0, &[], 2) && !may(0, &[0], 1) && may(1, &[0], 1) && !may(2, &[0, 1], 0));
        // Of eight there is one for each of the other two.
        assert!(may(0, &[0; 5], 3) && !may(0, &[0; 6], 2));
        assert!(may(1, &[0; 6], 2) && may(2, &[0, 0, 0, 0, 0, 0, 1], 1));
        assert!(!may(1, &[0, 0, 0, 0, 0, 0, 1], 1));
        // Everybody has one.
        assert!(may(0, &[0, 1, 2], 1));
    }
}
