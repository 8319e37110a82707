//! A proxy whose dests are connected outside it: a callback hands each target to a pool of threads,
//! which connect in their own way, blocking as they like, and complete the ticket.
//!
//! ```text
//! cargo run -p seaprox-examples --bin external_connect -- 127.0.0.1:8080 127.0.0.1:80 [CONNECTIONS]
//! ```
//!
//! With CONNECTIONS it ends after so many.

use seaprox::Seaprox;
use seaprox::completion::{Outcome, Ticket};
use seaprox::connector::External;
use seaprox::fail::FailReason;
use seaprox::share::Order;
use seaprox::sys::Linux;
use seaprox::transport::{Notice, Observer};
use seaprox::worker::{Options, Worker};
use seaprox_tcp::{AtEnd, ListenOptions, Listener};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

static PROXY: Seaprox<64, 1> = Seaprox::new();

const CONNECTORS: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(3);

/// Connects whatever it is handed.
fn connector(tickets: Arc<Mutex<Receiver<Ticket>>>, target: SocketAddr) {
    loop {
        let next = tickets.lock().expect("no connector panics").recv();
        let Ok(ticket) = next else { return };
        match TcpStream::connect_timeout(&target, TIMEOUT) {
            Ok(stream) => {
                let fd = stream.as_raw_fd();
                if PROXY.commons().complete(Linux, ticket, Outcome::Connected(fd)).is_ok() {
                    // It is the proxy's now. A stale ticket leaves it ours, to be closed here.
                    let _ = stream.into_raw_fd();
                }
            }
            Err(_) => {
                let failed = Outcome::Failed(FailReason::ConnectionRefused);
                let _ = PROXY.commons().complete(Linux, ticket, failed);
            }
        }
    }
}

/// Says what happens, and ends the proxy after so many connections.
struct Countdown(Option<usize>);

impl Observer for Countdown {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Connected(description) => println!("connected {description}"),
            Notice::Closed { description, source_bytes, dest_bytes, .. } => {
                println!("closed {description} {source_bytes} {dest_bytes}");
            }
            Notice::Refused { source, reason } => println!("refused {source}: {reason}"),
            Notice::Exhausted(errno) => println!("nothing is accepted for a while: {errno}"),
            Notice::LinkUp { .. } | Notice::LinkDown { .. } => unreachable!("there is no link"),
        }
        if let (Notice::Closed { .. } | Notice::Refused { .. }, Some(left)) = (notice, &mut self.0)
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                PROXY.commons().order(Linux, Order::Drain);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: external_connect LISTEN TARGET [CONNECTIONS]";
    let listen: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let target: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let connections = arguments.next().map(|n| n.parse()).transpose()?;

    let listener = seaprox_tcp::listen(listen, ListenOptions::default())?;
    let (sender, tickets) = sync_channel(64);
    let tickets = Arc::new(Mutex::new(tickets));
    for _ in 0..CONNECTORS {
        let tickets = Arc::clone(&tickets);
        std::thread::spawn(move || connector(tickets, target));
    }
    let connect = |ticket, ()| {
        // Never blocks: if the queue is full, the ticket fails at once.
        if sender.try_send(ticket).is_err() {
            let _ = PROXY.commons().complete(Linux, ticket, Outcome::Failed(FailReason::Other));
        }
    };
    let table = PROXY.claim(1, 64).and_then(|mut tables| tables.next()).ok_or("claimed twice")?;
    let mut worker = Worker::new(
        Linux,
        table,
        Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse),
        External::new(connect, TIMEOUT.as_millis() as u32),
        Countdown(connections),
        Options { proxy: "external", ..Options::default() },
    )?;
    worker.run()?;
    Ok(())
}
