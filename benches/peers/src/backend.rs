//! The backend: this same program in a process of its own, one event loop,
//! behind every proxy of a run.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;

use crate::lifecycle::{self, Owned};
use crate::sys::{self, Epoll};
use crate::wire::Behaviour;

/// The first argument that makes this program a backend; its listener is stdin.
pub(crate) const ROLE: &str = "--be-the-backend";

/// The first argument that makes it one at the address that follows: a peer, which
/// does nothing but echo.
pub(crate) const ECHO_ROLE: &str = "--be-an-echo";

/// One send of a source.
const BLOCK_BYTES: usize = 128 * 1024;

/// A running backend.
pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    _process: Owned,
}

impl Backend {
    /// Starts one on a port of its own; it runs where the calling thread may.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = lifecycle::bind_free_port()?;
        sys::widen_backlog(&listener)?;
        let addr = listener.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ROLE).stdin(Stdio::from(OwnedFd::from(listener)));
        Ok(Self { addr, _process: Owned::spawn(&mut command, sys::SIGTERM)? })
    }
}

/// The backend's whole life.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    sys::raise_open_files()?;
    Server::new(listener)?.run()
}

/// The same at an address.
pub(crate) fn serve_at(at: &str) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    sys::widen_backlog(&listener)?;
    sys::raise_open_files()?;
    Server::new(listener)?.run()
}

struct Connection {
    stream: TcpStream,
    behaviour: Option<Behaviour>,
}

/// What becomes of a connection after an event.
enum Next {
    Keep,
    Close,
    /// Leaves the event loop for a thread of its own.
    Alone,
}

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    /// By descriptor number, which is also the event's token.
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new()?;
        epoll.add(&listener, listener.as_raw_fd() as usize, sys::READABLE)?;
        Ok(Self { listener, epoll, connections: Vec::new(), buffer: vec![0; BLOCK_BYTES] })
    }

    fn run(&mut self) -> io::Result<()> {
        let listener = self.listener.as_raw_fd() as usize;
        loop {
            for index in 0..self.epoll.wait(None)? {
                match self.epoll.token(index) {
                    token if token == listener => self.accept()?,
                    token => self.turn(token)?,
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            // The client may have left again already.
            Err(error) if is_transient(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let token = stream.as_raw_fd() as usize;
        self.epoll.add(&stream, token, sys::READABLE)?;
        if self.connections.len() <= token {
            self.connections.resize_with(token + 1, || None);
        }
        self.connections[token] = Some(Connection { stream, behaviour: None });
        Ok(())
    }

    fn turn(&mut self, token: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[token] else {
            return Ok(());
        };
        let next = match connection.behaviour {
            Some(Behaviour::Source) => pump(connection, &self.buffer),
            _ => answer(connection, &mut self.buffer, &self.epoll, token),
        };
        match next {
            Ok(Next::Keep) => {}
            // Whoever resets or leaves early harms only itself.
            Ok(Next::Close) | Err(_) => self.connections[token] = None,
            Ok(Next::Alone) => {
                if let Some(connection) = self.connections[token].take() {
                    self.epoll.remove(&connection.stream)?;
                    thread::spawn(move || echo_alone(connection.stream));
                }
            }
        }
        Ok(())
    }
}

/// Sends one block of what a source never runs out of.
fn pump(connection: &Connection, block: &[u8]) -> io::Result<Next> {
    match sys::send_now(&connection.stream, block) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(Next::Keep),
    }
}

/// Reads once and answers as the connection's first byte asked.
fn answer(
    connection: &mut Connection,
    buffer: &mut [u8],
    epoll: &Epoll,
    token: usize,
) -> io::Result<Next> {
    let len = match sys::recv_now(&connection.stream, buffer) {
        Ok(0) => return Ok(Next::Close),
        Ok(len) => len,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Keep),
        Err(error) => return Err(error),
    };
    let behaviour = match connection.behaviour.or_else(|| Behaviour::of(buffer[0])) {
        Some(behaviour) => *connection.behaviour.insert(behaviour),
        None => return Ok(Next::Close),
    };
    if behaviour == Behaviour::Source {
        epoll.modify(&connection.stream, token, sys::WRITABLE)?;
        return Ok(Next::Keep);
    }
    // A client waits for its answer before it asks again, and a question is far
    // smaller than a socket's buffer: a short send means a broken client.
    if sys::send_now(&connection.stream, &buffer[..len])? != len {
        return Ok(Next::Close);
    }
    Ok(match behaviour {
        Behaviour::Echo | Behaviour::Source => Next::Keep,
        Behaviour::EchoAlone => Next::Alone,
        Behaviour::Short => Next::Close,
    })
}

fn echo_alone(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted
    )
}
