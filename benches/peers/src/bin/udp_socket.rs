//! A UDP socket with buffers for all that may be on its way: where it has none,
//! a burst over loopback is lost for want of them, and who has no congestion
//! control never recovers.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt;

/// More than 2048 datagrams, as the kernel counts them.
const BYTES: usize = 8 * 1024 * 1024;

/// Of that size for root, of the size the kernel allows for others.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, BYTES)?;
    }
    sockopt::set_socket_send_buffer_size(&socket, BYTES)?;
    Ok(socket)
}
