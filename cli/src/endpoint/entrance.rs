//! LISTEN of an ingress as the user writes it: where clients come from, and what they talk. Knows no
//! proxy type but by its name.

use super::{Listen, Refused};
use crate::talk::Talk;
use std::fmt;

/// Where clients come from, and what they talk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// `socks5:` or `http:` in front.
    pub talk: Talk,
    /// Where.
    pub listen: Listen,
}

impl Entrance {
    /// Reads `[socks5:|http:]LISTEN`, or says why not.
    pub fn parse(text: &[u8]) -> Result<Entrance, Refused> {
        for talk in [Talk::Socks5, Talk::Http] {
            let rest = text.strip_prefix(talk.name().as_bytes());
            if let Some(rest) = rest.and_then(|rest| rest.strip_prefix(b":"))
                && !rest.starts_with(b"//")
            {
                let listen = Listen::read(rest).map_err(|reason| Refused::new(text, reason))?;
                return Ok(Entrance { talk, listen });
            }
        }
        Ok(Entrance { talk: Talk::Plain, listen: Listen::parse(text)? })
    }
}

/// As it is written on the command line.
impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.talk {
            Talk::Plain => self.listen.fmt(f),
            talk => write!(f, "{talk}:{}", self.listen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_talked_stands_in_front() {
        for text in [
            ":8080",
            "socks5::1080",
            "http:127.0.0.1:3128",
            "socks5:[::1]:1080",
            "http:unix:/run/http",
            "socks5:fd:socks",
            "http:unix:@socks5:",
            "unix:http:",
        ] {
            assert_eq!(Entrance::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        let entrance = Entrance::parse(b"http:unix:@socks5:").unwrap();
        assert_eq!(entrance.talk, Talk::Http);
        for (text, reason) in [
            ("socks5:", "empty: write HOST:PORT"),
            ("http:8080", "no host: write :8080 or 127.0.0.1:8080"),
            ("socks5:name:80", "a name cannot be listened on"),
            ("socks5:socks5::80", "socks5: stands once, before a LISTEN of an ingress"),
            ("http://127.0.0.1:80", "a URL: write HOST:PORT"),
        ] {
            let refused = Entrance::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{text}: {reason}")), "{refused}");
        }
    }
}
