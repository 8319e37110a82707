//! An HTTP proxy for CONNECT on one thread, to ports of TLS alone, wherever they are. Nobody is asked for a
//! password, so let it listen on loopback.
//!
//! ```text
//! cargo run -p seaprox-examples --bin http_connect -- 127.0.0.1:3128 [PORT..]
//! curl --proxy http://127.0.0.1:3128 https://example.org
//! ```
//!
//! It ends when its stdin does, once the last connection is over.

use seaprox::Seaprox;
use seaprox::handshake::{Handshake, Handshaking, Seat};
use seaprox::share::Order;
use seaprox::sys::Linux;
use seaprox::transport::{Notice, Observer};
use seaprox::worker::{Options, Worker};
use seaprox_http_connect::HttpConnect;
use seaprox_tcp::resolver::{self, Resolver};
use seaprox_tcp::{Allow, AtEnd, DialOptions, Dialer, ListenOptions, Listener, Places, Services};
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

const CONNECTIONS: usize = 256;

/// How long a client may take to say what it wants.
const HANDSHAKE_MILLIS: u32 = 10_000;

/// Where servers of TLS are, if no port is given.
const HTTPS_PORT: u16 = 443;

static PROXY: Seaprox<CONNECTIONS, 1> = Seaprox::new();
static RESOLVER: Resolver<64, CONNECTIONS> = Resolver::new();

/// Some ports, wherever they are. A name must look like one: what the C library takes for an address
/// (`127.1`) ends in a number.
struct Ports(Vec<u16>);

impl Allow for Ports {
    fn permits_name(&self, name: &str, port: u16) -> bool {
        let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        self.0.contains(&port) && last.starts_with(|first: char| first.is_ascii_alphabetic())
    }

    fn permits_address(&self, address: SocketAddr) -> bool {
        self.0.contains(&address.port())
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
    let listen: SocketAddr =
        arguments.next().ok_or("usage: http_connect LISTEN [PORT..]")?.parse()?;
    let mut ports = arguments.map(|port| port.parse()).collect::<Result<Vec<u16>, _>>()?;
    if ports.is_empty() {
        ports.push(HTTPS_PORT);
    }

    // All memory that the proxy itself takes.
    let seat = || Seat::new(HttpConnect::<()>::VACANT);
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
        HttpConnect(()),
        Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse),
        &mut seats,
        HANDSHAKE_MILLIS,
    );
    let chooser = Services::new(&[], Ports(ports), &mut places);
    let dest = Dialer::choosing(Linux, &[], chooser, &RESOLVER, DialOptions::default());
    let mut tables = PROXY.claim(1, CONNECTIONS).ok_or("claimed twice")?;
    let table = tables.next().ok_or("one table for one thread")?;
    let options = Options { proxy: "http", ..Options::default() };
    Worker::new(Linux, table, source, dest, Printer, options)?.run()?;
    Ok(())
}
