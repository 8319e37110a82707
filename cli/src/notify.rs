//! Tells whoever started the program how it is (sd_notify(3)): one datagram to NOTIFY_SOCKET.
//! Opened before the seal, and never blocks: a service manager that does not read is no reason to
//! stop.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the service manager may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Clients are accepted.
    Ready,
    /// The end has begun.
    Stopping,
}

/// The way to the service manager, if there is one.
pub struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// The one that NOTIFY_SOCKET names. Without it, or when nobody is there, nothing is told.
    pub fn from_environment() -> Notifier {
        let path = std::env::var_os("NOTIFY_SOCKET");
        Notifier(path.and_then(|path| Self::connect(&path).ok()))
    }

    /// A path, or a name in the abstract namespace after `@`.
    fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Tells it.
    pub fn tell(&self, state: State) {
        let text: &[u8] = match state {
            State::Ready => b"READY=1",
            State::Stopping => b"STOPPING=1",
        };
        if let Some(socket) = &self.0 {
            // Nobody there any more, or nobody reads: it can be told nothing.
            let _ = socket.send(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(listener: &UnixDatagram, path: &OsStr) {
        listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let notifier = Notifier(Some(Notifier::connect(path).unwrap()));
        let mut text = [0; 64];
        for (state, expected) in [(State::Ready, "READY=1"), (State::Stopping, "STOPPING=1")] {
            notifier.tell(state);
            let length = listener.recv(&mut text).unwrap();
            assert_eq!(str::from_utf8(&text[..length]), Ok(expected));
        }
    }

    #[test]
    fn told_by_path_and_by_abstract_name() {
        let name = format!("seaprox-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        check(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());
        std::fs::remove_file(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        check(&UnixDatagram::bind_addr(&address).unwrap(), OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn nobody_there_and_nobody_reading_are_no_trouble() {
        for nowhere in ["", "@", "/nonexistent/notify", "\0"] {
            // The abstract name "" can be connected to nobody either.
            assert!(Notifier::connect(OsStr::new(nowhere)).is_err(), "{nowhere:?}");
        }
        Notifier(None).tell(State::Ready);
        let name = format!("seaprox-test-full-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _unread = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier(Notifier::connect(OsStr::new(&format!("@{name}"))).ok());
        assert!(notifier.0.is_some());
        (0..10_000).for_each(|_| notifier.tell(State::Ready));
    }
}
