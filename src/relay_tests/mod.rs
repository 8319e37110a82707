//! The relay against a model: whatever the kernel does, bytes come out as they went in, each once.

mod kernel;
mod lender;

use super::lent::LENT_TURN_BYTES;
use super::*;
use kernel::{Faults, Kernel, Last, Socket, Whims};
use lender::{Descriptors, LENT_BYTES_MAX, Lender, REASON, channel_of};
use proptest::prelude::*;
use std::vec::Vec;

/// Connections that share one relay at a time.
const PAIRS: usize = 2;

/// What is relayed: how much each way, and how that ends.
type Traffic = [(usize, Last); 2];

fn any_traffic() -> impl Strategy<Value = Traffic> {
    let bytes = || prop_oneof![2 => 0..3000usize, 2 => 0..200_000usize, 1 => 0..1_500_000usize];
    let last = || prop_oneof![4 => Just(Last::Fin), 1 => Just(Last::Reset)];
    ((bytes(), last()), (bytes(), last())).prop_map(|(a, b)| [a, b])
}

fn any_faults() -> impl Strategy<Value = Faults> {
    any::<[bool; 5]>().prop_map(|[interrupted, no_memory, no_pipes, unspliceable, torn]| Faults {
        interrupted,
        no_memory,
        no_pipes,
        unspliceable,
        torn,
    })
}

/// One connection as the worker sees it.
struct Pair {
    fds: [RawFd; 2],
    sides: [Side; 2],
    /// Which directions have ended, by where they come from.
    ended: [bool; 2],
}

/// The worker, as far as the relay is concerned, and the model it is held against: what was read
/// from one socket was written to the other, or is in a pipe.
struct Bench<'k> {
    kernel: &'k Kernel,
    relay: Relay<'k, &'k Kernel>,
    lender: Lender<'k>,
    /// Which sides are channels.
    lends: [[bool; 2]; PAIRS],
    pairs: Vec<Pair>,
    to_come: Vec<Traffic>,
}

impl<'k> Bench<'k> {
    fn new(
        kernel: &'k Kernel,
        buffer: &'k mut [u8],
        limits: PipeLimits,
        lends: [[bool; 2]; PAIRS],
        to_come: Vec<Traffic>,
    ) -> Bench<'k> {
        let relay = Relay::new(kernel, buffer, limits);
        let lender = Lender::new(kernel);
        let mut bench = Bench { kernel, relay, lender, lends, pairs: Vec::new(), to_come };
        for pair in 0..PAIRS {
            let pair = bench.connect(pair);
            bench.pairs.push(pair);
        }
        bench
    }

    fn connect(&mut self, pair: usize) -> Pair {
        let traffic = self.to_come.pop().unwrap_or([(0, Last::Fin); 2]);
        let mut sides = [Side::IDLE; 2];
        sides.iter_mut().for_each(|side| side.connect(Flags::WRITABLE));
        Pair { fds: self.kernel.connect(pair, traffic), sides, ended: [false; 2] }
    }

    /// Ends a connection, wherever its bytes are; another takes its place.
    fn end(&mut self, pair: usize) {
        for side in &mut self.pairs[pair].sides {
            self.relay.drop_flow(side);
        }
        self.pairs[pair] = self.connect(pair);
    }

    fn socket<T>(&self, pair: usize, side: usize, look: impl Fn(&Socket) -> T) -> T {
        look(&self.kernel.0.borrow().sockets[pair * 2 + side])
    }

    /// What epoll tells of a side.
    fn deliver(&mut self, pair: usize, side: usize) {
        let socket = &mut self.kernel.0.borrow_mut().sockets[pair * 2 + side];
        let flags = &mut self.pairs[pair].sides[side].flags;
        if core::mem::take(&mut socket.read_event) {
            flags.set(Flags::READABLE);
            if socket.over {
                flags.set(Flags::HANGUP);
            }
            if socket.is_urgent() {
                flags.set(Flags::URGENT);
            }
        }
        if core::mem::take(&mut socket.write_event) {
            flags.set(Flags::WRITABLE);
        }
        if socket.is_reset() {
            flags.set(Flags::ERROR.or(Flags::READABLE).or(Flags::WRITABLE));
        }
    }

    fn pump(&mut self, pair: usize, from: usize) {
        let fds = self.pairs[pair].fds;
        let sides = self.pairs[pair].sides.split_at_mut(1);
        let (side, other) = match from {
            0 => (&mut sides.0[0], &mut sides.1[0]),
            _ => (&mut sides.1[0], &mut sides.0[0]),
        };
        if !side.wants_pumping() {
            return;
        }
        let before = side.bytes;
        let handle = |which: usize| match self.lends[pair][which] {
            true => channel_of(pair * 2 + which),
            false => Handle::descriptor(fds[which]),
        };
        let (one, another) = (End::new(handle(from), side), End::new(handle(from ^ 1), other));
        let (relay, lender) = (&mut self.relay, &mut self.lender);
        let stopped = match (self.lends[pair][from], self.lends[pair][from ^ 1]) {
            (false, false) => relay.pump(one, another, (&mut Descriptors, &mut Descriptors)),
            (false, true) => relay.pump(one, another, (&mut Descriptors, lender)),
            (true, false) => relay.pump(one, another, (lender, &mut Descriptors)),
            (true, true) => relay.pump(one, another, (lender, &mut Lender::new(self.kernel))),
        };
        let moved = self.pairs[pair].sides[from].bytes - before;
        let most = (LENT_TURN_BYTES + LENT_BYTES_MAX) as u64;
        assert!(
            self.lends[pair] == [false; 2] || moved <= most,
            "{moved}: others never have a turn"
        );
        let flags = self.pairs[pair].sides[from].flags;
        let to_flags = self.pairs[pair].sides[from ^ 1].flags;
        let all_taken = self.socket(pair, from ^ 1, |socket| socket.taken)
            == self.socket(pair, from, |socket| socket.sends);
        match stopped {
            Pumped::Drained => assert!(!flags.has(Flags::READABLE) && self.piped(pair, from) == 0),
            Pumped::Blocked => assert!(!to_flags.has(Flags::WRITABLE)),
            Pumped::Turn | Pumped::Starved => {
                assert!(self.pairs[pair].sides[from].wants_pumping(), "nobody would go on");
            }
            Pumped::Ended => {
                assert!(all_taken, "an end before the last byte");
                assert!(self.socket(pair, from, |socket| socket.over && !socket.is_reset()));
                self.pairs[pair].ended[from] = true;
            }
            Pumped::Reset if core::mem::take(&mut self.kernel.0.borrow_mut().torn) => {
                return self.end(pair);
            }
            Pumped::Reset => {
                assert!(all_taken, "what came before a reset is lost");
                assert!(self.socket(pair, from, Socket::is_reset));
                let reason = if self.lends[pair][from] { REASON as u8 } else { 0 };
                assert_eq!(self.pairs[pair].sides[from].reason, reason, "nobody would know why");
                return self.end(pair);
            }
            Pumped::Broken => {
                assert!(self.socket(pair, from ^ 1, Socket::is_reset));
                return self.end(pair);
            }
        }
        let read = self.socket(pair, from, |socket| socket.read);
        let taken = self.socket(pair, from ^ 1, |socket| socket.taken);
        assert_eq!(read, taken + self.piped(pair, from), "bytes were lost, or are elsewhere");
        assert_eq!(self.pairs[pair].sides[from].bytes, read as u64);
    }

    /// Bytes that wait in the pipe of a direction.
    fn piped(&self, pair: usize, side: usize) -> usize {
        match &self.pairs[pair].sides[side].stage {
            Stage::Connected(flow) => {
                assert_eq!(flow.pipe.is_some(), flow.bytes > 0, "a pipe held for nothing");
                let piped = flow.pipe.map_or(Some(0), |pipe| self.kernel.piped(pipe.read()));
                assert_eq!(piped, Some(flow.bytes as usize));
                flow.bytes as usize
            }
            stage => panic!("{stage:?}"),
        }
    }

    fn check(&self) {
        let pipes = &self.relay.pipes;
        for pipe in &pipes.empty {
            assert_eq!(self.kernel.piped(pipe.read()), Some(0), "the next client's bytes");
        }
        let all = || (0..PAIRS * 2).map(|n| (n / 2, n % 2));
        let held = all().filter(|&(pair, side)| self.piped(pair, side) > 0).count();
        assert_eq!(pipes.empty.len() + held, self.kernel.open_pipes(), "a pipe is lost");
        assert_eq!(pipes.open.pipes(), self.kernel.open_pipes());
        assert!(pipes.open.large <= pipes.limits.large && pipes.open.small <= pipes.limits.small);
        for (pair, side) in all() {
            let flags = self.pairs[pair].sides[side].flags;
            let unheard =
                self.socket(pair, side, |socket| socket.has_something() && !socket.read_event);
            assert!(
                !unheard || flags.any(Flags::READABLE.or(Flags::ENDED)),
                "bytes wait and nothing will tell of them"
            );
            let unheard =
                self.socket(pair, side, |socket| socket.has_room() && !socket.write_event);
            assert!(!unheard || flags.has(Flags::WRITABLE), "nothing will tell of room");
        }
    }

    /// Once all is well everything arrives, without a further fault and in a few turns.
    fn finish(&mut self) {
        self.to_come.clear();
        self.kernel.0.borrow_mut().clear_up();
        for _ in 0..50 {
            for (pair, side) in (0..PAIRS * 2).map(|n| (n / 2, n % 2)) {
                self.deliver(pair, side);
                self.pump(pair, side);
                self.check();
                self.kernel.0.borrow_mut().clear_up();
            }
            if self.pairs.iter().all(|pair| pair.ended == [true; 2]) {
                return;
            }
        }
        panic!("stuck");
    }
}

/// Relays all that is to come, at somebody's whim, and sees it through.
fn relay_all(
    whims: Whims,
    faults: Faults,
    limits: PipeLimits,
    lends: [[bool; 2]; PAIRS],
    to_come: Vec<Traffic>,
) {
    let kernel = Kernel::new(whims, faults);
    let mut buffer = std::vec![0; BUFFER_BYTES];
    let mut bench = Bench::new(&kernel, &mut buffer, limits, lends, to_come);
    while !kernel.0.borrow().whims.is_over() {
        kernel.0.borrow_mut().let_peers_act();
        let act = kernel.0.borrow_mut().whims.below(512);
        let (pair, side) = (act / 2 % PAIRS, act % 2);
        match act / (PAIRS * 2) {
            0 => bench.end(pair),
            1..=50 => bench.deliver(pair, side),
            _ => bench.pump(pair, side),
        }
        bench.check();
    }
    bench.finish();
    drop(bench);
    assert_eq!(kernel.open_pipes(), 0);
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "megabytes a case, and no unsafe code is involved")]
    fn bytes_in_are_bytes_out(
        faults in any_faults(),
        (large, small) in (0..3usize, 0..3usize),
        to_come in prop::collection::vec(any_traffic(), 2..20),
        (seed, draws) in (any::<u64>(), 0..20_000usize),
    ) {
        let limits = PipeLimits { large, small };
        relay_all(Whims::new(seed, draws), faults, limits, [[false; 2]; PAIRS], to_come);
    }

    /// From a descriptor to a channel, from a channel to a descriptor, from channel to channel.
    #[test]
    #[cfg_attr(miri, ignore = "megabytes a case, and no unsafe code is involved")]
    fn bytes_in_are_bytes_out_where_memory_is_lent(
        faults in any_faults(),
        lends in any::<[[bool; 2]; PAIRS]>(),
        to_come in prop::collection::vec(any_traffic(), 2..20),
        (seed, draws) in (any::<u64>(), 0..20_000usize),
    ) {
        let limits = PipeLimits { large: 1, small: 1 };
        relay_all(Whims::new(seed, draws), faults, limits, lends, to_come);
    }

    /// The kernel's memory never passes what it may be, and none of it is left unused.
    #[test]
    fn pipe_limits_stay_within_the_memory(
        connections in prop_oneof![0..PIPES_MAX, 0..20_000usize],
        bytes in 0..1usize << 30,
    ) {
        let limits = PipeLimits::of(connections, bytes);
        prop_assert!(limits.bytes() <= bytes && limits.pipes() <= (connections * 2).min(PIPES_MAX));
        let wanted = (connections * 2).min(PIPES_MAX);
        prop_assert!(limits.pipes() == wanted || bytes - limits.bytes() < SMALL_PIPE_BYTES);
    }
}
