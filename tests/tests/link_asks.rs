//! What an ingress asks for and what its egress makes of it: refusals at start, services and targets,
//! and reasons, which are the same words in the logs of both ends.

use seaprox_tests::ends::{End as LinkEnd, egress, ingress, vacant_link};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{
    Blackhole, End, accept, assert_echoes, assert_refused, echo, listen, read_bytes, serve,
    vacant_address,
};
use seaprox_tests::program::{output, program};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

/// Both ends of a link that is up.
fn linked(egress: LinkEnd, ingress: LinkEnd) -> (Proxy, Proxy) {
    let egress = egress.start();
    let ingress = ingress.flag("--log-connections").start();
    ingress.wait_says("event=\"link up\"");
    egress.wait_says("event=\"link up\"");
    (egress, ingress)
}

/// Writes the name it was given to each client, and waits for the client's word.
fn named(name: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
        echo(stream);
    })
}

fn answer_of(ingress: &Proxy, bytes: usize) -> String {
    String::from_utf8(read_bytes(&ingress.connect(), bytes)).unwrap()
}

/// No key, no link, unless both ends are told that this is meant.
#[test]
fn neither_end_starts_without_insecure() {
    let address = vacant_address().to_string();
    let link = vacant_link();
    for words in [["ingress", &address, &link], ["egress", &link, &address]] {
        let (code, _, said) = output(&words);
        assert_eq!(code, Some(64), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("--insecure"), "{said}");
    }
}

/// Exit code 69 (EX_UNAVAILABLE), and a line that says what to do. Where the kernel has SCTP both run
/// on, until `timeout` ends them.
#[test]
fn a_kernel_without_sctp_is_said_at_once() {
    let (address, program) = (vacant_address().to_string(), program().to_str().unwrap());
    let ways = [["ingress", &address, "sctp:127.0.0.1:7000"], ["egress", "sctp::7000", &address]];
    for words in ways {
        let command = [&["2", program][..], &words, &["--insecure"]].concat();
        let output = Command::new("timeout").args(command).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if said.contains("event=listening") {
            continue;
        }
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("no SCTP") && said.contains("modprobe sctp"), "{said}");
    }
}

/// The client is reset, never just ended, and both logs and both counters give the reason.
fn assert_fails(egress: LinkEnd, ingress: LinkEnd, reason: &str) {
    let (egress, ingress) = linked(egress, ingress);
    let sockets = (egress.sockets(), ingress.sockets());
    for _ in 0..3 {
        assert_refused(ingress.address, b"hello");
    }
    let line = format!("reason={reason}");
    ingress.wait_says_times(&line, 3);
    egress.wait_says_times(&line, 3);
    for said in [ingress.stderr(), egress.stderr()] {
        let others = said.lines().filter(|line| {
            (line.contains("event=closed") || line.contains("event=refused"))
                && !line.ends_with(&format!("reason={reason}"))
        });
        assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
    }
    assert_eq!((ingress.failed(reason), egress.failed(reason)), (3, 3));
    egress.wait_sockets(sockets.0);
    ingress.wait_sockets(sockets.1);
}

#[test]
fn a_target_that_refuses() {
    let link = vacant_link();
    assert_fails(egress(&link).to(vacant_address()), ingress(&link), "connection-refused");
}

#[test]
fn a_target_whose_name_nobody_knows() {
    let link = vacant_link();
    assert_fails(egress(&link).to("no-such-host.invalid:80"), ingress(&link), "name-resolution");
}

#[test]
fn a_target_that_does_not_answer() {
    let hole = Blackhole::new();
    let link = vacant_link();
    let egress = egress(&link).to(hole.address()).option("--connect-timeout", "200ms");
    assert_fails(egress, ingress(&link), "timed-out");
}

#[test]
fn a_service_that_is_not_offered() {
    let link = vacant_link();
    let egress = egress(&link).option("--service", format!("web={}", vacant_address()));
    assert_fails(egress, ingress(&link).option("--service", "db"), "no-such-service");
}

/// An egress without targets of its own has no service without a name.
#[test]
fn own_targets_that_are_not_there() {
    let link = vacant_link();
    let egress = egress(&link).option("--service", format!("web={}", vacant_address()));
    assert_fails(egress, ingress(&link), "no-such-service");
}

#[test]
fn a_target_that_is_not_allowed() {
    let backend = listen();
    let at = backend.local_addr().unwrap();
    let allow = format!("{}:{}", at.ip(), at.port() ^ 1);
    let link = vacant_link();
    let egress = egress(&link).to(at).option("--allow", allow);
    assert_fails(egress, ingress(&link).option("--to", at), "denied");
}

/// Nothing is allowed that was not said to be.
#[test]
fn no_target_is_allowed_by_itself() {
    let at = named("never");
    let link = vacant_link();
    assert_fails(egress(&link).to(at), ingress(&link).option("--to", at), "denied");
    let link = vacant_link();
    let ask = ingress(&link).option("--to", format!("localhost:{}", at.port()));
    assert_fails(egress(&link).to(at).option("--allow", "localhost:1"), ask, "denied");
}

#[test]
fn a_target_that_is_allowed() {
    let at = named("allowed");
    let link = vacant_link();
    let egress = egress(&link).option("--allow", format!("{}/32:{}", at.ip(), at.port()));
    let (_egress, ingress) = linked(egress, ingress(&link).option("--to", at));
    assert_eq!(answer_of(&ingress, 7), "allowed");
}

/// A name is looked up by the egress.
#[test]
fn a_name_that_is_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    seaprox_tests::peer::serve_on(listener, echo);
    let link = vacant_link();
    let egress = egress(&link).option("--allow", format!("localhost:{port}"));
    let ask = ingress(&link).option("--to", format!("localhost:{port}"));
    let (_egress, ingress) = linked(egress, ask);
    assert_echoes(&mut ingress.connect(), b"by name");
}

/// Several ingresses of one egress get each what they ask for.
#[test]
fn services_by_their_names() {
    let link = vacant_link();
    let (own, web, db) = (named("own"), named("web"), named("db!"));
    let egress = egress(&link)
        .to(own)
        .option("--service", format!("web={web}"))
        .option("--service", format!("db={},{db}", vacant_address()))
        .threads(2)
        .start();
    let ask = |name| ingress(&link).option("--service", name).start();
    let ingresses = [(ask("web"), "web"), (ask("db"), "db!"), (ingress(&link).start(), "own")];
    for _ in 0..3 {
        for (ingress, name) in &ingresses {
            assert_eq!(answer_of(ingress, 3), *name);
        }
    }
    egress.wait_says_times("event=\"link up\"", 3);
}

/// The first that can be reached is taken, and what the client has said meanwhile is not lost.
#[test]
fn own_targets_in_order() {
    let link = vacant_link();
    let last = listen();
    let egress = egress(&link)
        .to(vacant_address())
        .to(vacant_address())
        .to(last.local_addr().unwrap())
        .to(named("not me"));
    let (_egress, ingress) = linked(egress, ingress(&link));
    for _ in 0..3 {
        let mut client = ingress.connect();
        client.write_all(b"before anybody was there").unwrap();
        let server = accept(&last);
        assert_eq!(read_bytes(&server, 24), b"before anybody was there");
        drop(server);
        assert_eq!(seaprox_tests::peer::read_to_end(&mut client).1, End::Fin);
    }
}

/// Every listener of an ingress leads into its link.
#[test]
fn several_listeners() {
    let link = vacant_link();
    let others = [vacant_address(), vacant_address()];
    let ask = ingress(&link).listen(others[0]).listen(others[1]);
    let (_egress, ingress) = linked(egress(&link).to(serve(echo)), ask);
    for _ in 0..3 {
        for address in [ingress.address, others[0], others[1]] {
            assert_echoes(&mut seaprox_tests::peer::connect(address), b"hello");
        }
    }
}
