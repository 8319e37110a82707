//! A peer: both ends of a tunnel, whose channels are the streams of one yamux
//! connection over one TCP connection. Nothing is encrypted.

mod arguments;

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode, Stream};

use crate::arguments::{Arguments, wrong};

/// The default is 512, too few for the idle channels. This many is the most
/// that the default total window of 1 GiB allows: 256 KiB each, which is where
/// a window starts. The rest of the configuration is the default.
const CHANNELS_MAX: usize = 4096;

/// Bytes copied at a time: as many as yamux puts into one frame. Tokio's 8 KiB
/// make twice as many frames, and a byte costs half as much CPU again.
const COPY: usize = 16 * 1024;

/// Between two tries to reach the other end, which may just have been started.
const RETRY: Duration = Duration::from_millis(1);

/// How often that is tried.
const TRIES: usize = 5000;

/// One end of the link.
type Link = Connection<Compat<TcpStream>>;

fn link(socket: TcpStream, mode: Mode) -> io::Result<Link> {
    socket.set_nodelay(true)?;
    let mut config = Config::default();
    config.set_max_num_streams(CHANNELS_MAX);
    Ok(Connection::new(socket.compat(), config, mode))
}

async fn relay(mut socket: TcpStream, channel: Stream) {
    if socket.set_nodelay(true).is_ok() {
        let mut channel = channel.compat();
        // Either end may reset at any time; a tunnel carries on.
        let _ = copy_bidirectional_with_sizes(&mut socket, &mut channel, COPY, COPY).await;
    }
}

/// The end that connects to the target for each channel.
async fn far(listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let mut link = link(socket, Mode::Server)?;
        tokio::spawn(async move {
            while let Some(Ok(channel)) = poll_fn(|task| link.poll_next_inbound(task)).await {
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        relay(server, channel).await;
                    }
                });
            }
        });
    }
}

/// The end that clients connect to. It ends with the link.
async fn near(listen: SocketAddr, other_end: SocketAddr) -> io::Result<()> {
    let link = link(reach(other_end).await?, Mode::Client)?;
    let listener = TcpListener::bind(listen).await?;
    let mut near = Near { link, listener, client: None };
    Err(poll_fn(|task| near.poll(task)).await)
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

struct Near {
    link: Link,
    listener: TcpListener,
    /// Accepted, and waiting for a channel.
    client: Option<TcpStream>,
}

impl Near {
    /// Moves the link's bytes and opens a channel for each client, until one of
    /// the two fails.
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            match self.link.poll_next_inbound(task) {
                Poll::Pending => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(io::Error::other(error)),
                // The other end opens no channels.
                Poll::Ready(_) => return Poll::Ready(ErrorKind::ConnectionAborted.into()),
            }
            if self.client.is_none() {
                match self.listener.poll_accept(task) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok((client, _))) => self.client = Some(client),
                    // The client has left again already.
                    Poll::Ready(Err(error)) if error.kind() == ErrorKind::ConnectionAborted => {
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(error),
                }
            }
            match self.link.poll_new_outbound(task) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(channel)) => {
                    if let Some(client) = self.client.take() {
                        tokio::spawn(relay(client, channel));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(io::Error::other(error)),
            }
        }
    }
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
