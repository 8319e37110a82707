//! A kernel in memory, for tests: it answers the engine's system calls as Linux would, with a
//! clock that only moves when somebody waits, faults, and everything drawn from one seed. So a
//! test drives the very worker that runs in earnest through a bad year in a millisecond, and a
//! failing seed fails again.
//!
//! What the engine may rely on is modelled after what Linux was seen to do, and each such thing has
//! a test below that names it. Not modelled: unix sockets, threads, and faults that no kernel has
//! (a short read with bytes left over, an EAGAIN that no edge follows).
//!
//! ```
//! use seaprox::sim::{Place, SimKernel};
//! use seaprox::sys::{Interest, Sys};
//!
//! let sim = SimKernel::calm(1);
//! let at = "127.0.0.1:8080".parse().unwrap();
//! let listener = sim.listen(at, 16);
//! let client = sim.client_connect(at);
//! sim.advance(1);
//! let (fd, _) = Sys::accept(&sim, listener).unwrap();
//! client.send(&sim, b"hello").unwrap();
//! sim.advance(1);
//! let mut buffer = [0; 16];
//! assert_eq!(Sys::recv(&sim, fd, &mut buffer), Ok(5));
//! ```

mod caller;
mod calls;
mod far_end;
mod fault;
mod kernel;
mod moves;
mod network;
pub mod parts;
mod pipe;
mod poll;
mod random;
mod socket;
#[cfg(test)]
mod tests;
mod weather;

pub use caller::{Caller, Dialed};
pub use far_end::FarEnd;
pub use fault::Call;
pub use network::Place;
pub use random::Random;

use crate::sys::{Errno, RawFd};
use crate::time::Instant;
use core::cell::RefCell;
use core::net::SocketAddr;
use fault::Faults;
use kernel::{Kernel, Object};
use network::Network;
use socket::Owner;
use std::boxed::Box;
use std::string::String;
use weather::Weather;

/// The clients and backends of a test, as one function: it is called while the engine waits,
/// whenever something reached a far end or the instant it last asked for has come.
pub type World<'w> = Box<dyn FnMut(&SimKernel<'w>) -> Option<Instant> + 'w>;

struct Installed<'w> {
    /// `None` while it runs.
    world: Option<World<'w>>,
    /// When it wants to be called, in microseconds; `u64::MAX` for only when there is news.
    due: u64,
}

/// The simulated kernel; `&SimKernel` is a [`crate::sys::Sys`].
pub struct SimKernel<'w> {
    kernel: RefCell<Kernel>,
    installed: RefCell<Option<Installed<'w>>>,
}

impl<'w> SimKernel<'w> {
    /// A kernel without faults: fast, regular, buffers of 64 KiB, pages of 4 KiB in pipe slots.
    /// Nothing happens but in [`SimKernel::advance`] or in a wait.
    pub fn calm(seed: u64) -> SimKernel<'w> {
        let network = Network::new(1_000_000, Random::new(seed), Weather::calm());
        SimKernel::of(Kernel::new(seed, network, Faults::none()))
    }

    /// The kernel of a seed, with its faults, delays and sizes.
    pub fn new(seed: u64) -> SimKernel<'w> {
        let mut random = Random::new(seed);
        let faults = Faults::swarm(&mut random);
        let weather = Weather::swarm(&mut random);
        // Sometimes 32 bits of milliseconds run over on the way.
        let wrap_micros = (1u64 << 32) * 1000 - 3_000_000;
        let now_micros = random.pick(&[1_000_000, 1_000_000, 1_000_000, wrap_micros]);
        let slot_bytes = (1, random.pick(&[64, 4096, 32_768]));
        let call_micros_max = random.pick(&[0, 2, 30, 2000]);
        let mut kernel = Kernel::new(seed, Network::new(now_micros, random, weather), faults);
        kernel.slot_bytes = slot_bytes;
        kernel.call_micros_max = call_micros_max;
        SimKernel::of(kernel)
    }

    fn of(kernel: Kernel) -> SimKernel<'w> {
        SimKernel { kernel: RefCell::new(kernel), installed: RefCell::new(None) }
    }

    /// The engine's listening socket.
    pub fn listen(&self, at: SocketAddr, backlog: usize) -> RawFd {
        let kernel = &mut *self.kernel.borrow_mut();
        let listener = kernel.network.listeners.len();
        let fd = kernel.open(Object::Listener(listener));
        kernel.network.listen(at, backlog, Owner::Descriptor(fd));
        fd
    }

    /// What a connect to `at` meets from now on; anywhere else it is refused.
    pub fn place(&self, at: SocketAddr, place: Place) {
        self.kernel.borrow_mut().network.script(at, place);
    }

    /// A client connects.
    pub fn client_connect(&self, to: SocketAddr) -> FarEnd {
        let kernel = &mut *self.kernel.borrow_mut();
        let socket = kernel.network.socket(Owner::FarEnd);
        // EINPROGRESS, or an address that was scripted to be unreachable: then it never connects.
        let _ = kernel.network.connect(socket, to);
        kernel.settle();
        FarEnd(socket)
    }

    /// The next connection in the queue of a [`Place::Listening`].
    pub fn backend_accept(&self, at: SocketAddr) -> Option<FarEnd> {
        let network = &mut self.kernel.borrow_mut().network;
        let listener = network.listener_at(at)?;
        network.accept(listener, Owner::FarEnd).ok().map(FarEnd)
    }

    /// Lets time pass.
    pub fn advance(&self, millis: u32) {
        let kernel = &mut *self.kernel.borrow_mut();
        let until = kernel.network.now_micros + u64::from(millis) * 1000;
        while let Some(next) = kernel.network.next_micros()
            && next <= until
        {
            kernel.network.now_micros = next.max(kernel.network.now_micros);
            kernel.settle();
        }
        kernel.network.now_micros = until;
    }

    /// The test's clients and backends act in `world` from now on.
    pub fn set_world(&self, world: World<'w>) {
        *self.installed.borrow_mut() = Some(Installed { world: Some(world), due: 0 });
    }

    fn world_due(&self) -> Option<u64> {
        self.installed.borrow().as_ref().map(|installed| installed.due)
    }

    /// Calls the world, which is free to use the kernel meanwhile.
    fn turn_world(&self) {
        let world = self.installed.borrow_mut().as_mut().and_then(|i| i.world.take());
        let Some(mut world) = world else { return };
        self.kernel.borrow_mut().network.untold = false;
        let due = world(self).map_or(u64::MAX, |at| at.as_millis() * 1000);
        // It may not ask for the past: time would stand still.
        let due = due.max(self.kernel.borrow().network.now_micros + 1);
        if let Some(installed) = &mut *self.installed.borrow_mut() {
            (installed.world, installed.due) = (Some(world), due);
        }
    }

    /// The next far end that something reached since it was last asked for; each once. Clients that
    /// wait to be accepted are not told of.
    pub fn news(&self) -> Option<FarEnd> {
        let network = &mut self.kernel.borrow_mut().network;
        let socket = network.news.pop_front()?;
        network.sockets[socket].told = false;
        Some(FarEnd(socket))
    }

    /// The `n`th call of this kind from now, counted from 1, fails with `errno`.
    pub fn fail_nth(&self, call: Call, n: u32, errno: Errno) {
        self.kernel.borrow_mut().faults.script(call, n, errno);
    }

    /// Whether a call that was to fail has not been made yet.
    pub fn awaits_failure(&self) -> bool {
        self.kernel.borrow().faults.awaits_scripted()
    }

    /// At most this many descriptors are open at a time (RLIMIT_NOFILE).
    pub fn limit_descriptors(&self, descriptors_max: usize) {
        self.kernel.borrow_mut().descriptors_max = descriptors_max;
    }

    /// The faults of this seed end: from now on every call succeeds that can, and that no
    /// [`SimKernel::fail_nth`] concerns.
    pub fn calm_down(&self) {
        let kernel = &mut *self.kernel.borrow_mut();
        kernel.faults.end();
        kernel.network.weather.loss_chance = 0;
    }

    /// How many clients wait in the queue of the engine's listener at `at`.
    pub fn waiting_clients(&self, at: SocketAddr) -> usize {
        let network = &self.kernel.borrow().network;
        network.listener_at(at).map_or(0, |listener| network.listeners[listener].queue.len())
    }

    /// How many descriptors the engine has open.
    pub fn open_descriptors(&self) -> usize {
        self.kernel.borrow().descriptors.iter().flatten().count()
    }

    /// How many faults were given so far that may end a connection, whatever the engine does.
    pub fn fatal_faults(&self) -> u64 {
        self.kernel.borrow().faults.fatal
    }

    /// How many calls the engine made: if it grows and nothing else does, the engine spins.
    pub fn calls(&self) -> u64 {
        self.kernel.borrow().calls
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.kernel.borrow().seed
    }

    /// Keeps so many calls for [`SimKernel::trace`] instead of a hundred.
    pub fn trace_calls(&self, calls_max: usize) {
        self.kernel.borrow_mut().trace_calls_max = calls_max;
    }

    /// The last calls, one a line: for the report of a failing seed.
    pub fn trace(&self) -> String {
        self.kernel.borrow().trace()
    }

    /// A number of the run's own stream below `end`, for a test that wants to draw too.
    pub fn draw(&self, end: usize) -> usize {
        self.kernel.borrow_mut().network.random.below(end)
    }
}
