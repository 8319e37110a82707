//! The parts of the simulated kernel put together: the descriptor table, the objects behind it, and
//! what every call begins and ends with. What each call does is in [`super::calls`].

use super::fault::{Call, Faults};
use super::network::Network;
use super::pipe::{PAGE, Pipe};
use super::poll::{self, Epoll, Mask};
use super::socket::Owner;
use crate::sys::{EVENTS_MAX, Errno, RawFd, SysEvent, SysResult};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;

/// What a descriptor stands for: an index into the kernel's objects of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Socket(usize),
    Listener(usize),
    Epoll(usize),
    Eventfd(usize),
    PipeRead(usize),
    PipeWrite(usize),
}

#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) object: Object,
    /// The epolls it is registered with, in that order: closing it leaves them.
    pub(super) watchers: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Traced {
    at_micros: u64,
    call: Call,
    fd: RawFd,
    argument: i64,
    result: Result<i64, Errno>,
}

/// What a wait does next.
pub(super) enum Step {
    Return(usize),
    /// Another worker has something to do.
    Interrupted,
    /// The test's clients and backends have something to do first.
    World,
}

/// Everything but the test's own world.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) seed: u64,
    pub(super) network: Network,
    pub(super) faults: Faults,
    pub(super) descriptors: Vec<Option<Descriptor>>,
    pub(super) descriptors_max: usize,
    pub(super) pipes: Vec<Pipe>,
    pub(super) epolls: Vec<Epoll>,
    pub(super) eventfds: Vec<u64>,
    /// The least (if there is as much) and the most a splice puts into one slot of a pipe.
    pub(super) slot_bytes: (usize, usize),
    /// The longest a call takes.
    pub(super) call_micros_max: usize,
    /// The epoll somebody sleeps in.
    pub(super) waiting: Option<usize>,
    pub(super) calls: u64,
    trace: VecDeque<Traced>,
    /// How many calls are kept to be shown when a seed fails.
    pub(super) trace_calls_max: usize,
    /// The socket of the last send.
    pub(super) sent_last: Option<usize>,
}

impl Kernel {
    pub(super) fn new(seed: u64, network: Network, faults: Faults) -> Kernel {
        Kernel {
            seed,
            network,
            faults,
            descriptors: Vec::new(),
            descriptors_max: 1024,
            pipes: Vec::new(),
            epolls: Vec::new(),
            eventfds: Vec::new(),
            slot_bytes: (PAGE, PAGE),
            call_micros_max: 0,
            waiting: None,
            calls: 0,
            trace: VecDeque::new(),
            trace_calls_max: 100,
            sent_last: None,
        }
    }

    /// What every call begins with: time passes, what is due happens, and perhaps a fault.
    pub(super) fn enter(&mut self, call: Call, fds: [RawFd; 2]) -> SysResult<()> {
        self.calls += 1;
        let random = &mut self.network.random;
        let mut micros = random.below(self.call_micros_max + 1);
        if random.chance(self.faults.stall_chance) {
            micros += random.scaled(8_000_000);
        }
        self.network.now_micros += micros as u64;
        self.settle();
        let Some(errno) = self.faults.draw(call, &mut self.network.random) else { return Ok(()) };
        for fd in fds {
            if let Some(Object::Socket(socket)) = self.open_object(fd) {
                self.network.sockets[socket].spoiled = true;
                if errno == Errno::AGAIN {
                    // Linux never says so without telling of room later.
                    self.network.want_room(socket);
                }
            }
        }
        Err(errno)
    }

    /// Lets happen what is due, and passes the wake-ups on.
    pub(super) fn settle(&mut self) {
        self.network.run();
        for (fd, key) in core::mem::take(&mut self.network.wakes) {
            self.wake(fd, key);
        }
    }

    /// Queues a descriptor with the epolls that watch it. Of several that share a listener the
    /// first that somebody sleeps in is the last to hear of it (EPOLLEXCLUSIVE).
    pub(super) fn wake(&mut self, fd: RawFd, key: Mask) {
        let Some(Some(descriptor)) = self.descriptors.get(fd as usize) else { return };
        for &epoll in &descriptor.watchers {
            let queued = self.epolls[epoll].wake(fd, key);
            let exclusive = matches!(descriptor.object, Object::Listener(_));
            if queued && exclusive && self.waiting == Some(epoll) {
                break;
            }
        }
    }

    /// What is ready of a descriptor.
    pub(super) fn mask(
        descriptors: &[Option<Descriptor>],
        network: &mut Network,
        eventfds: &[u64],
        fd: RawFd,
    ) -> Mask {
        match descriptors[fd as usize].as_ref().map(|descriptor| descriptor.object) {
            Some(Object::Socket(socket)) => network.sockets[socket].mask(),
            Some(Object::Listener(listener)) => network.listeners[listener].mask(),
            Some(Object::Eventfd(eventfd)) if eventfds[eventfd] == 0 => poll::OUT,
            Some(Object::Eventfd(_)) => poll::IN | poll::OUT,
            _ => 0,
        }
    }

    /// Gives an object the lowest free number, as Linux does, so that a stale number hits the next
    /// owner.
    pub(super) fn open(&mut self, object: Object) -> RawFd {
        let fd = self.lowest_free();
        if self.descriptors.len() <= fd {
            self.descriptors.resize_with(fd + 1, || None);
        }
        self.descriptors[fd] = Some(Descriptor { object, watchers: Vec::new() });
        fd as RawFd
    }

    fn lowest_free(&self) -> usize {
        let vacant = |fd: &usize| self.descriptors.get(*fd).is_none_or(Option::is_none);
        (3..).find(vacant).unwrap_or(usize::MAX)
    }

    /// Whether `wanted` more descriptors may be opened.
    pub(super) fn check_room(&self, wanted: usize) -> SysResult<()> {
        let open = self.descriptors.iter().flatten().count();
        if open + wanted > self.descriptors_max { Err(Errno::MFILE) } else { Ok(()) }
    }

    pub(super) fn open_object(&self, fd: RawFd) -> Option<Object> {
        let descriptor = usize::try_from(fd).ok().and_then(|fd| self.descriptors.get(fd))?;
        descriptor.as_ref().map(|descriptor| descriptor.object)
    }

    /// What `fd` stands for; a number that is not open is a bug of the caller.
    pub(super) fn object(&self, fd: RawFd) -> Object {
        match self.open_object(fd) {
            Some(object) => object,
            None => self.violation("a descriptor that is not open", fd),
        }
    }

    pub(super) fn socket_of(&self, fd: RawFd) -> usize {
        match self.object(fd) {
            Object::Socket(socket) => socket,
            _ => self.violation("not a socket", fd),
        }
    }

    pub(super) fn listener_of(&self, fd: RawFd) -> usize {
        match self.object(fd) {
            Object::Listener(listener) => listener,
            _ => self.violation("not a listener", fd),
        }
    }

    pub(super) fn epoll_of(&self, fd: RawFd) -> usize {
        match self.object(fd) {
            Object::Epoll(epoll) => epoll,
            _ => self.violation("not an epoll", fd),
        }
    }

    /// The engine did what it must never do.
    pub(super) fn violation(&self, what: &str, fd: RawFd) -> ! {
        panic!("{what}: {fd}, seed {}\n{}", self.seed, self.trace())
    }

    pub(super) fn record(
        &mut self,
        call: Call,
        fd: RawFd,
        argument: i64,
        result: Result<i64, Errno>,
    ) {
        if self.trace.len() >= self.trace_calls_max {
            self.trace.pop_front();
        }
        let at_micros = self.network.now_micros;
        self.trace.push_back(Traced { at_micros, call, fd, argument, result });
    }

    /// The last calls, one a line.
    pub(super) fn trace(&self) -> String {
        let mut text = String::new();
        for traced in &self.trace {
            let (millis, micros) = (traced.at_micros / 1000, traced.at_micros % 1000);
            let (call, fd, argument) = (traced.call, traced.fd, traced.argument);
            let _ = write!(text, "{millis}.{micros:03} ms {call:?}({fd}, {argument}) = ");
            let _ = match traced.result {
                Ok(value) => writeln!(text, "{value}"),
                Err(errno) => writeln!(text, "{errno:?}"),
            };
        }
        text
    }

    pub(super) fn close(&mut self, fd: RawFd) {
        let object = self.object(fd);
        let descriptor = self.descriptors[fd as usize].take();
        for epoll in descriptor.into_iter().flat_map(|descriptor| descriptor.watchers) {
            let _ = self.epolls[epoll].delete(fd);
        }
        match object {
            Object::Socket(socket) => {
                self.network.close(socket);
            }
            Object::Listener(listener) => self.network.close_listener(listener),
            Object::PipeRead(pipe) | Object::PipeWrite(pipe) => {
                self.pipes[pipe].ends -= 1;
                if self.pipes[pipe].ends == 0 {
                    self.pipes[pipe] = Pipe::new(0);
                }
            }
            Object::Epoll(epoll) => {
                self.epolls[epoll] = Epoll::new();
                for descriptor in self.descriptors.iter_mut().flatten() {
                    descriptor.watchers.retain(|&watcher| watcher != epoll);
                }
            }
            Object::Eventfd(_) => {}
        }
    }

    /// Makes a socket the engine's; its number is known only then.
    pub(super) fn open_socket(&mut self, socket: usize) -> RawFd {
        let fd = self.open(Object::Socket(socket));
        self.network.sockets[socket].owner = Owner::Descriptor(fd);
        fd
    }

    /// A fault: something is reported that did not happen.
    pub(super) fn imagine_event(&mut self, epoll: RawFd) {
        if self.network.random.chance(self.faults.spurious_chance) {
            let epoll = self.epoll_of(epoll);
            let n = self.network.random.below(1 << 20);
            let mask = self.network.random.pick(&[0, poll::IN]);
            self.epolls[epoll].wake_for_nothing(n, mask);
        }
    }

    /// Waits by letting time pass, from one happening to the next. Where nothing can ever happen it
    /// returns 0, so that a test is not stuck with the engine. Of several workers that take turns
    /// on one thread, time passes only when all of them sleep.
    pub(super) fn wait(
        &mut self,
        epoll: RawFd,
        events: &mut [SysEvent; EVENTS_MAX],
        deadline: Option<u64>,
        world_due: Option<u64>,
    ) -> Step {
        let epoll = self.epoll_of(epoll);
        self.waiting = Some(epoll);
        self.epolls[epoll].asleep_until = None;
        loop {
            self.settle();
            let now = self.network.now_micros;
            if let Some(due) = world_due
                && (self.network.untold || due <= now)
            {
                return Step::World;
            }
            let Kernel { epolls, descriptors, network, eventfds, .. } = self;
            let filled = epolls[epoll]
                .collect(events, |fd| Kernel::mask(descriptors, network, eventfds, fd));
            let others = epolls.iter().enumerate().filter(|(other, _)| *other != epoll);
            let blocks = filled == 0 && deadline.is_none_or(|deadline| now < deadline);
            if blocks && others.clone().any(|(_, other)| other.wants_to_run(now)) {
                epolls[epoll].asleep_until = Some(deadline.unwrap_or(u64::MAX));
                self.waiting = None;
                return Step::Interrupted;
            }
            let next = [network.next_micros(), deadline, world_due].into_iter().flatten();
            let next = next.chain(others.filter_map(|(_, other)| other.asleep_until));
            match next.filter(|&at| at != u64::MAX).min() {
                Some(next) if blocks => {
                    // A wait that nothing delays still takes its microsecond.
                    self.network.now_micros = next.max(now);
                }
                _ => {
                    self.waiting = None;
                    self.network.now_micros += 1;
                    return Step::Return(filled);
                }
            }
        }
    }

    /// accept(2) that fails because the client is gone.
    pub(super) fn abort_waiting(&mut self, listener: RawFd) {
        if let Object::Listener(listener) = self.object(listener)
            && let Ok(socket) = self.network.accept(listener, Owner::Queue)
        {
            self.network.sockets[socket].spoiled = true;
            self.network.sockets[socket].reset_on_close = true;
            self.network.close(socket);
        }
    }
}
