//! A peer: both ends of a tunnel, whose channels are the streams of one yamux
//! connection over one TCP connection. Nothing is encrypted.

mod arguments;
mod yamux_ends;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::arguments::{Arguments, wrong};

/// Between two tries to reach the other end, which may just have been started.
const RETRY: Duration = Duration::from_millis(1);

/// How often that is tried.
const TRIES: usize = 5000;

/// The end that connects to the target for each channel.
async fn far(listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(yamux_ends::far(socket, target));
    }
}

/// The end that clients connect to. It ends with the link.
async fn near(listen: SocketAddr, other_end: SocketAddr) -> io::Result<()> {
    let socket = reach(other_end).await?;
    socket.set_nodelay(true)?;
    yamux_ends::near(socket, listen).await
}

async fn reach(addr: SocketAddr) -> io::Result<TcpStream> {
    for _ in 1..TRIES {
        match TcpStream::connect(addr).await {
            Ok(socket) => return Ok(socket),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
    TcpStream::connect(addr).await
}

/// `far LINK TARGET [THREADS]`, or `near LISTEN LINK [THREADS]`.
fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let end = words.next();
    let arguments = Arguments::parse(words)?;
    let Arguments { listen, target, .. } = arguments;
    match end.as_deref() {
        Some("far") => arguments.run(far(listen, target)),
        Some("near") => arguments.run(near(listen, target)),
        _ => Err(wrong("expected: far LINK TARGET [THREADS], or near LISTEN LINK [THREADS]")),
    }
}
