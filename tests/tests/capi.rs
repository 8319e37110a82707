//! The library for C: its header, and programs in C and Python that are built with it and run. The
//! programs in C run as they are, with AddressSanitizer in their own code, and under valgrind.

use seaprox_tests::bytes::pattern;
use seaprox_tests::peer::{
    accept, assert_refused, assert_rest, connect, end, listen, read_bytes, send_pattern, serve,
    vacant_address,
};
use seaprox_tests::process::{Process, Signal};
use seaprox_tests::program::workspace;
use seaprox_tests::{eventually, run};
use std::fs::create_dir_all;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// The header is what cbindgen makes of the package now.
#[test]
fn the_header_is_up_to_date() {
    let package = workspace().join("capi");
    let config =
        cbindgen::Config::from_file(package.join("cbindgen.toml")).expect("it can be read");
    let bindings = cbindgen::Builder::new().with_crate(&package).with_config(config).generate();
    let mut made = Vec::new();
    bindings.expect("it can be made").write(&mut made);
    let path = package.join("include/seaprox.h");
    if std::env::var_os("SEAPROX_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).expect("it can be written");
    }
    let committed = std::fs::read(&path).expect("there is one");
    assert!(
        made == committed,
        "capi/include/seaprox.h is old: SEAPROX_WRITE_HEADER=1 makes it anew"
    );
}

/// A folder to build in, that stays for the next time.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi").join(name)
}

/// What [`plain_library`] is built for: other sizes than the header has of itself.
const SIZES: [(&str, &str); 2] =
    [("SEAPROX_MAX_NUM_CONNECTIONS", "256"), ("SEAPROX_NUM_THREADS", "2")];

/// Builds the library in this profile, as anybody does; where it is.
fn build(profile: &str, sizes: &[(&str, &str)]) -> PathBuf {
    let folder = folder("library");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--profile", profile, "--locked", "-p", "seaprox-capi", "--target-dir"])
        .arg(&folder)
        .env_remove("SEAPROX_MAX_NUM_CONNECTIONS")
        .env_remove("SEAPROX_NUM_THREADS")
        .envs(sizes.iter().copied())
        .current_dir(workspace())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join(if profile == "dev" { "debug" } else { profile })
}

/// Where the library is.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = build("release", &[]);
        let link = library.join("libseaprox.so.0");
        // As an installation would: the name that programs ask the loader for.
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("libseaprox.so", &link).expect("a link can be made");
        }
        library
    })
}

/// Where it is without optimizations, which valgrind cannot follow: they branch on what is not set
/// where the outcome does not matter.
fn plain_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build("dev", &SIZES))
}

/// How a program in C is built and run.
#[derive(Clone, Copy, Debug)]
enum How {
    /// With the shared library.
    Shared,
    /// With the static one, and every call to the heap counted by the program.
    Counted,
    /// With the static one, and AddressSanitizer and UndefinedBehaviorSanitizer in what is C.
    Sanitized,
    /// With the static one, under valgrind.
    Watched,
}

const ALL: [How; 3] = [How::Shared, How::Sanitized, How::Watched];

/// What [`How::Counted`] tells the linker: the program has functions `__wrap_malloc` and so on.
const WRAPPED: &str = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign";

impl How {
    /// Builds a program; where it is.
    fn build(self, source: &str) -> PathBuf {
        let library = if let How::Watched = self { plain_library() } else { library() };
        let programs = folder("programs");
        create_dir_all(&programs).expect("a folder can be made");
        let name = Path::new(source).file_stem().expect("a file").to_str().expect("UTF-8");
        let program = programs.join(format!("{name}-{self:?}"));
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let include = format!("-I{}", text(&workspace().join("capi/include")));
        let (source, out) = (text(&workspace().join(source)), text(&program));
        let (archive, folder) = (text(&library.join("libseaprox.a")), text(library));
        let common = "cc -std=gnu11 -Wall -Wextra -Wpedantic -Werror -g -O1 -pthread".split(' ');
        let mut command: Vec<&str> = common.chain([&*include, "-o", &out, &source]).collect();
        let sizes = SIZES.map(|(name, size)| format!("-D{name}={size}"));
        let search = [format!("-L{folder}"), format!("-Wl,-rpath,{folder}")];
        match self {
            How::Shared => command.extend([&search[0], &search[1], "-lseaprox"]),
            How::Counted => command.extend([&*archive, "-DCOUNTED", WRAPPED]),
            How::Sanitized => command.extend([
                &*archive,
                "-fsanitize=address,undefined",
                "-fno-sanitize-recover=all",
            ]),
            How::Watched => {
                command.extend([&*archive, "-DUNDER_VALGRIND"]);
                command.extend(sizes.iter().map(String::as_str));
            }
        }
        run(&command);
        program
    }

    fn command(self, program: &Path) -> Command {
        match self {
            How::Watched => {
                let mut command = Command::new("valgrind");
                // The library has no heap, and the C library keeps some of its own.
                command.args(["--quiet", "--error-exitcode=99", "--leak-check=no"]);
                let known = workspace().join("tests/c/valgrind.supp");
                command.arg(format!("--suppressions={}", known.display())).arg(program);
                command
            }
            How::Shared | How::Counted | How::Sanitized => Command::new(program),
        }
    }
}

/// Runs a test program in C to its end, in these ways; it must find all as it should be.
fn prove(source: &str, ways: &[How]) {
    for how in ways {
        let output = how.command(&how.build(source)).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{how:?} cannot be run: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{source} {how:?}: {}: {said}", output.status);
        assert_eq!(output.stdout, b"all so\n", "{source} {how:?}: {said}");
        assert_eq!(said, "", "{source} {how:?}");
    }
}

/// A proxy of the embedder's, running; ended with this value.
struct Embedder {
    child: Child,
    stdout: BufReader<ChildStdout>,
    at: SocketAddr,
}

impl Embedder {
    /// Starts it, and waits until it says where it listens.
    #[track_caller]
    fn start(mut command: Command) -> Embedder {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it speaks UTF-8");
        let Some(at) = line.strip_prefix("listening ").and_then(|at| at.trim_end().parse().ok())
        else {
            let mut said = String::new();
            let _ = child.stderr.as_mut().expect("it is a pipe").read_to_string(&mut said);
            panic!("{command:?}: {line:?}, {said}")
        };
        Embedder { child, stdout, at }
    }

    fn process(&self) -> Process {
        Process::child(&self.child)
    }

    /// Waits for its end in order; what it has said on stdout since, and on stderr.
    #[track_caller]
    fn ended(mut self) -> (String, String) {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        let (mut out, mut error) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).expect("it speaks UTF-8");
        let stderr = self.child.stderr.as_mut().expect("it is a pipe");
        stderr.read_to_string(&mut error).expect("it speaks UTF-8");
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {error}");
        (out, error)
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Streams both ways at once, ended by whichever end; gives how many bytes they were.
fn relay(at: SocketAddr, backend: &TcpListener, bytes: usize) -> usize {
    exchange(connect(at), accept(backend), bytes)
}

/// The same with both ends of a connection.
fn exchange(mut client: TcpStream, mut target: TcpStream, bytes: usize) -> usize {
    let sent = [send_pattern(&client, 1, bytes), send_pattern(&target, 2, bytes)];
    std::thread::scope(|scope| {
        scope.spawn(|| assert_rest(&mut client, &pattern(2, bytes)));
        scope.spawn(|| assert_rest(&mut target, &pattern(1, bytes)));
    });
    sent.into_iter().for_each(|sent| sent.join().expect("all of it is taken"));
    2 * bytes
}

#[test]
fn what_c_is_told() {
    prove("tests/c/abi.c", &ALL);
}

#[test]
fn dests_that_c_connects() {
    prove("tests/c/external.c", &[How::Shared, How::Counted, How::Sanitized, How::Watched]);
}

#[test]
fn hostile_proxy_types_lose_their_own_client() {
    prove("tests/c/hostile.c", &ALL);
}

#[test]
fn links() {
    prove("tests/c/links.c", &ALL);
}

/// A page that says this, to each who asks once.
fn serve_page(words: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            request.push(byte[0]);
        }
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", words.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(words.as_bytes());
    })
}

/// What curl gets through this proxy, or its exit code (curl(1): 97 is "the proxy said no").
fn curl(proxy: &str, url: &str) -> Result<String, Option<i32>> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "30", "--noproxy", "", "--proxy", proxy, url]);
    let output = curl.stdin(Stdio::null()).output().expect("curl can be run");
    let said = String::from_utf8(output.stdout).expect("it is UTF-8");
    if output.status.success() { Ok(said) } else { Err(output.status.code()) }
}

/// SOCKS 5 in C.
#[test]
fn socks5() {
    let page = serve_page("a page\n");
    let (host, port) = (page.ip(), page.port());
    let refused = vacant_address();
    for how in ALL {
        let mut command = how.command(&how.build("examples/c/socks5.c"));
        command.arg("127.0.0.1:0");
        let proxy = Embedder::start(command);
        let at = proxy.at;
        let ways = [format!("socks5://{at}"), format!("socks5h://{at}")];
        for way in &ways {
            assert_eq!(curl(way, &format!("http://{page}/")), Ok("a page\n".into()), "{how:?}");
            assert_eq!(curl(way, &format!("http://{refused}/")), Err(Some(97)), "{how:?}");
        }
        let [_, with_names] = &ways;
        let local = serve_local();
        let named = curl(with_names, &format!("http://localhost:{}/", local.port()));
        assert_eq!(named, Ok("local\n".into()), "{how:?}");
        assert_eq!(curl(with_names, "http://no-such-name.invalid/"), Err(Some(97)), "{how:?}");

        // Piece by piece, and all at once with what is for the dest.
        let (IpAddr::V4(ip), [high, low]) = (host, port.to_be_bytes()) else { unreachable!() };
        let request = [&[5, 1, 0, 1][..], &ip.octets(), &[high, low]].concat();
        let said = [&[5, 2, 2, 0][..], &request, b"GET / HTTP/1.0\r\n\r\n"].concat();
        for pieces in [1, said.len()] {
            let mut client = connect(at);
            client.set_nodelay(true).expect("it is tcp");
            for piece in said.chunks(pieces) {
                client.write_all(piece).expect("it is heard");
            }
            let expected = [&[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"HTTP/1.0 200 OK"].concat();
            assert_eq!(read_bytes(&client, expected.len()), expected, "{how:?}");
        }
        for (said, told) in [
            (&[5, 1, 2][..], &[5, 0xff][..]),
            (&[5, 1, 0, 5, 2, 0, 1, 0], &[5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
            (&[5, 1, 0, 5, 1, 0, 9, 0], &[5, 0, 5, 8, 0, 1, 0, 0, 0, 0, 0, 0]),
        ] {
            let mut client = connect(at);
            client.write_all(said).expect("it is heard");
            assert_rest(&mut client, told);
        }
        assert_refused(at, b"GET / HTTP/1.0\r\n\r\n");

        let mut bulk = connect(at);
        let backend = listen();
        let SocketAddr::V4(target) = backend.local_addr().expect("an address") else {
            unreachable!()
        };
        let [high, low] = target.port().to_be_bytes();
        let said = [&[5, 1, 0, 5, 1, 0, 1][..], &target.ip().octets(), &[high, low]].concat();
        bulk.write_all(&said).expect("it is heard");
        assert_eq!(read_bytes(&bulk, 12)[..4], [5, 0, 5, 0]);
        exchange(bulk, accept(&backend), 3 << 20);
        proxy.process().signal(Signal::SIGTERM);
        assert_eq!(proxy.ended(), (String::new(), String::new()), "{how:?}");
    }
}

/// A page at the name of this machine.
fn serve_local() -> SocketAddr {
    let listener = TcpListener::bind(("localhost", 0)).expect("this machine has a name");
    let at = listener.local_addr().expect("a listener has an address");
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nlocal\n");
    });
    at
}

/// SOCKS 4a in Python.
#[test]
fn python_talks() {
    let page = serve_page("a page\n");
    let mut command = python("socks4a.py");
    command.arg("127.0.0.1:0");
    let proxy = Embedder::start(command);
    let ways = [format!("socks4://{}", proxy.at), format!("socks4a://{}", proxy.at)];
    for way in &ways {
        assert_eq!(curl(way, &format!("http://{page}/")), Ok("a page\n".into()));
        assert_eq!(curl(way, &format!("http://{}/", vacant_address())), Err(Some(97)));
    }
    let local = serve_local();
    assert_eq!(
        curl(&ways[1], &format!("http://localhost:{}/", local.port())),
        Ok("local\n".into())
    );
    assert_eq!(curl(&ways[1], "http://no-such-name.invalid/"), Err(Some(97)));
    assert_refused(proxy.at, b"GET / HTTP/1.0\r\n\r\n");
    proxy.process().signal(Signal::SIGTERM);
    assert_eq!(proxy.ended(), (String::new(), String::new()));
}

/// The header is C++ as well, and all that the library exports is in it.
#[test]
fn the_header_is_for_all() {
    let include = format!("-I{}", workspace().join("capi/include").display());
    let program = "#include <seaprox.h>\nint main() { return seaprox_sizeof() > SEAPROX_SIZE; }\n";
    let source = folder("programs").join("header.cpp");
    create_dir_all(folder("programs")).expect("a folder can be made");
    std::fs::write(&source, program).expect("a file can be written");
    let source = source.to_str().expect("a path in UTF-8");
    run(&["c++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", &include, source]);
    run(&[
        "cc",
        "-std=c99",
        "-Wall",
        "-Wpedantic",
        "-Werror",
        "-fsyntax-only",
        "-x",
        "c",
        &include,
        source,
    ]);

    let header = std::fs::read_to_string(workspace().join("capi/include/seaprox.h"));
    let header = header.expect("there is one");
    let library = library().join("libseaprox.so");
    let library = library.to_str().expect("a path in UTF-8");
    let symbols = run(&["nm", "-D", "--defined-only", library]);
    let exported = symbols.lines().filter_map(|line| line.split_whitespace().last());
    let exported: Vec<_> = exported.filter(|name| !name.starts_with('_')).collect();
    assert!(exported.len() > 30, "{symbols}");
    for name in exported {
        let declared = header.contains(&format!("{name}("));
        assert!(name.starts_with("seaprox_") && declared, "{name} is exported, and nobody knows");
    }
    let dynamic = run(&["readelf", "-d", library]);
    assert!(dynamic.contains("Library soname: [libseaprox.so.0]"), "{dynamic}");
}

/// What the README says that the default build wants.
#[test]
fn the_readme_says_how_much_memory() {
    create_dir_all(folder("programs")).expect("a folder can be made");
    let (source, program) = (folder("programs").join("size.c"), folder("programs").join("size"));
    let text = "#include <seaprox.h>\n#include <stdio.h>\n\
                int main(void) { return printf(\"%zu\", (size_t)SEAPROX_SIZE) < 0; }\n";
    std::fs::write(&source, text).expect("a file can be written");
    let include = format!("-I{}", workspace().join("capi/include").display());
    let [source, program] = [&source, &program].map(|path| path.to_str().expect("a path in UTF-8"));
    run(&["cc", &include, source, "-o", program]);
    let bytes = run(&[program]);
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("there is one");
    let (_, said) = readme.split_once("array of `SEAPROX_SIZE` bytes (").expect("it says so");
    let said: String = said.chars().take_while(|c| *c != ' ').filter(|c| *c != ',').collect();
    assert_eq!(said, bytes.trim());
}

#[test]
fn sizes_that_cannot_be_are_refused_in_words() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for (sizes, says) in [
        (&[("SEAPROX_MAX_NUM_CONNECTIONS", "0")][..], "SEAPROX_MAX_NUM_CONNECTIONS is `0`"),
        (&[("SEAPROX_MAX_NUM_CONNECTIONS", "+4")], "is `+4`: set it to a whole number from 1 to"),
        (&[("SEAPROX_NUM_THREADS", "")], "SEAPROX_NUM_THREADS is ``"),
        (
            &[("SEAPROX_MAX_NUM_CONNECTIONS", "2"), ("SEAPROX_NUM_THREADS", "3")],
            "SEAPROX_NUM_THREADS is 3: set it to at most SEAPROX_MAX_NUM_CONNECTIONS, 2",
        ),
    ] {
        let output = Command::new(&cargo)
            .args(["check", "--locked", "-p", "seaprox-capi", "--target-dir"])
            .arg(folder("sizes"))
            .envs(sizes.iter().copied())
            .current_dir(workspace())
            .output()
            .expect("cargo can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{sizes:?} is taken");
        assert!(said.contains(says) && !said.contains("panicked"), "{sizes:?}: {said}");
    }
}

/// Python, with its examples and the library.
fn python(script: &str) -> Command {
    let mut python = Command::new("python3");
    python.arg(workspace().join("examples/python").join(script));
    python
        .env("SEAPROX_LIBRARY", library().join("libseaprox.so.0"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

/// Names are looked up and connected in Python; nobody listens at the end.
#[test]
fn python_connects() {
    let backend = TcpListener::bind(("localhost", 0)).expect("this machine has a name");
    let port = backend.local_addr().expect("a listener has an address").port();
    let mut command = python("external_connect.py");
    command.args(["127.0.0.1:0", "localhost", &port.to_string()]);
    let proxy = Embedder::start(command);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| relay(proxy.at, &backend, 100_000));
        }
    });
    drop(backend);
    assert_refused(proxy.at, b"hello");
    proxy.process().signal(Signal::SIGTERM);
    assert_eq!(proxy.ended(), (String::new(), String::new()));

    let mut command = python("external_connect.py");
    command.args(["127.0.0.1:0", "no-such-name.invalid", "80"]);
    let proxy = Embedder::start(command);
    assert_refused(proxy.at, b"hello");
    proxy.process().signal(Signal::SIGTERM);
    assert_eq!(proxy.ended(), (String::new(), String::new()));
}

#[test]
fn static_proxy() {
    for how in ALL {
        let program = how.build("examples/c/static_proxy.c");
        let backend = listen();
        let target = backend.local_addr().expect("a listener has an address").to_string();
        let mut command = how.command(&program);
        // The first target is nobody's.
        command.args(["127.0.0.1:0", "127.0.0.1:1", &target]);
        let proxy = Embedder::start(command);
        let mut bytes = relay(proxy.at, &backend, 1);
        bytes += relay(proxy.at, &backend, 3 << 20);

        // A signal drains: what runs is finished, nobody else is taken.
        let (client, mut last) = (connect(proxy.at), accept(&backend));
        proxy.process().signal(Signal::SIGTERM);
        eventually("nobody listens", || !proxy.process().listens_on(proxy.at.port()));
        end(&client);
        assert_rest(&mut last, b"");
        end(&last);
        let (out, said) = proxy.ended();
        assert_eq!(out, format!("3 connections, {bytes} bytes\n"), "{how:?}: {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("closed static[ipv4[")).count(), 3);
    }
}
