//! Which system call fails, and with what. Each kind of fault has a probability drawn from the
//! seed, most of them 0 in a given run, so that some runs meet a great deal of one misfortune
//! (TigerBeetle calls it swarm testing). Knows no object.

use super::random::Random;
use crate::sys::Errno;
use std::vec::Vec;

/// The kinds of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Call {
    Close,
    EpollCreate,
    EpollAdd,
    EpollModify,
    EpollDelete,
    EpollWait,
    Eventfd,
    Ring,
    Hush,
    Accept,
    StopListening,
    Socket,
    Connect,
    TakeError,
    LocalAddress,
    PeerAddress,
    SetNodelay,
    SetKeepalive,
    SetBuffers,
    SetNonblocking,
    Recv,
    Peek,
    Send,
    ShutdownWrite,
    ResetOnClose,
    Unacknowledged,
    Pipe,
    WritePipe,
    Splice,
}

impl Call {
    /// Every kind.
    pub const ALL: [Call; 29] = {
        use Call::*;
        [
            Close,
            EpollCreate,
            EpollAdd,
            EpollModify,
            EpollDelete,
            EpollWait,
            Eventfd,
            Ring,
            Hush,
            Accept,
            StopListening,
            Socket,
            Connect,
            TakeError,
            LocalAddress,
            PeerAddress,
            SetNodelay,
            SetKeepalive,
            SetBuffers,
            SetNonblocking,
            Recv,
            Peek,
            Send,
            ShutdownWrite,
            ResetOnClose,
            Unacknowledged,
            Pipe,
            WritePipe,
            Splice,
        ]
    };

    /// The errors the manual pages know for it that no peer has to cause. Empty where a failure
    /// would make no sense, or only be our own bug.
    pub fn plausible_errors(self) -> &'static [Errno] {
        use Errno as E;
        match self {
            Call::EpollCreate | Call::Eventfd => &[E::MFILE, E::NFILE, E::NOMEM],
            Call::EpollAdd => &[E::NOMEM, E::NOSPC],
            Call::EpollWait => &[E::INTR],
            Call::Accept => {
                &[E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM, E::CONNABORTED, E::PROTO, E::PERM]
            }
            Call::Socket => &[E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM, E::AFNOSUPPORT, E::ACCESS],
            Call::Connect => {
                &[E::NETUNREACH, E::HOSTUNREACH, E::ADDRNOTAVAIL, E::ACCESS, E::PERM, E::AGAIN]
            }
            Call::LocalAddress => &[E::NOBUFS],
            Call::SetNodelay | Call::SetKeepalive | Call::SetBuffers => &[E::NOMEM, E::INVAL],
            Call::Recv | Call::Peek => &[E::NOMEM],
            Call::Send => &[E::NOMEM, E::NOBUFS],
            Call::Pipe => &[E::MFILE, E::NFILE, E::PERM],
            Call::Splice => &[E::NOMEM],
            _ => &[],
        }
    }

    /// Whether the failure of such a call may end a connection whatever the engine does. The others
    /// must not be seen by any client.
    fn is_fatal(self) -> bool {
        !matches!(self, Call::EpollWait | Call::Accept | Call::Pipe)
    }
}

/// One in so many, as a chance out of 65,536.
const fn one_in(times: u32) -> u16 {
    (65_536 / times) as u16
}

/// The misfortunes of one run, but for those of the network.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    chances: [u16; Call::ALL.len()],
    scripted: Vec<(Call, u32, Errno)>,
    /// A send or a splice moves less than it could.
    pub(super) short_chance: u16,
    /// A send finds no room though there is some.
    pub(super) full_chance: u16,
    /// A wait reports what did not happen.
    pub(super) spurious_chance: u16,
    /// A pipe is made with two pages (pipe-user-pages-soft is used up).
    pub(super) small_pipe_chance: u16,
    /// A write into a pipe runs out of memory in its midst.
    pub(super) torn_chance: u16,
    /// The process stands still for a while (SIGSTOP, a busy host).
    pub(super) stall_chance: u16,
    /// How many errors were given that may end a connection.
    pub(super) fatal: u64,
}

impl Faults {
    /// None at all.
    pub(super) fn none() -> Faults {
        Faults {
            chances: [0; Call::ALL.len()],
            scripted: Vec::new(),
            short_chance: 0,
            full_chance: 0,
            spurious_chance: 0,
            small_pipe_chance: 0,
            torn_chance: 0,
            stall_chance: 0,
            fatal: 0,
        }
    }

    /// Those of a seed; without fatal ones in half of the runs, so that those can be judged
    /// strictly.
    pub(super) fn swarm(random: &mut Random) -> Faults {
        let mut faults = Faults::none();
        let fatal = random.below(2) == 0;
        for call in Call::ALL {
            let chance = swarm_chance(random);
            if !call.plausible_errors().is_empty() && (fatal || !call.is_fatal()) {
                faults.chances[call as usize] = chance;
            }
        }
        faults.short_chance = swarm_chance(random);
        faults.full_chance = swarm_chance(random);
        faults.spurious_chance = swarm_chance(random);
        faults.small_pipe_chance = swarm_chance(random);
        faults.stall_chance = swarm_chance(random) / 64;
        faults.torn_chance = if fatal { swarm_chance(random) } else { 0 };
        faults
    }

    /// From now on none but the scripted ones.
    pub(super) fn end(&mut self) {
        let scripted = core::mem::take(&mut self.scripted);
        *self = Faults { fatal: self.fatal, scripted, ..Faults::none() };
    }

    /// The `n`th call of this kind from now, counted from 1, fails.
    pub(super) fn script(&mut self, call: Call, n: u32, errno: Errno) {
        let senseless =
            [Call::Close, Call::Hush, Call::Ring, Call::StopListening, Call::ResetOnClose];
        assert!(n > 0 && !senseless.contains(&call), "a call that cannot fail");
        self.scripted.push((call, n, errno));
    }

    /// Whether a scripted failure has not happened yet.
    pub(super) fn awaits_scripted(&self) -> bool {
        !self.scripted.is_empty()
    }

    /// Whether this call fails.
    pub(super) fn draw(&mut self, call: Call, random: &mut Random) -> Option<Errno> {
        let mut error = None;
        self.scripted.retain_mut(|(of, left, errno)| {
            if *of != call {
                return true;
            }
            *left -= 1;
            if *left == 0 {
                error = Some(*errno);
            }
            *left > 0
        });
        if error.is_none() && random.chance(self.chances[call as usize]) {
            error = Some(random.pick(call.plausible_errors()));
        }
        self.fatal += u64::from(error.is_some() && call.is_fatal());
        error
    }
}

/// Mostly 0; else rare, now and then, or often.
pub(super) fn swarm_chance(random: &mut Random) -> u16 {
    match random.below(8) {
        0 => one_in(1000),
        1 => one_in(64),
        2 => one_in(6),
        _ => 0,
    }
}
