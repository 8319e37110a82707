//! The two ends of links, as programs of their own, joined at a name of this test's; and the programs that
//! connect clients to where they say.

use crate::keys::{self, Key, Which};
use crate::launch::{Proxy, link};
use crate::peer::vacant_address;
use crate::program::program;
use crate::trace::temporary;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A link that nobody else has: of the kind that SEAPROX_TESTS_LINK says, else in the abstract
/// namespace.
pub fn vacant_link() -> String {
    link().unwrap_or_else(vacant_name)
}

fn vacant_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("seqpacket:@seaprox-ends-{}-{number}", std::process::id())
}

/// The same, else as a path.
pub fn vacant_link_path() -> String {
    link().unwrap_or_else(vacant_path)
}

/// A link at a path, whatever SEAPROX_TESTS_LINK says.
pub fn vacant_path() -> String {
    format!("seqpacket:{}", temporary("link").display())
}

/// One end of links that is to be started.
pub struct End {
    words: Vec<String>,
    /// The words that say how its links are protected.
    protection: Vec<String>,
    wrapper: Vec<String>,
    threads: usize,
    address: std::net::SocketAddr,
}

/// The end that clients come to, at a vacant address.
pub fn ingress(link: &str) -> End {
    let address = vacant_address();
    let words = ["ingress".into(), address.to_string(), link.into()];
    End::new(words, keys::words(Which::Ingress), address)
}

/// The end that targets are connected by.
pub fn egress(link: &str) -> End {
    let words = ["egress".into(), link.into(), "--log-connections".into()];
    End::new(words, keys::words(Which::Egress), vacant_address())
}

/// A program of its own that connects clients to where they say: `socks5` or `http`.
pub fn direct(talk: &str) -> End {
    let address = vacant_address();
    let words = [talk.into(), address.to_string(), "--log-connections".into()];
    End::new(words, vec![], address)
}

impl End {
    fn new(words: [String; 3], protection: Vec<String>, address: std::net::SocketAddr) -> End {
        let words = words.into();
        End { words, protection, wrapper: Vec::new(), threads: 1, address }.threads(1)
    }

    /// Without keys.
    pub fn insecure(mut self) -> End {
        self.protection = vec!["--insecure".into()];
        self
    }

    /// With keys that the other end knows, whatever SEAPROX_TESTS_INSECURE says.
    pub fn sealed(mut self) -> End {
        self.protection = keys::words_of_ends(match self.words[0].as_str() {
            "ingress" => Which::Ingress,
            _ => Which::Egress,
        });
        self
    }

    /// With this key, and another one at the far end.
    ///
    /// # Panics
    /// Its path is not UTF-8.
    pub fn keyed(mut self, own: &Key, other: &Key) -> End {
        self.protection = own.words(other);
        self
    }

    /// With what these words say.
    pub fn protected<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> End {
        self.protection = words.into_iter().map(Into::into).collect();
        self
    }

    /// Where clients of an ingress come to, instead: what another had before.
    pub fn at(mut self, address: std::net::SocketAddr) -> End {
        self.words[1] = address.to_string();
        self.address = address;
        self
    }

    /// One more target of an egress.
    pub fn to(mut self, target: impl ToString) -> End {
        self.words.push(target.to_string());
        self
    }

    /// One more place where clients of an ingress come from.
    pub fn listen(mut self, listen: impl ToString) -> End {
        self.words.insert(1, listen.to_string());
        self
    }

    /// An option and its value; the last one of a name counts.
    pub fn option(mut self, name: &str, value: impl ToString) -> End {
        self.words.extend([name.into(), value.to_string()]);
        self
    }

    /// An option without a value.
    pub fn flag(mut self, name: &str) -> End {
        self.words.push(name.into());
        self
    }

    /// How many threads.
    pub fn threads(mut self, threads: usize) -> End {
        self.threads = threads;
        self.option("--threads", threads)
    }

    /// Words in front of the command: `strace .. seaprox ..`.
    pub fn wrapped<'w>(mut self, words: impl IntoIterator<Item = &'w str>) -> End {
        self.wrapper.extend(words.into_iter().map(str::to_owned));
        self
    }

    /// Starts it, and waits until it listens; whether a link is up is another matter.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn start(self) -> Proxy {
        let mut words = self.wrapper.clone();
        words.push(program().to_str().expect("a path in UTF-8").to_owned());
        words.extend(self.words.iter().chain(&self.protection).cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Proxy::of_child(child, self.address, self.threads)
    }
}
