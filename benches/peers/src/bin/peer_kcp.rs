//! A peer: both ends of a tunnel, whose channels are the streams of one yamux
//! connection over one KCP session over UDP. Nothing is encrypted.

mod arguments;
mod udp_socket;
mod yamux_ends;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

use crate::arguments::{Arguments, wrong};

/// In datagrams. More than kcptun's 128 and 512, or the path's delay would set
/// the rate: 2.8 MB are on their way at most, 57 MB/s at 50 ms.
const WINDOW: u16 = 2048;

/// What KCP is used for: everything for latency, and no congestion control.
fn config() -> KcpConfig {
    KcpConfig {
        nodelay: KcpNoDelayConfig::fastest(),
        wnd_size: (WINDOW, WINDOW),
        flush_write: true,
        stream: true,
        ..KcpConfig::default()
    }
}

/// The end that connects to the target for each channel.
async fn far(listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::from_std(udp_socket::bind(listen)?)?;
    let mut listener = KcpListener::from_socket(config(), socket).await?;
    loop {
        let (session, _) = listener.accept().await?;
        tokio::spawn(yamux_ends::far(session, target));
    }
}

/// The end that clients connect to. It ends with the session.
async fn near(listen: SocketAddr, other_end: SocketAddr) -> io::Result<()> {
    let any = (Ipv4Addr::UNSPECIFIED, 0).into();
    let socket = UdpSocket::from_std(udp_socket::bind(any)?)?;
    let session = KcpStream::connect_with_socket(&config(), socket, other_end).await?;
    yamux_ends::near(session, listen).await
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
