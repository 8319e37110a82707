//! Signals to a process of its own: this program starts itself again as a child that says on
//! stdout what it was told.

use seaprox_cli::signals::{Signal, Signals, worker_ended};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "SEAPROX_TEST_CHILD";

fn main() {
    if std::env::var_os(CHILD).is_some() {
        child();
    } else {
        parent();
        println!("signals: ok");
    }
}

fn child() {
    let signals = Signals::block().unwrap();
    // A thread that would die of the first signal if it were not blocked there too.
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    let soon = Instant::now() + Duration::from_millis(50);
    assert_eq!(signals.wait(Some(soon)), None);
    assert!(Instant::now() >= soon);
    assert_eq!(signals.wait(Some(soon)), None, "a deadline that has passed");
    std::thread::spawn(worker_ended).join().unwrap();
    assert_eq!(signals.wait(Some(soon)), Some(Signal::WorkerEnded), "pending ones come first");
    println!("ready");
    let mut ends = 0;
    while ends < 2 {
        let signal = signals.wait(None);
        println!("{signal:?}");
        ends += usize::from(signal == Some(Signal::End));
    }
}

fn parent() {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).env(CHILD, "1").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "ready");
    let kill = |signal: &str| {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    };
    kill("-HUP");
    assert_eq!(next(), "Some(LookUpAgain)");
    kill("-USR1");
    assert_eq!(next(), "Some(Status)");
    kill("-PIPE");
    kill("-STOP");
    kill("-CONT");
    kill("-TERM");
    assert_eq!(next(), "Some(End)", "neither SIGPIPE nor a stop ends or confuses it");
    kill("-INT");
    assert_eq!(next(), "Some(End)");
    assert!(child.wait().unwrap().success());
}
