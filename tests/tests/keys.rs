//! Keys of links from outside: how they are made and kept, who has a link with them, what each peer may do
//! over it, and what the program shows of them, which is nothing. What happens on the wire is in
//! tests/sealed, tests/udp and sealed_udp.rs.

use seaprox_noise::keys::{Public, Secret};
use seaprox_tests::ends::{End, egress, ingress, vacant_link, vacant_path};
use seaprox_tests::keys::{self, Key, psk};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{
    assert_echoes, assert_refused, echo, own_ip, read_bytes, serve, vacant_address, vacant_port,
};
use seaprox_tests::program::program;
use seaprox_tests::trace::{temporary, trace_file};
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A secret, and what it is known by (RFC 7748, section 6.1).
const SECRET: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

/// A link over each of the two carriers that every machine has.
fn links() -> [String; 2] {
    [vacant_path(), format!("udp:{}:{}", own_ip(), vacant_port())]
}

/// A folder of this test's, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = temporary("keys");
        fs::create_dir(&path).expect("a vacant name");
        Folder(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("there is room");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        path.to_str().expect("a path in UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Its exit code, and what it said on stdout and stderr.
fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("it can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A script in which `seaprox` is the program.
fn script(folder: &Folder, text: &str) -> (Option<i32>, String, String) {
    let bin = folder.0.join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    let _ = std::os::unix::fs::symlink(
        program().canonicalize().expect("it is there"),
        bin.join("seaprox"),
    );
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    output(Command::new("sh").args(["-c", text]).env("PATH", path).current_dir(&folder.0))
}

#[test]
fn keys_are_made_as_people_know_them() {
    let folder = Folder::new();
    let made = |verb: &str| {
        let (code, key, said) = script(&folder, &format!("seaprox {verb}"));
        assert_eq!((code, &said[..]), (Some(0), ""));
        key.strip_suffix('\n').expect("a line").to_owned()
    };
    let secrets = [made("genkey"), made("genkey")];
    assert_ne!(secrets[0], secrets[1]);
    for secret in &secrets {
        let owner = Secret::from_base64(secret.as_bytes()).expect("a key").public().to_string();
        let (code, public, _) = script(&folder, &format!("echo {secret} | seaprox pubkey"));
        assert_eq!((code, public), (Some(0), format!("{owner}\n")));
    }
    let psks = [made("genpsk"), made("genpsk")];
    assert!(psks[0] != psks[1] && psks.iter().all(|psk| psk.len() == 44 && psk.ends_with('=')));
    assert_eq!(
        script(&folder, &format!("echo {SECRET} | seaprox pubkey")).1,
        format!("{PUBLIC}\n")
    );
    // What is no key, or none at all, is a line, and does not show what it was.
    for wrong in [&SECRET[1..], "", &SECRET.repeat(2)] {
        let (code, key, said) = script(&folder, &format!("printf '%s' '{wrong}' | seaprox pubkey"));
        assert_eq!((code, &key[..], said.lines().count()), (Some(1), "", 1), "{said}");
        assert!(said.starts_with("seaprox: stdin: ") && !said.contains(&SECRET[2..40]), "{said}");
    }
}

/// Without keys nothing starts; what the program says to do then makes keys with which it does.
#[test]
fn what_it_says_to_do_without_keys_works() {
    for link in [&links()[..], &["sctp:127.0.0.1:7000".into()]].concat() {
        let folders = [Folder::new(), Folder::new()];
        let words =
            [format!("egress {link} 127.0.0.1:9"), format!("ingress {} {link}", vacant_address())];
        let mut publics = Vec::new();
        for (folder, words) in folders.iter().zip(&words) {
            let (code, _, said) = script(folder, &format!("seaprox {words}"));
            assert_eq!((code, said.lines().count()), (Some(64), 1), "{said}");
            let commands: Vec<_> = said.split('`').skip(1).step_by(2).collect();
            let [make, show, start] = commands[..] else { panic!("three commands: {said}") };
            assert_eq!(script(folder, make), (Some(0), String::new(), String::new()));
            publics.push((script(folder, show).1.trim().to_owned(), start.to_owned()));
        }
        if link.starts_with("sctp:") {
            // Not every kernel has it.
            continue;
        }
        let mut running = Vec::new();
        for (end, words) in words.iter().enumerate() {
            let key = folders[end].0.join("link.key");
            let (other, start) = (&publics[1 - end].0, &publics[end].1);
            let options =
                start.replace("KEY", other).replace("link.key", key.to_str().expect("UTF-8"));
            let link = if end == 0 { egress(&link).to("127.0.0.1:9") } else { ingress(&link) };
            assert!(!words.is_empty());
            running.push(link.protected(options.split(' ')).start());
        }
        running.iter().for_each(|end| end.wait_says("event=\"link up\""));
    }
}

/// Keys that are none, or everybody's, or this end's own: both ends say so in a line and do not start.
#[test]
fn keys_that_protect_nothing_are_refused() {
    let folder = Folder::new();
    let key = folder.write("key", SECRET, 0o600);
    let open = [0o640, 0o604, 0o660].map(|mode| folder.write(&format!("{mode:o}"), SECRET, mode));
    let other = &keys::of_ends()[0].public;
    let chmod = |path: &str| format!("others can read or change it: `chmod 600 {path}`");
    let mut cases = vec![
        (vec!["--key", &key, "--peer", PUBLIC], 78, "the peer's key is this end's own".to_owned()),
        (vec!["--key", "/no/such/key", "--peer", other], 78, "there is no such file".into()),
        (vec!["--key", &key, "--peer", other, "--psk", &open[0]], 78, chmod(&open[0])),
        (vec!["--key", SECRET, "--peer", other], 64, "make a new key".into()),
    ];
    for open in &open {
        cases.push((vec!["--key", open, "--peer", other], 78, chmod(open)));
    }
    // Zero, one, two points of order 8, and what is congruent to -1, 0 and 1.
    for low in [
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
        "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
        "7P///////////////////////////////////////38=",
        "7f///////////////////////////////////////38=",
        "7v///////////////////////////////////////38=",
    ] {
        assert!(Public::from_base64(low.as_bytes()).is_err());
        cases.push((vec!["--key", &key, "--peer", low], 64, "key".into()));
    }
    let address = vacant_address().to_string();
    for link in links() {
        for end in [["egress", &link, &address], ["ingress", &address, &link]] {
            for (words, code, why) in &cases {
                let (ended, _, said) = output(Command::new(program()).args(end).args(words));
                assert_eq!((ended, said.lines().count()), (Some(*code), 1), "{words:?}: {said}");
                assert!(said.contains(why.as_str()), "{words:?}: {said}");
                assert!(!said.contains(SECRET), "{said}");
            }
        }
    }
}

/// What a service manager hands over is found by its name alone, and comes before a file of that name.
#[test]
fn credentials_are_found_by_their_names() {
    let (credentials, elsewhere) = (Folder::new(), Folder::new());
    let [own, far] = [Key::new(), Key::new()];
    let secret = fs::read_to_string(&own.file).expect("it is ours");
    // As systemd leaves them: its ACL shows where the group's rights do.
    credentials.write("link.key", &secret, 0o440);
    elsewhere.write("link.key", SECRET, 0o600);
    let environment = format!("CREDENTIALS_DIRECTORY={}", credentials.0.display());
    for link in links() {
        let words = ["env", "-C", elsewhere.0.to_str().expect("UTF-8"), &environment];
        let _egress = egress(&link)
            .protected(["--key", "link.key", "--peer", &far.public])
            .to("127.0.0.1:9")
            .wrapped(words)
            .start();
        ingress(&link).keyed(&far, &own).start().wait_says("event=\"link up\"");
    }
}

/// No link, however often it is tried while one looks.
fn have_no_link(egress: End, ingress: End) {
    let egress = egress.to("127.0.0.1:9").start();
    let ingress = ingress.option("--connect-timeout", "1s").start();
    ingress.wait_says_times("link down", 2);
    for end in [&ingress, &egress] {
        assert!(!end.stderr().contains("link up"), "{}", end.stderr());
    }
}

/// As over udp in sealed_udp.rs.
#[test]
fn other_keys_or_none_have_no_link_over_seqpacket() {
    let [own, far] = keys::of_ends();
    let other = Key::new();
    let psk = psk();
    let with_psk = |end: End| end.sealed().option("--psk", psk.display());
    let link = vacant_path();
    have_no_link(egress(&link).sealed(), ingress(&link).keyed(&other, far));
    let link = vacant_path();
    have_no_link(egress(&link).sealed(), ingress(&link).keyed(own, &other));
    let link = vacant_path();
    have_no_link(with_psk(egress(&link)), ingress(&link).sealed());
    let link = vacant_path();
    have_no_link(egress(&link).sealed(), with_psk(ingress(&link)));
    // Nor is there a way down to a link without keys, from either end.
    let link = vacant_path();
    have_no_link(egress(&link).insecure(), ingress(&link).sealed());
    let link = vacant_path();
    have_no_link(egress(&link).sealed(), ingress(&link).insecure());
    let link = vacant_path();
    let _egress = with_psk(egress(&link)).to("127.0.0.1:9").start();
    with_psk(ingress(&link)).start().wait_says("event=\"link up\"");
    fs::remove_file(psk).expect("it is there");
}

/// Writes the name it was given to each client, and waits for the client's word.
fn named(name: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
        echo(stream);
    })
}

fn refused_for(ingress: &Proxy, reason: &str) {
    let before = ingress.failed(reason);
    assert_refused(ingress.address, b"hello");
    ingress.wait_says(&format!("reason={reason}"));
    assert_eq!(ingress.failed(reason), before + 1);
}

/// A list gives each peer rights and limits of its own, and what one uses up the others still have.
#[test]
fn each_peer_has_what_the_list_gives_it() {
    let folder = Folder::new();
    let [own, web, all, named_by, quick] = [(); 5].map(|()| Key::new());
    let psk = psk();
    let to = named("to!");
    let list = format!(
        "web {} services=web channels=2\nall {} psk={}\n\
         named {} services= allow=127.0.0.0/8:{} # no service\nquick {} opens-per-second=3\n",
        web.public,
        all.public,
        psk.display(),
        named_by.public,
        to.port(),
        quick.public,
    );
    let list = folder.write("peers", &list, 0o644);
    for link in links() {
        let file = own.file.to_str().expect("UTF-8");
        let egress = egress(&link)
            .protected(["--key", file, "--peers", &list])
            .option("--service", format!("web={}", named("web")))
            .option("--service", format!("db={}", named("db!")))
            .threads(4)
            .to(named("own"))
            .start();
        let ask = |key: &Key| ingress(&link).keyed(key, &own).flag("--log-connections");
        let up = |end: End| {
            let end = end.start();
            end.wait_says("event=\"link up\"");
            end
        };
        // What it may, and what it may not.
        let of_web = up(ask(&web).option("--service", "web"));
        let answer = |ingress: &Proxy| {
            let client = ingress.connect();
            let name = String::from_utf8(read_bytes(&client, 3)).expect("a name");
            (client, name)
        };
        let first = answer(&of_web);
        let _second = answer(&of_web);
        assert_eq!(first.1, "web");
        // Of its two it has both; another peer has what it wants.
        refused_for(&of_web, "over-limit");
        let of_all = up(ask(&all).option("--psk", psk.display()).option("--service", "web"));
        let many: Vec<_> = (0..10).map(|_| answer(&of_all)).collect();
        assert!(many.iter().all(|(_, name)| name == "web"));
        drop(first);
        seaprox_tests::eventually("one of two is gone", || of_web.connections() == 1);
        assert_eq!(answer(&of_web).1, "web");
        drop(of_web);
        drop(many);
        drop(of_all);
        for service in ["db", ""] {
            let asking = ask(&web);
            let asking =
                if service.is_empty() { asking } else { asking.option("--service", service) };
            refused_for(&up(asking), "denied");
        }
        // Patterns of its own, and no service.
        let of_named = up(ask(&named_by).option("--to", to));
        assert_eq!(answer(&of_named).1, "to!");
        drop(of_named);
        refused_for(&up(ask(&named_by)), "denied");
        refused_for(&up(ask(&named_by).option("--to", vacant_address())), "denied");
        // Three a second, and so 20 at once are too many.
        let of_quick = up(ask(&quick));
        // One that is reset before it has seen that it is connected counts too.
        let come = |_| TcpStream::connect(of_quick.address).ok();
        let many: Vec<_> = (0..20).filter_map(come).collect();
        of_quick.wait_says("reason=over-limit");
        assert!((3..20).contains(&of_quick.connections()), "{}", of_quick.connections());
        drop(many);
        // The log names peers as the list does, and nobody who is not in it.
        let said = egress.stderr();
        for name in ["web", "all", "named", "quick"] {
            assert!(said.contains(&format!("name={name}")), "{name}: {said}");
        }
    }
    fs::remove_file(psk).expect("it is there");
}

/// Both of a link that is up, each started after these words, which say whom it becomes.
fn two(link: &str, wrapper: &[&str], options: &[(&str, &str)]) -> [Proxy; 2] {
    let with = |end: End| options.iter().fold(end, |end, (name, value)| end.option(name, value));
    let egress = with(egress(link).sealed()).to(serve(echo)).wrapped(wrapper.iter().copied());
    let egress = egress.start();
    let ingress = with(ingress(link).sealed()).wrapped(wrapper.iter().copied()).start();
    ingress.wait_says("event=\"link up\"");
    assert_echoes(&mut ingress.connect(), b"hello");
    [egress, ingress]
}

fn of_process(proxy: &Proxy, file: &str) -> Vec<u8> {
    let pid = proxy.process.0;
    fs::read(format!("/proc/{pid}/{file}")).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Where memory that may be written to has this; a line of /proc/PID/maps each.
fn in_memory(proxy: &Proxy, part: &[u8]) -> Vec<String> {
    let pid = proxy.process.0;
    let maps = String::from_utf8(of_process(proxy, "maps")).expect("UTF-8");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("root may read it");
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        for page in (start..end).step_by(1 << 20) {
            // What lies across two pieces is in the second.
            let from = page.saturating_sub(part.len() as u64).max(start);
            let mut bytes = vec![0; (end.min(page + (1 << 20)) - from) as usize];
            if memory.read_exact_at(&mut bytes, from).is_ok() && has(&bytes, part) {
                found.push(line.to_owned());
            }
        }
    }
    found
}

#[test]
fn nothing_shows_a_key() {
    let folder = Folder::new();
    let key = folder.write("key", SECRET, 0o600);
    let psk_file = psk();
    let psk = fs::read_to_string(&psk_file).expect("it is ours");
    let other = Key::new();
    for link in links() {
        let own =
            ["--key", &key, "--peer", &other.public, "--psk", psk_file.to_str().expect("UTF-8")];
        let egress = egress(&link).protected(own).to(serve(echo)).start();
        let file = other.file.to_str().expect("UTF-8");
        let ingress = ingress(&link)
            .protected([
                "--key",
                file,
                "--peer",
                PUBLIC,
                "--psk",
                psk_file.to_str().expect("UTF-8"),
            ])
            .start();
        ingress.wait_says("event=\"link up\"");
        assert_echoes(&mut ingress.connect(), b"hello");
        let secrets =
            [SECRET.to_owned(), psk.trim().into(), fs::read_to_string(&other.file).expect("ours")];
        for end in [&egress, &ingress] {
            // Without the last digit of base64 and what fills it up.
            for secret in secrets.iter().map(|secret| &secret.as_bytes()[..42]) {
                for file in ["cmdline", "environ"] {
                    assert!(!has(&of_process(end, file), secret), "{file}");
                }
                assert!(!has(end.stderr().as_bytes(), secret), "{}", end.stderr());
                assert_eq!(in_memory(end, secret), [""; 0], "what was read is overwritten");
            }
            // One who looks finds what is there.
            assert_ne!(in_memory(end, link.as_bytes()), [""; 0]);
        }
    }
    fs::remove_file(psk_file).expect("it is there");
}

/// Neither the limit nor a program that is given dumps lets one be made, and nobody but root looks in.
#[test]
fn there_is_no_core_dump_with_keys() {
    let owner = |proxy: &Proxy| {
        fs::metadata(format!("/proc/{}/maps", proxy.process.0)).expect("it lives").uid()
    };
    let core = |proxy: &Proxy| {
        let limit = proxy.process.field("limits", "Max core file size");
        limit.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let unlimited = ["sh", "-c", "ulimit -Sc 4096; exec \"$@\"", "sh"];
    let user = [("--user", "65534:1")];
    for end in two(&vacant_link(), &unlimited, &user) {
        assert_eq!(core(&end), ["0", "0"]);
        assert_eq!(end.process.field("status", "Uid").split_whitespace().next(), Some("65534"));
        // Of a process that cannot be dumped, proc(5).
        assert_eq!(owner(&end), 0);
    }
    // Without keys there is nothing to hide.
    let link = vacant_link();
    let open = egress(&link).insecure().to("127.0.0.1:9").wrapped(unlimited).start();
    assert_ne!(core(&open)[0], "0");

    // Who becomes somebody else is given back what fs.suid_dumpable says, and takes it away again.
    let trace = trace_file();
    let strace = ["strace", "-f", "-qq", "-e", "trace=prctl,setresuid", "-o", path_of(&trace)];
    drop(two(&vacant_link(), &strace, &user));
    let calls = fs::read_to_string(&trace).expect("strace wrote it");
    let after = calls.rsplit_once("setresuid(65534").expect("it became somebody").1;
    assert!(after.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"), "{calls}");
    let _ = fs::remove_file(trace);
}

fn path_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
