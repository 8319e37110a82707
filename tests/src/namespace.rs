//! A network of our own: a namespace with a loopback and, if wanted, a wire into the void.

use crate::run;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A network namespace, gone with this value.
pub struct Namespace {
    name: String,
    files: Vec<PathBuf>,
}

impl Namespace {
    /// Makes one with a loopback.
    ///
    /// # Panics
    /// `ip` is missing, or this is not root.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("seaprox-test-{}-{number}", std::process::id());
        assert!(nix::unistd::geteuid().is_root(), "needs root for a network namespace");
        run(&["ip", "netns", "add", &name]);
        let namespace = Namespace { name, files: Vec::new() };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// `ip` in the namespace.
    pub fn ip(&self, arguments: &[&str]) {
        run(&[&["ip", "-netns", &self.name], arguments].concat());
    }

    /// Runs a command in the namespace that must succeed.
    pub fn run(&self, command: &[&str]) {
        run(&[&["ip", "netns", "exec", &self.name], command].concat());
    }

    /// A wire named `wire` to another namespace, which sends everything over it: 192.0.2.1 and
    /// 2001:db8:2::1 are this end, 192.0.2.2 and 2001:db8:2::2 the other.
    pub fn wire_to(&self, other: &Namespace) {
        let peer = ["peer", "name", "wire", "netns", &other.name];
        self.ip(&[&["link", "add", "wire", "type", "veth"], &peer[..]].concat());
        for (end, number) in [(self, 1), (other, 2)] {
            end.ip(&["addr", "add", &format!("192.0.2.{number}/24"), "dev", "wire"]);
            let v6 = format!("2001:db8:2::{number}/64");
            end.ip(&["addr", "add", &v6, "dev", "wire", "nodad"]);
            end.ip(&["link", "set", "wire", "up"]);
        }
        other.ip(&["route", "add", "default", "via", "192.0.2.1"]);
        other.ip(&["-6", "route", "add", "default", "via", "2001:db8:2::1"]);
    }

    /// Whatever is sent to 198.51.100.0/24 or 2001:db8::/32 is lost without a word.
    pub fn add_void(&self) {
        self.ip(&["link", "add", "void", "type", "veth", "peer", "name", "end"]);
        self.ip(&["link", "set", "void", "up"]);
        self.ip(&["link", "set", "end", "up"]);
        self.ip(&["addr", "add", "198.51.100.1/24", "dev", "void"]);
        self.ip(&["addr", "add", "2001:db8::1/32", "dev", "void", "nodad"]);
        for nobody in ["198.51.100.9", "2001:db8::9"] {
            let neighbour = ["neigh", "add", nobody, "lladdr", "02:00:00:00:00:09", "dev", "void"];
            self.ip(&neighbour);
        }
    }

    /// Words that start a command in the namespace, with an /etc/hosts of its own, and no DNS but who
    /// answers there at 127.0.0.1.
    pub fn wrapper(&mut self, hosts: &str) -> Vec<String> {
        let write = |kind: &str, text: &str| {
            let path = crate::trace::temporary(kind);
            std::fs::write(&path, text).expect("a temporary file can be written");
            path
        };
        let hosts = write("hosts", hosts);
        let resolver = write("resolv", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
        let script = "mount --bind \"$0\" /etc/hosts && mount --bind \"$1\" /etc/resolv.conf && \
                      shift && exec \"$@\"";
        let net = format!("--net=/run/netns/{}", self.name);
        let words = ["nsenter", &net, "unshare", "--mount", "sh", "-c", script];
        let mut words: Vec<String> = words.map(String::from).into();
        for file in [&hosts, &resolver] {
            words.push(file.to_str().expect("a path of ours is plain").into());
        }
        self.files.extend([hosts, resolver]);
        words
    }

    /// Runs `work` on a thread in the namespace; its threads are there too.
    ///
    /// # Panics
    /// `work` does.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.name, work)
    }
}

/// Runs `work` on a thread in the namespace of this name; its threads are there too, and a socket
/// it makes stays there wherever it is used.
///
/// # Panics
/// `work` does.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/run/netns/{name}");
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let file = File::open(path).expect("the namespace is there");
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            work()
        });
        match inside.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.name]).status();
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}
