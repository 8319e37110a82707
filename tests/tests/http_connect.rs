//! `seaprox http` and `seaprox socks5`, over real sockets: what clients of all kinds get to hear, and that
//! the bytes behind a handshake are theirs, each once.

use seaprox_tests::bytes::pattern;
use seaprox_tests::ends::direct;
use seaprox_tests::eventually;
use seaprox_tests::peer::{
    Blackhole, End, accept, assert_echoes, assert_ends, assert_rest, connect, echo, end, listen,
    read_bytes, read_to_end, reset, send_pattern, serve, vacant_address,
};
use seaprox_tests::process::Signal;
use seaprox_tests::program::output;
use seaprox_tests::talk::{
    curl, http, http_request, read_header, socks5, socks5_request, status_of,
};
use seaprox_tests::trace::temporary;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

/// What a client is told that says all this at once, and how that ends.
#[track_caller]
fn told(proxy: SocketAddr, said: &[u8]) -> (String, End) {
    let mut stream = connect(proxy);
    stream.write_all(said).expect("it listens");
    let (bytes, ended) = read_to_end(&mut stream);
    (String::from_utf8(bytes).expect("words"), ended)
}

/// A page, to whoever asks.
fn page(mut stream: TcpStream) {
    read_bytes(&stream, 4);
    let page = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    stream.write_all(page).expect("curl reads");
    end(&stream);
    read_to_end(&mut stream);
}

/// A file, gone with this value.
struct File(PathBuf);

impl File {
    fn new(text: &str, mode: u32) -> File {
        let file = File(temporary("file"));
        fs::write(&file.0, text).expect("a temporary file can be written");
        fs::set_permissions(&file.0, fs::Permissions::from_mode(mode)).expect("it is ours");
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in words")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn curl_goes_through() {
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = local.local_addr().unwrap().port();
    seaprox_tests::peer::serve_on(local, page);
    let proxy = direct("http").option("--allow", "localhost").option("--allow", "127.0.0.0/8");
    let proxy = proxy.start();
    let at = format!("http://{}", proxy.address);
    let through = |url: &str| curl(&["--proxytunnel", "--proxy", &at, url]);
    for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
        let hello = (Some(0), "hello".to_owned());
        assert_eq!(through(&format!("http://{host}:{port}/")), hello, "{host}");
    }
    // CURLE_RECV_ERROR stands for an answer that is no 2xx (libcurl-errors(3)).
    let (code, said) = through("http://no-such-name.invalid/");
    assert_eq!((code, said.as_str()), (Some(56), ""));
}

#[test]
fn those_who_know_a_password_go_through() {
    let page = format!("http://{}/", serve(page));
    let file = File::new("# who\nalice:se:cret\nbob:x\n", 0o600);
    let start = |talk| direct(talk).option("--passwords", file.path()).start();
    let (web, socks) = (start("http"), start("socks5"));
    let at_web = format!("http://{}", web.address);
    let at_socks = format!("socks5h://{}", socks.address);
    for (at, refused) in [(&at_web, 56), (&at_socks, 97)] {
        let as_user = |user: &[&str]| {
            let arguments = [user, &["--proxytunnel", "--proxy", at, page.as_str()]].concat();
            curl(&arguments)
        };
        for known in ["alice:se:cret", "bob:x"] {
            assert_eq!(as_user(&["-U", known]), (Some(0), "hello".to_owned()), "{at} {known}");
        }
        for unknown in [&["-U", "alice:x"][..], &["-U", "carol:x"], &[]] {
            assert_eq!(as_user(unknown).0, Some(refused), "{at} {unknown:?}");
        }
    }
    let (said, ended) = told(web.address, http_request("127.0.0.1:1").as_bytes());
    assert_eq!((status_of(&said), ended), (407, End::Fin));
    assert!(said.contains("\r\nProxy-Authenticate: Basic "), "{said}");
    assert_eq!(web.failed("auth"), 4);
    let said = web.stderr() + &socks.stderr();
    assert!(!said.contains("cret"), "{said}");
    assert!(!said.contains("others can read"), "{said}");
}

#[test]
fn a_file_of_passwords_is_read_or_nothing_starts() {
    let listen = vacant_address().to_string();
    let refused = |path: &str| output(&["http", &listen, "--passwords", path]);
    let (code, _, said) = refused("/nowhere/at/all");
    assert_eq!((code, said.lines().count()), (Some(78), 1), "{said}");
    let bad = File::new("alice\n", 0o600);
    let (code, _, said) = refused(bad.path());
    assert_eq!(code, Some(78));
    assert!(said.contains("line 1 is not NAME:PASSWORD") && !said.contains("alice"), "{said}");
    let open = File::new("alice:x\n", 0o644);
    let proxy = direct("http").option("--passwords", open.path()).start();
    assert!(proxy.stderr().contains("others can read"), "{}", proxy.stderr());
}

/// Others may use a proxy only if somebody has said so.
#[test]
fn a_proxy_for_others_says_for_whom() {
    for listen in ["0.0.0.0:1", ":1", "[::]:1", "fd:3"] {
        for talk in ["http", "socks5"] {
            let (code, _, said) = output(&[talk, listen]);
            assert_eq!((code, said.lines().count()), (Some(64), 1), "{said}");
            assert!(said.contains("--allow") && said.contains("--passwords"), "{said}");
        }
    }
}

/// A server with a certificate of its own, at a port of its choice.
struct Server {
    child: Child,
    port: u16,
    certificate: PathBuf,
    key: PathBuf,
}

impl Server {
    fn start() -> Server {
        let (certificate, key) = (temporary("certificate"), temporary("key"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .arg("-out")
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()
            .expect("openssl cannot be run, install it");
        assert!(made.status.success(), "{made:?}");
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-rev", "-cert"])
            .arg(&certificate)
            .arg("-key")
            .arg(&key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be run");
        let said = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let port = said
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        Server { child, port: port.expect("it says its port"), certificate, key }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.certificate);
        let _ = fs::remove_file(&self.key);
    }
}

/// What HTTP proxies are for: a client and a server that trust each other, and nobody between.
#[test]
fn tls_goes_through() {
    let server = Server::start();
    let proxy = direct("http").start();
    let at = format!("localhost:{}", server.port);
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &at, "-proxy", &proxy.address.to_string(), "-servername"])
        .args(["localhost", "-verify_hostname", "localhost", "-verify_return_error", "-quiet"])
        .arg("-CAfile")
        .arg(&server.certificate)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl can be run");
    let mut words = client.stdin.take().expect("stdin is a pipe");
    words.write_all(b"backwards\n").unwrap();
    let mut answer = String::new();
    let mut said = BufReader::new(client.stdout.take().expect("stdout is a pipe"));
    said.read_line(&mut answer).unwrap();
    assert_eq!(answer, "sdrawkcab\n");
    let _ = client.kill();
    let _ = client.wait();
}

#[test]
fn bytes_behind_a_handshake_are_exact_both_ways() {
    const BYTES: usize = 3_000_000;
    let (web, socks) = (direct("http").start(), direct("socks5").start());
    for talk in ["http", "socks5"] {
        let backend = listen();
        let at = backend.local_addr().unwrap();
        let mut client = match talk {
            "http" => {
                let (status, client) = http(web.address, &at.to_string());
                assert_eq!(status, 200);
                client
            }
            _ => {
                let (code, client) = socks5(socks.address, at);
                assert_eq!(code, 0);
                client
            }
        };
        let mut dest = accept(&backend);
        let sending = [send_pattern(&client, 1, BYTES), send_pattern(&dest, 2, BYTES)];
        let up = thread::spawn(move || assert_rest(&mut dest, &pattern(1, BYTES)));
        assert_rest(&mut client, &pattern(2, BYTES));
        up.join().unwrap();
        sending.into_iter().for_each(|sent| sent.join().unwrap());
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let proxy = direct("http").start();
    let backend = serve(echo);
    let mut stream = connect(proxy.address);
    stream.set_nodelay(true).unwrap();
    for byte in http_request(&backend.to_string()).into_bytes() {
        stream.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(read_header(&mut stream), OK);
    assert_echoes(&mut stream, b"and then bytes");
}

/// What is said behind the header is for the dest: all of it, first, once, before what comes later, and
/// with its end.
#[test]
fn early_bytes_come_first() {
    let proxy = direct("http").start();
    for early_bytes in [1, 400, 500, 600, 5000, 200_000] {
        for ends in [false, true] {
            let backend = listen();
            let all = pattern(early_bytes as u64, early_bytes + 70_000);
            let (early, later) = all.split_at(early_bytes);
            let request = http_request(&backend.local_addr().unwrap().to_string());
            let hello = [request.as_bytes(), early].concat();
            let mut client = connect(proxy.address);
            let mut writer = client.try_clone().unwrap();
            let later = if ends { Vec::new() } else { later.to_vec() };
            let expected = [early, &later].concat();
            let writing = thread::spawn(move || {
                writer.write_all(&hello).unwrap();
                writer.write_all(&later).unwrap();
                end(&writer);
            });
            let mut dest = accept(&backend);
            assert_rest(&mut dest, &expected);
            dest.write_all(b"thanks").unwrap();
            end(&dest);
            assert_rest(&mut client, &[OK.as_bytes(), b"thanks"].concat());
            writing.join().unwrap();
        }
    }
}

#[test]
fn a_dest_that_speaks_first_is_heard_behind_the_answer() {
    let proxy = direct("http").start();
    let banner = serve(|mut stream| {
        let _ = stream.write_all(b"220 ready");
    });
    for _ in 0..50 {
        let (said, ended) = told(proxy.address, http_request(&banner.to_string()).as_bytes());
        assert_eq!((said, ended), ([OK, "220 ready"].concat(), End::Fin));
    }
}

/// A refusal is heard whole, with an end in order, whatever the client has said behind it.
#[test]
fn a_refusal_has_its_status() {
    let hole = Blackhole::new();
    let proxy = direct("http")
        .option("--allow", "127.0.0.0/8")
        .option("--allow", "*.invalid")
        .option("--connect-timeout", "300ms")
        .start();
    let asked = |target: &dyn ToString| http_request(&target.to_string());
    for (said, status, error) in [
        (asked(&vacant_address()), 502, "connection_refused"),
        (asked(&hole.address()), 504, "connection_timeout"),
        (asked(&"no-such-name.invalid:80"), 502, "dns_error"),
        (asked(&"192.0.2.1:80"), 403, "destination_ip_prohibited"),
        (asked(&"example.org:80"), 403, "destination_ip_prohibited"),
        (asked(&"127.1:80"), 403, "destination_ip_prohibited"),
        ("GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405, ""),
        ("CONNECT 127.0.0.1 HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400, ""),
        ("CONNECT 127.0.0.1:80 HTTP/1.1\r\n\r\n".into(), 400, ""),
        ("CONNECT 127.0.0.1:80 HTTP/2.0\r\n\r\n".into(), 505, ""),
        (format!("CONNECT {}:80 HTTP/1.1\r\n", "n".repeat(600)), 414, ""),
        (format!("CONNECT a:80 HTTP/1.1\r\nX: {}", "x".repeat(9000)), 431, ""),
        ("\x16\x03\x01\x02\x00\x01\x00".into(), 400, ""),
        ("\x05\x01\x00".into(), 400, ""),
    ] {
        for beyond in [0, 100_000] {
            let (answer, ended) =
                told(proxy.address, &[said.as_bytes(), &vec![b'x'; beyond]].concat());
            let shown = &said[..said.len().min(60)];
            assert_eq!((status_of(&answer), ended), (status, End::Fin), "{shown:?}, {beyond}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
            assert!(answer.contains(error), "{answer}");
        }
    }
    eventually("refused clients leave the table", || proxy.connections() == 0);
}

/// Clients that never say what they want take the table for the time they are given, and no longer.
#[test]
fn who_does_not_finish_is_given_up() {
    let proxy = direct("http")
        .option("--handshake-timeout", "1500ms")
        .option("--max-connections", 8)
        .start();
    let backend = serve(echo);
    let mut slow: Vec<_> = (0..8).map(|_| connect(proxy.address)).collect();
    eventually("the table is full", || proxy.connections() == 8);
    let dripping = thread::spawn(move || {
        for byte in b"CONNECT 127." {
            // Some may be given up already.
            slow.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
            thread::sleep(Duration::from_millis(100));
        }
        for stream in &mut slow {
            let (bytes, _) = read_to_end(stream);
            let said = String::from_utf8(bytes).expect("words");
            assert_eq!(status_of(&said), 408, "{said}");
        }
    });
    let (status, mut client) = http(proxy.address, &backend.to_string());
    assert_eq!(status, 200);
    assert_echoes(&mut client, b"there is room again");
    dripping.join().unwrap();
    // Who says nothing is told nothing.
    assert_ends(&mut connect(proxy.address), End::Rst);
    for leaves in [end as fn(&TcpStream), |stream| reset(stream.try_clone().unwrap())] {
        let mut stream = connect(proxy.address);
        stream.write_all(b"CONNECT").unwrap();
        eventually("it is there", || proxy.connections() == 2);
        leaves(&stream);
        drop(stream);
        eventually("it is gone", || proxy.connections() == 1);
    }
}

/// A drain lets handshakes that have begun come to their end, and what they lead to.
#[test]
fn a_drain_waits_for_handshakes() {
    let mut proxies = [direct("http").start(), direct("socks5").start()];
    let backend = serve(echo);
    let said = [http_request(&backend.to_string()).into_bytes(), socks5_request(backend)];
    let answers = [OK.as_bytes().to_vec(), vec![5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]];
    for ((proxy, said), answer) in proxies.iter_mut().zip(said).zip(answers) {
        let (early, later) = said.split_at(5);
        let mut stream = connect(proxy.address);
        stream.write_all(early).unwrap();
        eventually("it is there", || proxy.connections() == 1);
        proxy.process.signal(Signal::SIGTERM);
        proxy.wait_says("event=draining");
        eventually("nobody listens any more", || TcpStream::connect(proxy.address).is_err());
        stream.write_all(later).unwrap();
        assert_eq!(read_bytes(&stream, answer.len()), answer);
        assert_echoes(&mut stream, b"still there");
        drop(stream);
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

/// A stop resets who is still saying what it wants.
#[test]
fn a_stop_waits_for_nobody() {
    let proxy = direct("http").option("--handshake-timeout", "off").option("--drain", "off");
    let mut proxy = proxy.start();
    let mut stream = connect(proxy.address);
    stream.write_all(b"CONNECT ").unwrap();
    eventually("it is there", || proxy.connections() == 1);
    proxy.process.signal(Signal::SIGTERM);
    proxy.wait_says("event=draining");
    proxy.process.signal(Signal::SIGTERM);
    assert_ends(&mut stream, End::Rst);
    assert_eq!(proxy.wait().code(), Some(0));
}
