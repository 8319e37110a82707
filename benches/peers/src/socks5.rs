//! The client's side of SOCKS 5 (RFC 1928): a set-up without a password, to an IPv4 address.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// What a client says first, and what it is told.
pub(crate) const GREETING: [u8; 3] = [5, 1, 0];
pub(crate) const METHOD: [u8; 2] = [5, 0];

/// How long the request is, and what it is answered with.
pub(crate) const REQUEST_BYTES: usize = 10;

/// CONNECT.
pub(crate) fn request(to: SocketAddr) -> io::Result<[u8; REQUEST_BYTES]> {
    let SocketAddr::V4(v4) = to else {
        return Err(io::Error::other(format!("{to} is not IPv4")));
    };
    let mut request = [5, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    request[4..8].copy_from_slice(&v4.ip().octets());
    request[8..].copy_from_slice(&v4.port().to_be_bytes());
    Ok(request)
}

/// Whether an answer to the request says that all is well.
pub(crate) fn is_success(reply: &[u8]) -> bool {
    reply.len() == REQUEST_BYTES && reply.starts_with(&[5, 0])
}

/// Says what is wanted, and waits until it is there.
pub(crate) fn set_up(mut stream: &TcpStream, to: SocketAddr) -> io::Result<()> {
    stream.write_all(&GREETING)?;
    let mut method = [0; METHOD.len()];
    stream.read_exact(&mut method)?;
    stream.write_all(&request(to)?)?;
    let mut reply = [0; REQUEST_BYTES];
    stream.read_exact(&mut reply)?;
    match method == METHOD && is_success(&reply) {
        true => Ok(()),
        false => Err(io::Error::other(format!("refused: {reply:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_where_to_and_an_answer_whether() {
        let request = request("127.0.0.1:4660".parse().unwrap()).unwrap();
        assert_eq!(request, [5, 1, 0, 1, 127, 0, 0, 1, 0x12, 0x34]);
        assert!(super::request("[::1]:80".parse().unwrap()).is_err());
        assert!(is_success(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
        assert!(!is_success(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]) && !is_success(&[5, 0]));
    }
}
