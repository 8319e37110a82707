//! How the program starts, or says in one line why it does not.

use seaprox_tests::eventually;
use seaprox_tests::launch::Launch;
use seaprox_tests::namespace::Namespace;
use seaprox_tests::peer::{
    accept_within, assert_echoes, connect, echo, listen, serve, vacant_address, vacant_port,
};
use seaprox_tests::process::{Process, Signal};
use seaprox_tests::program::{output, program};
use seaprox_tests::trace::temporary;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

/// # Panics
/// It does not end with this code and one line that names the argument.
#[track_caller]
fn assert_fails(arguments: &[&str], code: i32, names: &str) {
    let (ended, stdout, stderr) = output(arguments);
    assert_eq!(ended, Some(code), "{arguments:?}: {stderr}");
    assert_line(&stderr, names);
    assert_eq!(stdout, "");
}

#[track_caller]
fn assert_line(stderr: &str, names: &str) {
    let is_one_line = stderr.lines().count() == 1 && stderr.ends_with('\n');
    assert!(is_one_line && stderr.starts_with("seaprox: "), "{stderr:?}");
    assert!(stderr.contains(names), "{stderr:?} does not name {names:?}");
}

#[test]
fn bad_addresses_are_named() {
    let target = "127.0.0.1:80";
    for listen in [
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:http",
        "127.0.0.256:80",
        "1.2.3:80",
        "[::1:80",
        "[::1]",
        "[::g]:80",
        "::1:80",
        "unix:",
        "fd:",
        ":0",
        ":65536",
        "unix:/\u{7f}\n",
    ] {
        if listen.contains('\n') {
            // Whatever it thinks of such a path, it must be one line.
            let (_, _, stderr) = output(&["static", listen, "127.0.0.1:0"]);
            assert_line(&stderr, "");
            continue;
        }
        assert_fails(&["static", listen, target], 64, listen);
    }
    for target in ["", "host", "host:", "host:0", "host:65536", ":80", "1.2.3.4.5:80x", "[::1]:"] {
        assert_fails(&["static", "127.0.0.1:8080", target], 64, target);
    }
    assert_fails(&["static", "127.0.0.1:8080", &format!("{}:80", "a".repeat(300))], 64, "aaaa");
    assert_fails(&["static", &format!("unix:/{}", "a".repeat(300)), target], 64, "unix:/aaaa");
}

#[test]
fn bad_words_are_named() {
    for (arguments, names) in [
        (&[][..], "command"),
        (&["statik"], "statik"),
        (&["static"], "LISTEN"),
        (&["static", ":8080"], "TARGET"),
        (&["static", ":8080", "a:1", "--frobnicate"], "--frobnicate"),
        (&["static", ":8080", "a:1", "--threads"], "--threads"),
        (&["static", ":8080", "a:1", "--threads", "0"], "--threads 0"),
        (&["static", ":8080", "a:1", "--threads", "100000"], "SEAPROX_NUM_THREADS"),
        (&["static", ":8080", "a:1", "--threads", "2", "--max-connections", "1"], "--threads 2"),
        (&["static", ":8080", "a:1", "--max-connections", "0"], "--max-connections 0"),
        (
            &["static", ":8080", "a:1", "--max-connections", "9999999"],
            "SEAPROX_MAX_NUM_CONNECTIONS",
        ),
        (&["static", ":8080", "a:1", "--max-connections", "9999999999999999999999"], "999999"),
        (&["static", ":8080", "a:1", "--max-connections", "ten"], "ten"),
        (&["static", ":8080", "a:1", "--connect-timeout", "5"], "--connect-timeout 5"),
        (&["static", ":8080", "a:1", "--connect-timeout", "0s"], "--connect-timeout 0s"),
        (&["static", ":8080", "a:1", "--idle-timeout", "1x"], "--idle-timeout 1x"),
        (&["static", ":8080", "a:1", "--half-close-timeout", ""], "--half-close-timeout"),
        (&["static", ":8080", "a:1", "--drain", "99999999999h"], "--drain"),
        (&["static", ":8080", "a:1", "--when-full", "panic"], "panic"),
        (&["static", ":8080", "a:1", "--log", "loud"], "loud"),
        (&["static", ":8080", "a:1", "--socket-buffer", "1"], "--socket-buffer 1"),
        (&["limits", "extra"], "extra"),
    ] {
        assert_fails(arguments, 64, names);
    }
    let too_many: Vec<_> = (0..200).map(|port| format!("a:{}", port + 1)).collect();
    let words = ["static", ":8080"].into_iter().chain(too_many.iter().map(String::as_str));
    assert_fails(&words.collect::<Vec<_>>(), 64, "TARGET");
}

/// What cannot be had on this machine is code 78.
#[test]
fn addresses_that_are_not_here() {
    for listen in ["203.0.113.7:8080", "[2001:db8::7]:8080", "unix:/nonexistent/socket", "fd:77"] {
        assert_fails(&["static", listen, "127.0.0.1:80"], 78, listen);
    }
    assert_fails(&["static", "fd:web", "127.0.0.1:80"], 78, "fd:web");
}

/// Two instances never share a port unseen, and nor does any other program's.
#[test]
fn a_port_in_use() {
    let target = serve(echo);
    let first = Launch::to(target).threads(2).start();
    let (code, stderr) = Launch::to(target).threads(2).listen(first.address).run();
    assert_eq!(code, Some(71));
    assert_line(&stderr, &first.address.to_string());
    (0..20).for_each(|_| assert_echoes(&mut first.connect(), b"undisturbed"));

    let taken = listen();
    let address = taken.local_addr().unwrap();
    let (code, stderr) = Launch::to(target).listen(address).run();
    assert_eq!(code, Some(71));
    assert_line(&stderr, &address.to_string());

    let port = vacant_port();
    let _everywhere = TcpListener::bind(("::", port)).unwrap();
    let (code, stderr) = Launch::to(target).listen(format!(":{port}")).run();
    assert_eq!(code, Some(71));
    assert_line(&stderr, &format!(":{port}"));
}

/// A path at which somebody listens is in use; one that an ended program has left is taken over,
/// and what is no socket is left alone.
#[test]
fn a_path_in_use() {
    let target = serve(echo);
    let path = temporary("socket");
    let listen = format!("unix:{}", path.display());
    let first = UnixListener::bind(&path).unwrap();
    let (code, stderr) = Launch::to(target).listen(&listen).run();
    assert_eq!(code, Some(71));
    assert_line(&stderr, &listen);
    drop(first);
    let proxy = Launch::to(target).listen(&listen).start();
    let (code, _) = Launch::to(target).listen(&listen).run();
    assert_eq!(code, Some(71));
    drop(proxy);
    let _ = std::fs::remove_file(&path);
    std::fs::File::create(&path).unwrap().write_all(b"precious").unwrap();
    let (code, stderr) = Launch::to(target).listen(&listen).run();
    assert_eq!(code, Some(71));
    assert_line(&stderr, &listen);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
}

/// A port below 1024 without the right to it: code 77, and a word of what to do.
#[test]
fn a_privileged_port() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 localhost\n");
    network.within(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024").unwrap();
        let drop_rights = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let copy = Launch::to("127.0.0.1:80").copied().wrapped(wrapper).wrapped(drop_rights);
        let (code, stderr) = copy.listen("127.0.0.1:80").run();
        assert_eq!(code, Some(77), "{stderr}");
        assert_line(&stderr, "127.0.0.1:80");
        assert!(stderr.contains("CAP_NET_BIND_SERVICE"), "{stderr}");
    });
}

/// RLIMIT_NOFILE is raised to what the limits need, without a word.
#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let launch = Launch::to(serve(echo)).descriptors(100, 8000);
    let proxy = launch.option("--max-connections", 300).start();
    let limits = proxy.process.field("limits", "Max open files");
    let soft: u32 = limits.split_whitespace().next().unwrap().parse().unwrap();
    assert!((600..=8000).contains(&soft), "{limits}");
    let mut clients: Vec<_> = (0..300).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_echoes(client, b"all of us");
    }
    proxy.wait_says("event=listening");
    assert!(!proxy.stderr().contains("level=warn"), "{}", proxy.stderr());
}

/// The hard limit is lower than what the limits need: one warning with both numbers, and the limit
/// that holds is the one that was announced.
#[test]
fn a_hard_limit_lowers_the_connections() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap()).descriptors(150, 150);
    let proxy = launch.option("--max-connections", 500).threads(2).start();
    proxy.wait_says("event=listening");
    let stderr = proxy.stderr();
    let warnings: Vec<_> = stderr.lines().filter(|line| line.contains("level=warn")).collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(warnings[0].contains("500") && warnings[0].contains("150"), "{}", warnings[0]);
    let (_, announced) = stderr.split_once("connections_max=").unwrap();
    let limit: usize = announced.split_whitespace().next().unwrap().parse().unwrap();
    assert!((10..75).contains(&limit), "{stderr}");
    let pairs: Vec<_> = (0..limit).map(|_| proxy.pair(&backend)).collect();
    let _one_more = proxy.connect();
    assert!(accept_within(&backend, Duration::from_millis(200)).is_none(), "above the limit");
    assert!(proxy.process.descriptors().len() <= 150);
    drop(pairs);
}

/// Not even one connection fits.
#[test]
fn a_hopeless_limit_of_descriptors() {
    let (code, stderr) = Launch::to("127.0.0.1:9").descriptors(20, 20).run();
    assert_eq!(code, Some(71), "{stderr}");
    assert_line(&stderr, "20");
}

/// Fewer threads or connections are no error, and are what is announced.
#[test]
fn limits_are_lowered_at_invocation() {
    let launch = Launch::to(serve(echo)).threads(3);
    let proxy = launch.option("--max-connections", 7).start();
    proxy.wait_says("connections_max=7 threads=3");
    assert_eq!(proxy.status("connections_max"), [3, 2, 2]);
}

/// The limits that are printed are those of this program.
#[test]
fn the_limits_are_printed() {
    let (code, stdout, stderr) = output(&["limits"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let number = |name: &str| -> u64 {
        let line = stdout.lines().find(|line| line.trim_start().starts_with(name));
        let words = line.unwrap_or_else(|| panic!("{name} is not printed:\n{stdout}"));
        let mut numbers = words.split_whitespace().filter_map(|word| word.parse().ok());
        numbers.next().unwrap()
    };
    let connections = number("connections (SEAPROX_MAX_NUM_CONNECTIONS)");
    let most = (connections + 1).to_string();
    assert_fails(&["static", ":8080", "a:1", "--max-connections", &most], 64, &most);
    assert_eq!(number("two for each connection"), 2 * connections);

    // The table, the buffers and the log are .bss: the program has at least as much of it, and
    // the part that is not is small.
    let headers = seaprox_tests::run(&["readelf", "-SW", program().to_str().unwrap()]);
    let bss = headers.lines().find(|line| line.contains(" .bss ")).expect("there is a .bss");
    let size = bss.split_whitespace().rev().nth(5).expect("sections have sizes");
    let size = u64::from_str_radix(size, 16).unwrap();
    let parts: u64 = ["table", "buffers and counters", "log, lines", "resolver, names"]
        .into_iter()
        .map(number)
        .sum();
    assert!((parts..parts + 64 * 1024).contains(&size), ".bss has {size} bytes, said {parts}");

    let (_, other, _) = output(&["limits", "--socket-buffer", "8192"]);
    assert!(other.contains("--socket-buffer 8192"), "{other}");
}

#[test]
fn help_and_version() {
    for (arguments, part) in [
        (&["--help"][..], "seaprox static 127.0.0.1:8080 example.org:80"),
        (&["static", "--help"], "--max-connections"),
        (&["static", "-h"], "--when-full"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let (code, stdout, stderr) = output(arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(stdout.contains(part), "{arguments:?}: {stdout}");
    }
}

/// The standard streams are closed: no socket takes their numbers, and nothing is written to one.
#[test]
fn without_standard_streams() {
    let script = "exec \"$@\" <&- >&- 2>&-";
    let launch = Launch::to(serve(echo)).wrapped(["sh", "-c", script, "sh"]);
    let proxy = launch.flag("--log-connections").start();
    let clean = proxy.sockets();
    for _ in 0..20 {
        assert_echoes(&mut proxy.connect(), b"hello");
    }
    proxy.wait_sockets(clean);
}

/// As whoever looks for its costs runs it (callgrind): the kernel of valgrind's programs has no vDSO.
#[test]
fn it_runs_under_valgrind() {
    let at = vacant_address();
    let target = serve(echo).to_string();
    let mut command = Command::new("valgrind");
    command.args(["--tool=none", "--quiet"]).arg(program());
    command.args(["static", &at.to_string(), &target]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("valgrind can be run");
    let process = Process::child(&child);
    eventually("it listens", || {
        assert_eq!(child.try_wait().expect("it is our child"), None, "it has ended");
        process.listens_on(at.port())
    });
    let mut client = connect(at);
    assert_echoes(&mut client, b"through valgrind");
    drop(client);
    process.signal(Signal::SIGTERM);
    assert_eq!(child.wait().expect("it is our child").code(), Some(0));
}
