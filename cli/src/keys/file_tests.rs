use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// As `wg genkey` printed it.
const KEY: &str = "2GkMH0TZKr0vFL6E2WbTJ3g39I9Rsrk1GYlMXrgk2Fg=";

/// A folder of this test's, gone with it.
pub(in crate::keys) struct Folder(PathBuf);

impl Folder {
    pub(in crate::keys) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("seaprox-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(in crate::keys) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(in crate::keys) const NOWHERE: Files = Files { credentials: None };

fn text_of(read: Result<KeyText, Unusable>) -> Result<String, String> {
    read.map(|text| String::from_utf8(text.as_bytes().to_vec()).unwrap()).map_err(|why| why.reason)
}

#[test]
fn a_key_and_blanks_behind_it() {
    for behind in ["", "\n", " \t\r\n", "\n\n\n"] {
        let text = format!("{KEY}{behind}");
        assert_eq!(read_text(&mut text.as_bytes()).unwrap().as_bytes(), KEY.as_bytes());
    }
    for (text, expected) in [("", ""), ("\n", ""), ("two words\n", "two words"), (" x", " x")] {
        assert_eq!(read_text(&mut text.as_bytes()).unwrap().as_bytes(), expected.as_bytes());
    }
    let long = "x".repeat(10_000);
    assert!(read_text(&mut long.as_bytes()).is_err());
    assert!(read_text(&mut io::repeat(b'x')).is_err(), "it reads for ever");
}

#[test]
fn others_must_not_read_a_secret_nor_write_anything() {
    let folder = Folder::new();
    let path = folder.write("key", KEY, 0o600);
    for (mode, is_secret, is_list) in [
        (0o600, true, true),
        (0o400, true, true),
        (0o700, true, true),
        (0o640, false, true),
        (0o604, false, true),
        (0o644, false, true),
        (0o620, false, false),
        (0o602, false, false),
        (0o666, false, false),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let (key, list) = (NOWHERE.key(path.as_os_str()), NOWHERE.list(path.as_os_str()));
        assert_eq!((key.is_ok(), list.is_ok()), (is_secret, is_list), "{mode:o}");
        let chmod = |mode| format!("`chmod {mode} {}`", path.display());
        if let Err(why) = key {
            assert!(why.reason.ends_with(&chmod("600")), "{}", why.reason);
            assert_eq!(why.code, ExitCode::Configuration);
        }
        if let Err(why) = list {
            assert!(why.reason.ends_with(&chmod("go-w")), "{}", why.reason);
        }
    }
}

#[test]
fn a_pipe_is_as_good_as_a_file_and_nothing_else_is() {
    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, format!("{KEY}\n").as_bytes()).unwrap();
    drop(writer);
    let name = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    assert_eq!(text_of(NOWHERE.key(name.as_ref())), Ok(KEY.into()));
    for name in ["/dev/null", "/"] {
        let why = text_of(NOWHERE.key(name.as_ref()));
        assert_eq!(why, Err("neither a file nor a pipe".into()), "{name}");
    }
    let why = text_of(NOWHERE.key("/no/such/key".as_ref()));
    assert_eq!(why, Err("there is no such file".into()));
}

#[test]
fn credentials_come_first() {
    let (credentials, here) = (Folder::new(), Folder::new());
    let files = Files { credentials: Some(credentials.0.clone()) };
    // The mask of an ACL.
    credentials.write("key", KEY, 0o440);
    assert_eq!(text_of(files.key("key".as_ref())), Ok(KEY.into()));
    credentials.write("open", KEY, 0o444);
    assert!(text_of(files.key("open".as_ref())).unwrap_err().contains("chmod 600"));
    // What is named with its folder is that.
    let path = here.write("key", "other", 0o600);
    assert_eq!(text_of(files.key(path.as_os_str())), Ok("other".into()));
    // What is not among them is looked for here.
    let name = format!("seaprox-no-such-{}", std::process::id());
    assert_eq!(text_of(files.key(name.as_ref())), Err("there is no such file".into()));
    assert_eq!(files.as_credential("".as_ref()), None);
    assert_eq!(NOWHERE.as_credential("key".as_ref()), None);
}

#[test]
fn a_list_is_not_endless() {
    let folder = Folder::new();
    let most = LIST_BYTES_MAX as usize;
    let path = folder.write("list", &"#".repeat(most), 0o644);
    assert_eq!(NOWHERE.list(path.as_os_str()).unwrap().len(), most);
    let path = folder.write("list", &"#".repeat(most + 1), 0o644);
    assert!(NOWHERE.list(path.as_os_str()).is_err());
}
