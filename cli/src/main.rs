//! The program.
use rustix::fd::AsRawFd;
use seaprox::worker::{Options, Worker};
use seaprox::{Seaprox, sys::Linux};

static PROXY: Seaprox<8192, 4> = Seaprox::new();

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let listen = seaprox_tcp::listen(args[2].parse().unwrap(), Default::default()).unwrap();
    let target: std::net::SocketAddr = args[3].parse().unwrap();
    let targets: &'static [seaprox_tcp::Target<'static>] =
        vec![seaprox_tcp::Target::Inet(target)].leak();
    let threads =
        args.iter().position(|a| a == "--threads").map_or(1, |i| args[i + 1].parse().unwrap());
    let fd = listen.as_raw_fd();
    let ports = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let p: Vec<u16> = ports.split_whitespace().map(|x| x.parse().unwrap()).collect();
    std::thread::scope(|s| {
        for table in PROXY.claim(threads, 8192).unwrap() {
            let p = p.clone();
            s.spawn(move || {
                let options =
                    seaprox_tcp::DialOptions { local_ports: p[0]..=p[1], ..Default::default() };
                let mut worker = Worker::new(
                    Linux,
                    table,
                    seaprox_tcp::Listener::new(Linux, fd),
                    seaprox_tcp::Dialer::new(
                        Linux,
                        targets,
                        seaprox_tcp::resolve::NoNames,
                        options,
                    ),
                    (),
                    Options::default(),
                )
                .unwrap();
                worker.run().unwrap();
            });
        }
    });
}
