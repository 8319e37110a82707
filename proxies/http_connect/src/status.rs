//! What a client is told: a status, in the words of RFC 9110 section 15, and what went wrong in those of
//! RFC 9209. Knows no request.

use seaprox::fail::FailReason;
use seaprox::handshake::Reply;

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    PasswordRequired,
    RequestTimeout,
    UriTooLong,
    HeaderTooLarge,
    BadGateway,
    Unavailable,
    GatewayTimeout,
    VersionNotSupported,
}

impl Status {
    /// What is said when a dest was not reached.
    pub(crate) const fn of(reason: FailReason) -> Status {
        use FailReason as R;
        match reason {
            R::Denied | R::NoSuchService => Status::Forbidden,
            R::TimedOut => Status::GatewayTimeout,
            // Later it may be well again.
            R::TableFull | R::ResolverFull | R::OutOfDescriptors | R::LinkDown | R::Shutdown => {
                Status::Unavailable
            }
            _ => Status::BadGateway,
        }
    }

    /// Why the proxy refuses, when it does so itself.
    pub(crate) const fn reason(self) -> FailReason {
        match self {
            Status::PasswordRequired => FailReason::Auth,
            _ => FailReason::Protocol,
        }
    }

    /// Says it. With a connection nothing but the status may be said (RFC 9110 section 9.3.6).
    pub(crate) fn say(self, reason: Option<FailReason>, reply: &mut Reply) {
        reply.say(b"HTTP/1.1 ");
        reply.say(self.line());
        if self != Status::Ok {
            reply.say(b"\r\nContent-Length: 0\r\nConnection: close");
        }
        reply.say(match self {
            Status::MethodNotAllowed => b"\r\nAllow: CONNECT",
            Status::PasswordRequired => b"\r\nProxy-Authenticate: Basic realm=\"seaprox\"",
            _ => b"",
        });
        if let Some(error) = reason.and_then(error_of) {
            reply.say(b"\r\nProxy-Status: seaprox; error=");
            reply.say(error);
        }
        reply.say(b"\r\n\r\n");
    }

    const fn line(self) -> &'static [u8] {
        match self {
            Status::Ok => b"200 OK",
            Status::BadRequest => b"400 Bad Request",
            Status::Forbidden => b"403 Forbidden",
            Status::MethodNotAllowed => b"405 Method Not Allowed",
            Status::PasswordRequired => b"407 Proxy Authentication Required",
            Status::RequestTimeout => b"408 Request Timeout",
            Status::UriTooLong => b"414 URI Too Long",
            // RFC 6585 section 5.
            Status::HeaderTooLarge => b"431 Request Header Fields Too Large",
            Status::BadGateway => b"502 Bad Gateway",
            Status::Unavailable => b"503 Service Unavailable",
            Status::GatewayTimeout => b"504 Gateway Timeout",
            Status::VersionNotSupported => b"505 HTTP Version Not Supported",
        }
    }
}

/// What RFC 9209 section 2.3 calls it; `None`: nothing.
const fn error_of(reason: FailReason) -> Option<&'static [u8]> {
    use FailReason as R;
    Some(match reason {
        R::NameResolution => b"dns_error",
        R::ConnectionRefused => b"connection_refused",
        R::TimedOut => b"connection_timeout",
        R::Denied | R::NoSuchService => b"destination_ip_prohibited",
        R::Unreachable => b"destination_ip_unroutable",
        R::Reset => b"connection_terminated",
        R::LinkDown | R::Shutdown => b"destination_unavailable",
        R::TableFull | R::ResolverFull | R::OutOfDescriptors => b"connection_limit_reached",
        _ => return None,
    })
}
