//! A SOCKS 5 proxy on one thread, for anybody or for those whose names and passwords are in a file,
//! one `name:password` a line. It connects to whatever it is asked for, so let it listen on loopback.
//!
//! ```text
//! cargo run -p seaprox-examples --bin socks5 -- 127.0.0.1:1080 [PASSWORDS]
//! curl --socks5-hostname 127.0.0.1:1080 http://example.org
//! ```
//!
//! It ends when its stdin does, once the last connection is over.

use seaprox::Seaprox;
use seaprox::handshake::{Handshake, Handshaking, Seat};
use seaprox::share::Order;
use seaprox::sys::Linux;
use seaprox::transport::{Notice, Observer};
use seaprox::worker::{Options, Worker};
use seaprox_socks5::{Passwords, Socks5};
use seaprox_tcp::resolver::{self, Resolver};
use seaprox_tcp::{Allow, AtEnd, DialOptions, Dialer, ListenOptions, Listener, Places, Services};
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

const CONNECTIONS: usize = 256;

/// How long a client may take to say what it wants.
const HANDSHAKE_MILLIS: u32 = 10_000;

static PROXY: Seaprox<CONNECTIONS, 1> = Seaprox::new();
static RESOLVER: Resolver<64, CONNECTIONS> = Resolver::new();

/// The lines of the file; without a file nobody is asked.
struct Known(Option<String>);

impl Passwords for Known {
    fn asks(&self) -> bool {
        self.0.is_some()
    }

    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        let lines = self.0.iter().flat_map(|text| text.lines());
        let known = lines.filter_map(|line| line.split_once(':'));
        // All of them are looked at, and all of each, so that time tells nothing.
        known.fold(false, |found, (one, secret)| {
            let is_name = is_same(one.as_bytes(), name);
            found | (is_name & is_same(secret.as_bytes(), password))
        })
    }
}

fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    (one.len() == other.len()) & (std::hint::black_box(differences) == 0)
}

/// Whatever there is.
struct Anything;

impl Allow for Anything {
    fn permits_name(&self, _: &str, _: u16) -> bool {
        true
    }

    fn permits_address(&self, _: SocketAddr) -> bool {
        true
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
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = arguments.next().ok_or("usage: socks5 LISTEN [PASSWORDS]")?.parse()?;
    let passwords = arguments.next().map(std::fs::read_to_string).transpose()?;

    // All memory that the proxy itself takes.
    let seat = || Seat::new(Socks5::<Known>::VACANT);
    let mut seats: Vec<_> = (0..CONNECTIONS).map(|_| seat()).collect();
    let mut places = Box::new(Places::new());

    let listener = seaprox_tcp::listen(listen, ListenOptions::default())?;
    RESOLVER.start(
        PROXY.commons(),
        resolver::Options { threads: 2, prefer_ipv4: false, prepare: || {} },
    )?;
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        PROXY.commons().order(Linux, Order::Drain);
    });
    let source = Handshaking::new(
        Socks5(Known(passwords)),
        Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse),
        &mut seats,
        HANDSHAKE_MILLIS,
    );
    let chooser = Services::new(&[], Anything, &mut places);
    let dest = Dialer::choosing(Linux, &[], chooser, &RESOLVER, DialOptions::default());
    let mut tables = PROXY.claim(1, CONNECTIONS).ok_or("claimed twice")?;
    let table = tables.next().ok_or("one table for one thread")?;
    let options = Options { proxy: "socks5", ..Options::default() };
    Worker::new(Linux, table, source, dest, Printer, options)?.run()?;
    Ok(())
}
