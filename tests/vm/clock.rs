//! The wall clock steps, forwards and backwards. Only in the machine of tests/vm/run, where it is nobody
//! else's; elsewhere each test says that it is skipped.

use seaprox_tests::ends::{egress, ingress, vacant_path};
use seaprox_tests::launch::Launch;
use seaprox_tests::peer::{End, assert_echoes, assert_ends, echo, listen, serve, vacant_address};
use seaprox_tests::run;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Days are what a clock is wrong by that nobody has set.
const STEPS: [&str; 4] = ["+1 day", "-30 days", "+1 year", "-2 years"];

/// The clock; one test at a time has it.
struct Clock(#[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Clock {
    fn take() -> Option<Clock> {
        static CLOCK: Mutex<()> = Mutex::new(());
        if std::env::var_os("SEAPROX_VM").is_none() {
            println!("skipped: the clock is not ours to set");
            return None;
        }
        Some(Clock(CLOCK.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn step(&self, by: &str) {
        run(&["date", "--set", by]);
    }
}

/// Nobody's time is over because the clock says so, nor lasts longer.
#[test]
fn timeouts_do_not_look_at_the_wall_clock() {
    let Some(clock) = Clock::take() else { return };
    let backend = listen();
    let launch = Launch::to(backend.local_addr().expect("it has one"));
    let proxy =
        launch.option("--idle-timeout", "20s").option("--half-close-timeout", "20s").start();
    let (mut silent, _silent_server) = proxy.pair(&backend);
    let begun = Instant::now();
    let (mut client, server) = proxy.pair(&backend);
    let echoes = thread::spawn(move || echo(server));
    for by in STEPS {
        clock.step(by);
        thread::sleep(Duration::from_millis(500));
        assert_echoes(&mut client, b"still here");
    }
    assert_eq!(proxy.connections(), 2, "after {:?}", begun.elapsed());
    assert_ends(&mut silent, End::Rst);
    assert!(begun.elapsed() > Duration::from_secs(15), "after {:?}", begun.elapsed());
    assert_ends(&mut client, End::Rst);
    echoes.join().expect("it echoes until it is reset");
}

/// The first words of a link with keys tell the sender's time, so that nobody can play them again.
#[test]
fn links_with_keys_come_up_again_whatever_the_clock_says() {
    let Some(clock) = Clock::take() else { return };
    for link in [vacant_path(), format!("udp:{}", vacant_address())] {
        let egress = egress(&link).sealed().to(serve(echo)).start();
        for (round, by) in STEPS.into_iter().enumerate() {
            let before = ingress(&link).sealed().start();
            egress.wait_says_times("event=\"link up\"", 2 * round + 1);
            let mut client = before.connect();
            assert_echoes(&mut client, b"before");
            clock.step(by);
            assert_echoes(&mut client, b"on the same connection");
            drop((client, before));
            // Another one, which remembers no time.
            let after = ingress(&link).sealed().start();
            egress.wait_says_times("event=\"link up\"", 2 * round + 2);
            assert_echoes(&mut after.connect(), b"after");
        }
    }
}
