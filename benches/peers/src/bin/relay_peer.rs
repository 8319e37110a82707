//! What the peers that relay in one process share: the accept loop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::arguments::Arguments;

/// Listens, connects each client to the target and hands both to `relay`,
/// for ever.
pub(crate) fn run<R, F>(relay: R) -> io::Result<()>
where
    R: Fn(TcpStream, TcpStream) -> F + Copy + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    arguments.run(accept(arguments.listen, arguments.target, relay))
}

async fn accept<R, F>(listen: SocketAddr, target: SocketAddr, relay: R) -> io::Result<()>
where
    R: Fn(TcpStream, TcpStream) -> F + Copy + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind(listen).await?;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: wait for some to come back.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            if client.set_nodelay(true).is_ok() && server.set_nodelay(true).is_ok() {
                relay(client, server).await;
            }
        });
    }
}
