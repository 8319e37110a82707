//! Somebody between two ends of links over UDP who hears all, and does nothing else.

use crate::peer::own_ip;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Datagrams that are kept of each way.
const KEPT_MAX: usize = 1500;

/// A plain path between the ends, that remembers what it carried.
pub struct Tap {
    address: SocketAddr,
    kept: Arc<[Mutex<Vec<Vec<u8>>>; 2]>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Tap {
    /// To this end, as it is from now on.
    ///
    /// # Panics
    /// There are no sockets.
    pub fn to(server: SocketAddr) -> Tap {
        let patient = |socket: UdpSocket| {
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            socket
        };
        let front = patient(UdpSocket::bind((own_ip(), 0)).unwrap());
        let back = patient(UdpSocket::bind((own_ip(), 0)).unwrap());
        back.connect(server).unwrap();
        let address = front.local_addr().unwrap();
        let client = Arc::new(Mutex::new(None));
        let (kept, is_over) = (Arc::<[Mutex<_>; 2]>::default(), Arc::<AtomicBool>::default());
        let mut threads = Vec::new();
        for way in 0..2 {
            let (front, back) = (front.try_clone().unwrap(), back.try_clone().unwrap());
            let (kept, is_over, client) = (kept.clone(), is_over.clone(), client.clone());
            threads.push(thread::spawn(move || {
                let mut datagram = [0; 65_536];
                while !is_over.load(Ordering::Relaxed) {
                    let socket = if way == 0 { &front } else { &back };
                    let Ok((count, from)) = socket.recv_from(&mut datagram) else { continue };
                    let datagram = &datagram[..count];
                    let mut all: std::sync::MutexGuard<'_, Vec<Vec<u8>>> =
                        kept[way].lock().unwrap();
                    if all.len() < KEPT_MAX {
                        all.push(datagram.to_vec());
                    }
                    // What does not go is lost, as on any path. Whoever sees what was kept comes after it.
                    if way == 0 {
                        *client.lock().unwrap() = Some(from);
                        let _ = back.send(datagram);
                    } else if let Some(client) = *client.lock().unwrap() {
                        let _ = front.send_to(datagram, client);
                    }
                    drop(all);
                }
            }));
        }
        Tap { address, kept, is_over, threads }
    }

    /// Where the other end is to send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it heard so far, the first of it: to that end, and from it.
    ///
    /// # Panics
    /// It has failed.
    pub fn kept(&self) -> [Vec<Vec<u8>>; 2] {
        [0, 1].map(|way| self.kept[way].lock().unwrap().clone())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
