//! The picture of README: clients of all kinds at one ingress, one link, and destinations of their own
//! choice at its other end; over every carrier, or over the one that SEAPROX_TESTS_LINK names.
//!
//!     http ----- seaprox ===( one link )=== seaprox ----- conn 1
//!     socks ---/                                    \---- conn 2

use seaprox_tests::bytes::pattern;
use seaprox_tests::ends::{egress, ingress, vacant_link};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{
    Blackhole, End, accept, assert_echoes, assert_ends, assert_refused, assert_rest, connect, echo,
    end, listen, read_bytes, read_to_end, send_pattern, serve, serve_on, vacant_address,
    vacant_port,
};
use seaprox_tests::process::Signal;
use seaprox_tests::talk::{curl, http, http_request, socks5, socks5_request, status_of};
use seaprox_tests::{bulk, eventually};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A link over each carrier that is to be tested.
fn links() -> Vec<String> {
    match std::env::var_os("SEAPROX_TESTS_LINK") {
        Some(_) => vec![vacant_link()],
        None => vec![vacant_link(), format!("udp:127.0.0.1:{}", vacant_port())],
    }
}

/// Both ends of a link that is up, and the ingress's entrances for clients that talk.
struct Picture {
    ingress: Proxy,
    egress: Proxy,
    web: SocketAddr,
    socks: SocketAddr,
}

impl Picture {
    /// The ingress has a plain entrance too, whose clients go to `own`; clients that choose may go to
    /// loopback addresses, and to one name.
    fn new(link: &str, own: SocketAddr, options: &[(&str, &str)]) -> Picture {
        let [web, socks] = [vacant_address(), vacant_address()];
        let egress = egress(link)
            .to(own)
            .option("--allow", "127.0.0.0/8")
            .option("--allow", "localhost")
            .option("--connect-timeout", "500ms")
            .start();
        let near = ingress(link).listen(format!("socks5:{socks}")).listen(format!("http:{web}"));
        let near = options.iter().fold(near, |near, (name, value)| near.option(name, value));
        let ingress = near.flag("--log-connections").start();
        ingress.wait_says("event=\"link up\"");
        egress.wait_says("event=\"link up\"");
        Picture { ingress, egress, web, socks }
    }
}

/// A page that says its own name.
fn page(listener: TcpListener, name: &'static str) -> SocketAddr {
    let address = listener.local_addr().expect("a listener has an address");
    serve_on(listener, move |mut stream| {
        read_bytes(&stream, 4);
        let page = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        stream.write_all(page.as_bytes()).expect("curl reads");
        end(&stream);
        read_to_end(&mut stream);
    });
    address
}

#[test]
fn an_http_and_a_socks_client_share_one_link() {
    for link in links() {
        let first = page(listen(), "conn 1");
        let local = TcpListener::bind("127.0.0.1:0").expect("a backend can listen");
        let second = page(local, "conn 2");
        let picture = Picture::new(&link, serve(echo), &[]);
        let web = format!("http://{}", picture.web);
        let socks = format!("socks5h://{}", picture.socks);
        for _ in 0..3 {
            // Both at once, the one to an address, the other to a name that the far end looks up.
            thread::scope(|scope| {
                scope.spawn(|| {
                    let url = format!("http://{first}/");
                    let said = curl(&["--proxytunnel", "--proxy", &web, &url]);
                    assert_eq!(said, (Some(0), "conn 1".into()), "{link}");
                });
                scope.spawn(|| {
                    let url = format!("http://localhost:{}/", second.port());
                    let said = curl(&["--proxy", &socks, &url]);
                    assert_eq!(said, (Some(0), "conn 2".into()), "{link}");
                });
                // And one who is told nothing.
                assert_echoes(&mut picture.ingress.connect(), b"plain");
            });
        }
        for end in [&picture.ingress, &picture.egress] {
            assert_eq!(end.stderr().matches("event=\"link up\"").count(), 1, "one link");
            eventually("all of them are counted", || {
                end.stderr().matches("event=closed").count() == 9
            });
        }
    }
}

/// Both ways at once, beside each other, each its own bytes.
#[test]
fn bytes_behind_a_handshake_are_exact_both_ways() {
    let bytes = bulk(2_000_000);
    for link in links() {
        let picture = Picture::new(&link, serve(echo), &[]);
        thread::scope(|scope| {
            for seed in [10, 20, 30, 40] {
                let picture = &picture;
                scope.spawn(move || {
                    let backend = listen();
                    let at = backend.local_addr().unwrap();
                    let (answer, mut client) = match seed {
                        10 | 20 => http(picture.web, &at.to_string()),
                        _ => {
                            let (code, client) = socks5(picture.socks, at);
                            (200 + u16::from(code), client)
                        }
                    };
                    assert_eq!(answer, 200);
                    let mut dest = accept(&backend);
                    let sending =
                        [send_pattern(&client, seed, bytes), send_pattern(&dest, seed + 1, bytes)];
                    let up = thread::spawn(move || assert_rest(&mut dest, &pattern(seed, bytes)));
                    assert_rest(&mut client, &pattern(seed + 1, bytes));
                    up.join().unwrap();
                    sending.into_iter().for_each(|sent| sent.join().unwrap());
                });
            }
        });
    }
}

/// What is said behind the request is for the dest, first and once, however much it is.
#[test]
fn early_bytes_come_first() {
    for link in links() {
        let picture = Picture::new(&link, serve(echo), &[]);
        for early_bytes in [1, 300, 520, 70_000] {
            let backend = listen();
            let at = backend.local_addr().unwrap();
            let early = pattern(early_bytes as u64, early_bytes);
            let request = http_request(&at.to_string());
            let said = [(picture.web, request.into_bytes()), (picture.socks, socks5_request(at))];
            for (proxy, request) in said {
                let mut client = connect(proxy);
                let hello = [&request[..], &early].concat();
                let mut writer = client.try_clone().unwrap();
                let writing = thread::spawn(move || {
                    writer.write_all(&hello).unwrap();
                    end(&writer);
                });
                let mut dest = accept(&backend);
                assert_rest(&mut dest, &early);
                dest.write_all(b"thanks").unwrap();
                end(&dest);
                let (said, ended) = read_to_end(&mut client);
                assert!(said.ends_with(b"thanks") && ended == End::Fin, "{said:?}");
                writing.join().unwrap();
            }
        }
    }
}

/// Who is told "connected" is, and who is not is told why, in the words of its protocol: the far end's
/// reason. A plain client is reset, as ever.
#[test]
fn what_became_of_the_far_end_is_told() {
    for link in links() {
        let vacant = vacant_address();
        let hole = Blackhole::new();
        let picture = Picture::new(&link, vacant, &[]);
        let outside: SocketAddr = "192.0.2.1:80".parse().unwrap();
        for (to, code, status) in [(vacant, 5, 502), (hole.address(), 6, 504), (outside, 2, 403)] {
            let (told, mut stream) = socks5(picture.socks, to);
            assert_eq!(told, code, "{to}");
            assert_ends(&mut stream, End::Fin);
            let (told, mut stream) = http(picture.web, &to.to_string());
            assert_eq!(told, status, "{to}");
            assert_ends(&mut stream, End::Fin);
        }
        let (told, _) = http(picture.web, "example.org:80");
        assert_eq!(told, 403);
        assert_refused(picture.ingress.address, b"hello");
        let reasons =
            [("connection-refused", 3), ("timed-out", 2), ("denied", 3)].map(|(reason, count)| {
                let failed = [&picture.ingress, &picture.egress].map(|end| end.failed(reason));
                assert_eq!(failed, [count; 2], "{reason}");
                count
            });
        assert_eq!(reasons.iter().sum::<u64>(), 8);
        eventually("nobody is left", || {
            picture.ingress.connections() == 0 && picture.egress.connections() == 0
        });
        // None of it harms the link.
        let (told, mut client) = socks5(picture.socks, serve(echo));
        assert_eq!(told, 0);
        assert_echoes(&mut client, b"still here");
    }
}

/// A client of SOCKS that has asked for `to`, and was told nothing of that yet.
fn asking(proxy: SocketAddr, to: SocketAddr) -> TcpStream {
    let mut stream = connect(proxy);
    let (greeting, request) = (&[5, 1, 0], &socks5_request(to)[3..]);
    stream.write_all(greeting).unwrap();
    assert_eq!(read_bytes(&stream, 2), [5, 0]);
    stream.write_all(request).unwrap();
    stream
}

/// Nobody is told "connected" as long as the far end tries; who leaves meanwhile leaves there too.
#[test]
fn who_waits_is_told_nothing_yet() {
    for link in links() {
        let hole = Blackhole::new();
        let [web, socks] = [vacant_address(), vacant_address()];
        let far = egress(&link).option("--allow", "127.0.0.0/8").option("--connect-timeout", "off");
        let far = far.start();
        let near = ingress(&link).at(web).listen(format!("socks5:{socks}"));
        let near = near.start();
        near.wait_says("event=\"link up\"");
        let [mut waiting, leaving] = [(); 2].map(|()| asking(socks, hole.address()));
        eventually("the far end tries", || far.connections() == 2);
        waiting.set_nonblocking(true).unwrap();
        let nothing = std::io::Read::read(&mut waiting, &mut [0; 10]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        waiting.set_nonblocking(false).unwrap();
        seaprox_tests::peer::reset(leaving);
        eventually("who left is gone there", || far.connections() == 1);
        let server = hole.open();
        let mut reply = read_bytes(&waiting, 10);
        reply.truncate(2);
        assert_eq!(reply, [5, 0]);
        waiting.write_all(b"hello").unwrap();
        assert_eq!(read_bytes(&server, 5), b"hello");
    }
}

/// A link that dies while the far end tries, or is not there, has words too.
#[test]
fn a_link_that_dies_is_told_of() {
    for link in links() {
        let hole = Blackhole::new();
        let [web, socks] = [vacant_address(), vacant_address()];
        let far = egress(&link).option("--allow", "127.0.0.0/8").option("--connect-timeout", "off");
        let mut far = far.option("--link-timeout", "1s").start();
        let near = ingress(&link)
            .at(vacant_address())
            .listen(format!("socks5:{socks}"))
            .listen(format!("http:{web}"))
            .option("--link-timeout", "1s")
            .option("--link-wait", "100ms")
            .start();
        near.wait_says("event=\"link up\"");
        let mut client = asking(socks, hole.address());
        eventually("the far end tries", || far.connections() == 1);
        far.kill();
        assert_eq!(read_bytes(&client, 10)[1], 3, "network unreachable");
        assert_ends(&mut client, End::Fin);
        let (told, _) = http(web, "127.0.0.1:80");
        assert_eq!(told, 503);
        let (told, _) = socks5(socks, vacant_address());
        assert_eq!(told, 3);
    }
}

/// Passwords are asked for by the ingress, of those who talk.
#[test]
fn an_ingress_may_ask_for_passwords() {
    let file = seaprox_tests::trace::temporary("passwords");
    std::fs::write(&file, "alice:secret\n").expect("a temporary file can be written");
    for link in links() {
        let backend = page(listen(), "hello");
        let options = [("--passwords", file.to_str().unwrap()), ("--handshake-timeout", "1s")];
        let picture = Picture::new(&link, serve(echo), &options);
        let url = format!("http://{backend}/");
        for (at, refused) in
            [(format!("http://{}", picture.web), 56), (format!("socks5h://{}", picture.socks), 97)]
        {
            let as_user = |user| curl(&["-U", user, "--proxytunnel", "--proxy", &at, url.as_str()]);
            assert_eq!(as_user("alice:secret"), (Some(0), "hello".into()));
            assert_eq!(as_user("alice:guess").0, Some(refused));
        }
        // A plain client is asked nothing, and has all the time it wants.
        let mut plain = picture.ingress.connect();
        let mut silent = connect(picture.socks);
        assert_ends(&mut silent, End::Rst);
        assert_echoes(&mut plain, b"hello");
    }
    let _ = std::fs::remove_file(&file);
}

/// A drain of the ingress lets handshakes come to their end, over the link.
#[test]
fn a_drain_waits_for_handshakes() {
    for link in links() {
        let backend = serve(echo);
        let mut picture = Picture::new(&link, backend, &[]);
        let request = http_request(&backend.to_string());
        let (early, later) = request.split_at(20);
        let mut client = connect(picture.web);
        client.write_all(early.as_bytes()).unwrap();
        eventually("it is there", || picture.ingress.connections() == 1);
        picture.ingress.process.signal(Signal::SIGTERM);
        picture.ingress.wait_says("event=draining");
        thread::sleep(Duration::from_millis(50));
        client.write_all(later.as_bytes()).unwrap();
        let header = seaprox_tests::talk::read_header(&mut client);
        assert_eq!(status_of(&header), 200);
        assert_echoes(&mut client, b"still there");
        drop(client);
        assert_eq!(picture.ingress.wait().code(), Some(0));
    }
}
