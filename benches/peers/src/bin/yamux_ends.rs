//! Both ends of a tunnel whose channels are the streams of one yamux connection, over whatever
//! carries bytes in order. Nothing is encrypted.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode, Stream};

/// The default is 512, too few for the idle channels. The rest of the
/// configuration is the default, but for the next one.
const CHANNELS_MAX: usize = 4096;

/// All windows together. Of the default of 1 GiB so many channels leave
/// nothing: 256 KiB each, where a window starts, are set aside for all that
/// there may be, and none could grow. This leaves as much as the default does.
const WINDOWS_BYTES: usize = 2 << 30;

/// Bytes copied at a time: as many as yamux puts into one frame. Tokio's 8 KiB
/// make twice as many frames, and a byte costs half as much CPU again.
const COPY: usize = 16 * 1024;

/// What carries the bytes.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Carrier for T {}

/// One end of the link.
type Link<T> = Connection<Compat<T>>;

fn link<T: Carrier>(carrier: T, mode: Mode) -> Link<T> {
    let mut config = Config::default();
    config.set_max_connection_receive_window(Some(WINDOWS_BYTES)).set_max_num_streams(CHANNELS_MAX);
    Connection::new(carrier.compat(), config, mode)
}

async fn relay(mut socket: TcpStream, channel: Stream) {
    if socket.set_nodelay(true).is_ok() {
        let mut channel = channel.compat();
        // Either end may reset at any time; a tunnel carries on.
        let _ = copy_bidirectional_with_sizes(&mut socket, &mut channel, COPY, COPY).await;
    }
}

/// Connects to the target for each channel of a link, until the link ends.
pub(crate) async fn far<T: Carrier>(carrier: T, target: SocketAddr) {
    let mut link = link(carrier, Mode::Server);
    while let Some(Ok(channel)) = poll_fn(|task| link.poll_next_inbound(task)).await {
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(target).await {
                relay(server, channel).await;
            }
        });
    }
}

/// Takes clients, each with a channel of its own. It ends with the link.
pub(crate) async fn near<T: Carrier>(carrier: T, listen: SocketAddr) -> io::Result<()> {
    let link = link(carrier, Mode::Client);
    let listener = TcpListener::bind(listen).await?;
    let mut near = Near { link, listener, client: None };
    Err(poll_fn(|task| near.poll(task)).await)
}

struct Near<T> {
    link: Link<T>,
    listener: TcpListener,
    /// Accepted, and waiting for a channel.
    client: Option<TcpStream>,
}

impl<T: Carrier> Near<T> {
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
