//! A loop of one's own, without std: it waits for the worker and for something else.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use seaprox::share::Order;
use seaprox::sys::{Linux, SysResult};
use seaprox::transport::{Dest, Observer, Source};
use seaprox::worker::Worker;

/// Turns the worker until `until` is readable, and from then on until its last connection has ended.
///
/// # Errors
/// The kernel refuses to wait.
pub fn serve<S, D, O>(
    worker: &mut Worker<'_, Linux, S, D, O>,
    until: BorrowedFd<'_>,
) -> SysResult<()>
where
    S: Source<Linux>,
    D: Dest<Linux, S::Target>,
    O: Observer,
{
    let mut drains = false;
    loop {
        let limit = worker.timeout().map(|millis| Timespec {
            tv_sec: i64::from(millis / 1000),
            tv_nsec: i64::from(millis % 1000 * 1_000_000),
        });
        let own = worker.as_fd();
        let mut fds = [own, until].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // Readable it stays, so it is not asked again.
        let asked = if drains { 1 } else { 2 };
        match poll(&mut fds[..asked], limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if !fds[1].revents().is_empty() {
            drains = true;
            worker.table().commons().order(Linux, Order::Drain);
        }
        // It may not wait: that was done above.
        if !worker.turn_within(Some(0))? {
            return Ok(());
        }
    }
}
