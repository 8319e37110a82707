//! A proxy whose dests are connected outside it. Clients say in SOCKS 5 where they want to go; a
//! callback hands each wish to a pool of threads, which look names up and connect in their own way,
//! blocking as they like, and complete the ticket.
//!
//! ```text
//! cargo run -p seaprox-examples --bin external_connect -- 127.0.0.1:1080
//! curl --socks5-hostname 127.0.0.1:1080 http://example.org
//! ```
//!
//! It connects to whatever it is asked for, so let it listen on loopback. It ends when its stdin does,
//! once the last connection is over.

use seaprox::Seaprox;
use seaprox::completion::{Outcome, Ticket};
use seaprox::connector::External;
use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, Handshaking, Seat};
use seaprox::share::Order;
use seaprox::sys::Linux;
use seaprox::transport::{Notice, Observer};
use seaprox::wanted::{Wanted, Wish};
use seaprox::worker::{Options, Worker};
use seaprox_socks5::Socks5;
use seaprox_tcp::{AtEnd, ListenOptions, Listener};
use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CONNECTIONS: usize = 64;

static PROXY: Seaprox<CONNECTIONS, 1> = Seaprox::new();

/// How many dests are connected at the same time; others wait.
const CONNECTORS: usize = 8;

/// How long one address may take.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// After how long a dest is given up, whatever its connector is doing.
const CONNECT_MILLIS: u32 = 10_000;

/// How long a client may take to say what it wants.
const HANDSHAKE_MILLIS: u32 = 10_000;

/// Connects whatever it is handed.
fn connector(wishes: &Mutex<Receiver<(Ticket, Wish)>>) {
    loop {
        let next = wishes.lock().expect("no connector panics").recv();
        let Ok((ticket, wish)) = next else { return };
        match connect(wish.wanted()) {
            Ok(stream) => {
                let outcome = Outcome::Connected(stream.as_raw_fd());
                if PROXY.commons().complete(Linux, ticket, outcome).is_ok() {
                    // It is the proxy's now. A stale ticket leaves it ours, to be closed here.
                    let _ = stream.into_raw_fd();
                }
            }
            Err(reason) => {
                let _ = PROXY.commons().complete(Linux, ticket, Outcome::Failed(reason));
            }
        }
    }
}

/// Tries all addresses, one after the other.
fn connect(wanted: Wanted<'_>) -> Result<TcpStream, FailReason> {
    let addresses: Vec<SocketAddr> = match wanted {
        Wanted::Inet(address) => vec![address],
        Wanted::Name(name, port) => {
            let name = str::from_utf8(name).map_err(|_| FailReason::NameResolution)?;
            let found = (name, port).to_socket_addrs();
            found.map_err(|_| FailReason::NameResolution)?.collect()
        }
        Wanted::Service(_) => return Err(FailReason::NoSuchService),
    };
    let mut reason = FailReason::NameResolution;
    for address in addresses {
        match TcpStream::connect_timeout(&address, ADDRESS_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = reason_of(error.kind()),
        }
    }
    Err(reason)
}

fn reason_of(kind: ErrorKind) -> FailReason {
    match kind {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => FailReason::ConnectionRefused,
        ErrorKind::TimedOut => FailReason::TimedOut,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => FailReason::Unreachable,
        _ => FailReason::Other,
    }
}

/// Says what happens.
struct Printer;

impl Observer for Printer {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Connected(description) => println!("connected {description}"),
            Notice::Closed { description, source_bytes, dest_bytes, .. } => {
                println!("closed {description} {source_bytes} {dest_bytes}");
            }
            Notice::Refused { source, reason, .. } => println!("refused {source}: {reason}"),
            Notice::Exhausted(errno) => println!("nothing is accepted for a while: {errno}"),
            Notice::LinkUp { .. } | Notice::LinkDown { .. } => unreachable!("there is no link"),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: external_connect LISTEN";
    let listen: SocketAddr = std::env::args().nth(1).ok_or(usage)?.parse()?;
    let listener = seaprox_tcp::listen(listen, ListenOptions::default())?;

    let (sender, wishes) = sync_channel(CONNECTIONS);
    let wishes = Arc::new(Mutex::new(wishes));
    for _ in 0..CONNECTORS {
        let wishes = Arc::clone(&wishes);
        std::thread::spawn(move || connector(&wishes));
    }
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        PROXY.commons().order(Linux, Order::Drain);
    });
    let connect = |ticket, wish| {
        // Never blocks: whoever was given up may still be in the queue.
        if sender.try_send((ticket, wish)).is_err() {
            let _ = PROXY.commons().complete(Linux, ticket, Outcome::Failed(FailReason::Other));
        }
    };
    let mut seats = [const { Seat::new(Socks5::<()>::VACANT) }; CONNECTIONS];
    let source = Handshaking::new(
        Socks5(()),
        Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse),
        &mut seats,
        HANDSHAKE_MILLIS,
    );
    let mut tables = PROXY.claim(1, CONNECTIONS).ok_or("claimed twice")?;
    let table = tables.next().ok_or("one table for one thread")?;
    let dest = External::new(connect, CONNECT_MILLIS);
    let options = Options { proxy: "external", ..Options::default() };
    Worker::new(Linux, table, source, dest, Printer, options)?.run()?;
    Ok(())
}
