//! The client's end of a connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire::GREETING_BYTES;

/// How long any one call may wait.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects, with a limit on every later wait.
pub(crate) fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends a message of at most [`GREETING_BYTES`] and waits for as much to come
/// back.
pub(crate) fn exchange(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    let mut reply = [0; GREETING_BYTES];
    stream.write_all(message)?;
    stream.read_exact(&mut reply[..message.len()])
}
