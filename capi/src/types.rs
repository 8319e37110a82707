//! The structs and numbers that C sees. Each struct begins with its size and only ever grows; a field
//! of zero is what a caller means who does not know it.

use crate::bounds::{
    SEAPROX_CONNECTION_BYTES, SEAPROX_FIXED_BYTES, SEAPROX_SEAT_BYTES, SEAPROX_THREAD_BYTES,
};
use core::ffi::{c_char, c_int, c_void};
use seaprox::fail::FailReason;
use seaprox::handshake::{INPUT_BYTES, REPLY_BYTES};

include!(concat!(env!("OUT_DIR"), "/sizes.rs"));

/// Changes when a program that was compiled with an older header would go wrong.
pub const SEAPROX_ABI_VERSION: u32 = 1;

/// The bytes that `seaprox_init` needs, as a constant for a static array; `seaprox_sizeof` says
/// exactly how many. A library of other sizes wants SEAPROX_MAX_NUM_CONNECTIONS and
/// SEAPROX_NUM_THREADS defined alike.
pub const SEAPROX_SIZE: usize = SEAPROX_FIXED_BYTES
    + SEAPROX_MAX_NUM_CONNECTIONS * SEAPROX_CONNECTION_BYTES
    + SEAPROX_NUM_THREADS * SEAPROX_THREAD_BYTES;
/// What the address of that memory must be a multiple of.
pub const SEAPROX_ALIGN: usize = 64;

/// How many targets a proxy can have.
pub const SEAPROX_TARGETS_MAX: usize = 16;
/// How many addresses it can listen on.
pub const SEAPROX_LISTENERS_MAX: usize = 16;
/// Bytes that hold every address in words, with the zero at its end.
pub const SEAPROX_ADDRESS_SIZE: usize = 128;
/// Bytes that hold every description, with the zero at its end.
pub const SEAPROX_DESCRIPTION_SIZE: usize = 192;

/// No connection: where `seaprox_next` begins.
pub const SEAPROX_NONE: u32 = u32::MAX;
/// All threads together.
pub const SEAPROX_ALL: u32 = u32::MAX;

/// When the table is full clients wait in the listener's backlog.
pub const SEAPROX_WHEN_FULL_WAIT: u32 = 0;
/// When the table is full clients are accepted and reset.
pub const SEAPROX_WHEN_FULL_REFUSE: u32 = 1;

/// Who came to the proxy.
pub const SEAPROX_SOURCE: u32 = 0;
/// Whom the proxy went to.
pub const SEAPROX_DEST: u32 = 1;

/// Nobody is there.
pub const SEAPROX_IDLE: u32 = 0;
/// The dest is being reached.
pub const SEAPROX_CONNECTING: u32 = 1;
/// Bytes can flow.
pub const SEAPROX_CONNECTED: u32 = 2;

/// How many numbers there will ever be for reasons why a connection was not made or did not end in
/// order. 0 is none: connected, or ended in order.
pub const SEAPROX_NUM_CONNECTION_FAIL_REASONS: usize = 64;
/// The name could not be resolved to any address.
pub const SEAPROX_REASON_NAME_RESOLUTION: u32 = 1;
/// Nobody listens there.
pub const SEAPROX_REASON_CONNECTION_REFUSED: u32 = 2;
/// An error that has no number of its own.
pub const SEAPROX_REASON_OTHER: u32 = 3;
/// No vacant place in the table.
pub const SEAPROX_REASON_TABLE_FULL: u32 = 4;
/// No answer in time.
pub const SEAPROX_REASON_TIMED_OUT: u32 = 5;
/// The peer broke the protocol.
pub const SEAPROX_REASON_PROTOCOL: u32 = 6;
/// The peer sent more than it had credit for.
pub const SEAPROX_REASON_CREDIT_EXCEEDED: u32 = 7;
/// The far end offers no such service.
pub const SEAPROX_REASON_NO_SUCH_SERVICE: u32 = 8;
/// It may not be connected to.
pub const SEAPROX_REASON_DENIED: u32 = 9;
/// No route.
pub const SEAPROX_REASON_UNREACHABLE: u32 = 10;
/// No byte moved for the idle timeout.
pub const SEAPROX_REASON_IDLE: u32 = 11;
/// The proxy is ending.
pub const SEAPROX_REASON_SHUTDOWN: u32 = 12;
/// Two ends of a link have no version in common.
pub const SEAPROX_REASON_VERSION: u32 = 13;
/// The peer could not prove who it is.
pub const SEAPROX_REASON_AUTH: u32 = 14;
/// One side reset the connection.
pub const SEAPROX_REASON_RESET: u32 = 15;
/// Too many lookups are waiting.
pub const SEAPROX_REASON_RESOLVER_FULL: u32 = 16;
/// Descriptors, buffers or memory ran out.
pub const SEAPROX_REASON_OUT_OF_DESCRIPTORS: u32 = 17;
/// The source left while its dest was being connected.
pub const SEAPROX_REASON_SOURCE_GONE: u32 = 18;
/// One direction had ended, and the other did not in time.
pub const SEAPROX_REASON_HALF_CLOSED: u32 = 19;
/// The link is down, or went down.
pub const SEAPROX_REASON_LINK_DOWN: u32 = 20;
/// The peer has as much as it may have, or asks for more in a second than it may.
pub const SEAPROX_REASON_OVER_LIMIT: u32 = 21;

// The numbers are the engine's.
const _: () = {
    assert!(
        SEAPROX_NUM_CONNECTION_FAIL_REASONS as u64 == seaprox::fail::NUM_CONNECTION_FAIL_REASONS
    );
    let named = [
        SEAPROX_REASON_NAME_RESOLUTION,
        SEAPROX_REASON_CONNECTION_REFUSED,
        SEAPROX_REASON_OTHER,
        SEAPROX_REASON_TABLE_FULL,
        SEAPROX_REASON_TIMED_OUT,
        SEAPROX_REASON_PROTOCOL,
        SEAPROX_REASON_CREDIT_EXCEEDED,
        SEAPROX_REASON_NO_SUCH_SERVICE,
        SEAPROX_REASON_DENIED,
        SEAPROX_REASON_UNREACHABLE,
        SEAPROX_REASON_IDLE,
        SEAPROX_REASON_SHUTDOWN,
        SEAPROX_REASON_VERSION,
        SEAPROX_REASON_AUTH,
        SEAPROX_REASON_RESET,
        SEAPROX_REASON_RESOLVER_FULL,
        SEAPROX_REASON_OUT_OF_DESCRIPTORS,
        SEAPROX_REASON_SOURCE_GONE,
        SEAPROX_REASON_HALF_CLOSED,
        SEAPROX_REASON_LINK_DOWN,
        SEAPROX_REASON_OVER_LIMIT,
    ];
    assert!(named.len() == FailReason::ALL.len(), "a reason has no name in C");
    let mut index = 0;
    while index < named.len() {
        assert!(named[index] == FailReason::ALL[index] as u32);
        index += 1;
    }
};

/// How a proxy is to behave. Zeroes but for the first two fields are the usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Options {
    /// sizeof(struct seaprox_options).
    pub size: usize,
    /// SEAPROX_ABI_VERSION.
    pub abi_version: u32,
    /// Connections at once, at most; 0: as many as the library was built for.
    pub connections: u32,
    /// Threads; 0: one. All of them must be driven: each takes its share of the connections.
    pub threads: u32,
    /// SEAPROX_WHEN_FULL_WAIT or SEAPROX_WHEN_FULL_REFUSE.
    pub when_full: u32,
    /// How long a dest may take to be reached, in milliseconds; 0: 10,000.
    pub connect_timeout_millis: u32,
    /// After how long without a byte a connection is reset, in milliseconds; 0: never.
    pub idle_timeout_millis: u32,
    /// How long one direction may go on when the other has ended, in milliseconds; 0: for ever.
    pub half_close_timeout_millis: u32,
    /// SO_SNDBUF and SO_RCVBUF of every socket, in bytes; 0: the kernel tunes them.
    pub socket_buffer_bytes: u32,
    /// Kernel memory that pipes may take, of all threads, in bytes; 0: 64 MiB, what one user may have
    /// by default. Less than 64 KiB a thread: none, and every byte is copied.
    pub pipe_bytes: u64,
    /// How descriptions begin, at most 15 letters, digits or `-`; null: "static". Copied.
    pub name: *const c_char,
}

/// What a thread, or all of them, hold and have seen.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counters {
    /// sizeof(struct seaprox_counters), set by the caller; what does not fit is not written.
    pub size: usize,
    /// Connections held now.
    pub occupied: u64,
    /// Connections that may be held.
    pub limit: u64,
    /// Connections taken from listeners and links so far.
    pub accepted: u64,
    /// Connections whose dest was reached.
    pub connected: u64,
    /// Connections that ended, however.
    pub closed: u64,
    /// Bytes relayed by the connections that ended, both directions.
    pub bytes: u64,
    /// Connections that ended, or were not made, for each reason.
    pub failed: [u64; SEAPROX_NUM_CONNECTION_FAIL_REASONS],
}

/// The embedder's own targets.
pub const SEAPROX_TARGET_DEFAULT: u32 = 0;
/// An internet address.
pub const SEAPROX_TARGET_ADDRESS: u32 = 1;
/// The name of a host.
pub const SEAPROX_TARGET_NAME: u32 = 2;
/// The name of a service.
pub const SEAPROX_TARGET_SERVICE: u32 = 3;

/// Whom somebody wants to be connected to. All of it is gone when the callback returns.
#[repr(C)]
pub struct Target {
    /// sizeof(struct seaprox_target).
    pub size: usize,
    /// SEAPROX_TARGET_DEFAULT, _ADDRESS, _NAME or _SERVICE.
    pub kind: u32,
    /// The port of an address or a name; 0 else.
    pub port: u16,
    /// The connection, for `seaprox_connection_source` and the like.
    pub connection: u32,
    /// An address without its port ("1.2.3.4", "::1"), or a name; ends in a zero and holds no other.
    /// A name comes from outside: it is as long as its sender likes, up to 255 bytes, and may hold any
    /// byte but 0.
    pub host: *const c_char,
    /// Who is to be connected, in words: "ipv4[1.2.3.4:3234]".
    pub source: *const c_char,
}

/// Reaches dests outside the library.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connector {
    /// sizeof(struct seaprox_connector).
    pub size: usize,
    /// Called once for each connection, on the thread that drives it. It must not block. Whoever
    /// has connected, or failed to, calls `seaprox_complete` or `seaprox_connect` with the ticket, from any
    /// thread, or at once. It may call these two, seaprox_drain, seaprox_stop, seaprox_wake and
    /// seaprox_counters; all other functions give -EBUSY.
    pub on_connect:
        Option<unsafe extern "C" fn(user: *mut c_void, ticket: u64, target: *const Target)>,
    /// Given to the callback.
    pub user: *mut c_void,
}

/// More must be heard first.
pub const SEAPROX_MORE: c_int = 0;
/// The client wants what the verdict names.
pub const SEAPROX_CONNECT: c_int = 1;
/// The client has no connection.
pub const SEAPROX_REJECT: c_int = 2;

/// Bytes of a client's that a proxy type can see at a time.
pub const SEAPROX_INPUT_SIZE: usize = 520;
/// Bytes that a client can have been told and not yet have taken.
pub const SEAPROX_REPLY_SIZE: usize = 192;
/// Bytes of state that a proxy type can have for each client.
pub const SEAPROX_STATE_SIZE: usize = 64;
/// Bytes of the longest name, with room for a zero that nobody needs.
pub const SEAPROX_HOST_SIZE: usize = 256;
/// The bytes that a proxy type's clients need.
pub const SEAPROX_SEATS_SIZE: usize = SEAPROX_MAX_NUM_CONNECTIONS * SEAPROX_SEAT_BYTES;

const _: () = assert!(SEAPROX_INPUT_SIZE == INPUT_BYTES && SEAPROX_REPLY_SIZE == REPLY_BYTES);

/// What a proxy type makes of what it heard. All of it is zero, but for the size and where words for the
/// client go, when a callback is called.
#[repr(C)]
pub struct Verdict {
    /// sizeof(struct seaprox_verdict).
    pub size: usize,
    /// Room for SEAPROX_REPLY_SIZE bytes that the client is told, before any of the dest's. If it has not
    /// taken what it was told before there may be less: then it is refused.
    pub reply: *mut u8,
    /// How many bytes were put there.
    pub reply_size: usize,
    /// How many bytes of the input need not be seen again. What is left with SEAPROX_CONNECT goes to the
    /// dest.
    pub consumed: usize,
    /// With SEAPROX_CONNECT: SEAPROX_TARGET_DEFAULT, _ADDRESS, _NAME or _SERVICE.
    pub target_kind: u32,
    /// With SEAPROX_REJECT: why (SEAPROX_REASON_..).
    pub reason: u32,
    /// With an address or a name: the port.
    pub port: u16,
    /// How many bytes of `host` there are.
    pub host_size: u16,
    /// An address without its port ("1.2.3.4", "::1"), or a name.
    pub host: [u8; SEAPROX_HOST_SIZE],
}

/// What clients say before their bytes flow. Its callbacks are called on the thread that drives the client, with
/// `state`: bytes of that client's own, aligned for any number, zero when it comes; nothing is told of its
/// end, so nothing may hang on them. They may call what `on_connect` may.
///
/// A callback that gives what it cannot (another verdict, more bytes than there are, an address that
/// is none) loses its client, and no other.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProxyType {
    /// sizeof(struct seaprox_proxy_type).
    pub size: usize,
    /// SEAPROX_SEATS_SIZE bytes, a multiple of SEAPROX_ALIGN, the library's until seaprox_close. As of the
    /// proxy's own memory: best it is zero.
    pub seats: *mut c_void,
    /// How many bytes: SEAPROX_SEAT_BYTES for each connection of the options are enough.
    pub seats_size: usize,
    /// How many bytes of state it wants, at most SEAPROX_STATE_SIZE.
    pub state_size: u32,
    /// How long a client may take to say what it wants, in milliseconds; 0: 10,000.
    pub timeout_millis: u32,
    /// Hears all that a client has said and that was not consumed: first nothing, when it comes. Gives
    /// SEAPROX_MORE, SEAPROX_CONNECT or SEAPROX_REJECT. Is something consumed and something left, it is
    /// called again at once, so that one message a call is enough. To want more of SEAPROX_INPUT_SIZE bytes without
    /// consuming any is to refuse the client.
    pub on_bytes: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            state: *mut c_void,
            input: *const u8,
            input_size: usize,
            verdict: *mut Verdict,
        ) -> c_int,
    >,
    /// Is told what became of the dest, once, with 0 or a reason (also SEAPROX_REASON_TIMED_OUT, of a
    /// client that did not say in time), unless it rejected the client itself or the client is gone; may
    /// put a reply for the client into the verdict. A client without a connection and without a reply is
    /// reset.
    pub on_answer: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            state: *mut c_void,
            reason: u32,
            verdict: *mut Verdict,
        ),
    >,
    /// Given to the callbacks.
    pub user: *mut c_void,
}

/// Bytes of a key of any kind: what base64 makes 44 characters of (`wg genkey`, `seaprox genkey`).
pub const SEAPROX_KEY_SIZE: usize = 32;
/// How many peers an end of links can know.
pub const SEAPROX_PEERS_MAX: usize = 64;

/// Somebody who may be at the far end of a link.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Peer {
    /// sizeof(struct seaprox_peer), the same of all peers of an array.
    pub size: usize,
    /// What it is known by: SEAPROX_KEY_SIZE bytes, as seaprox_public_key gives them there.
    pub key: *const u8,
    /// What both know besides: SEAPROX_KEY_SIZE bytes that were drawn at random; null: nothing.
    pub psk: *const u8,
}

/// An end of links: each carries the connections of one thread between two seaprox. Zeroes but for the size,
/// the address, the memory, and either `insecure` or keys are the usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Link {
    /// sizeof(struct seaprox_link).
    pub size: usize,
    /// Where: "udp:1.2.3.4:7000", "sctp:1.2.3.4:7000", "seqpacket:/path" or "seqpacket:@name"; of SCTP
    /// further addresses of the same machine behind commas. To take links in, also "udp::7000": every
    /// address of this machine.
    pub address: *const c_char,
    /// 1: whoever can reach either end, or the way between, may use and read the link. Without keys it must be
    /// said, and with keys it must not.
    pub insecure: u32,
    /// After how long without a sign of the far end a link is dead, in milliseconds; 0: 15,000.
    pub timeout_millis: u32,
    /// How long connections wait for a link that is down before they are refused, in milliseconds; 0:
    /// 10,000. Of no meaning where links come in.
    pub wait_millis: u32,
    /// What the far end is asked for, by connections that do not say themselves: SEAPROX_TARGET_DEFAULT (its own
    /// targets), _ADDRESS, _NAME or _SERVICE. Of no meaning where links come in.
    pub target_kind: u32,
    /// The port of an address or a name.
    pub port: u16,
    /// The address without its port, or the name; null for the default.
    pub host: *const c_char,
    /// seaprox_link_sizeof bytes, a multiple of SEAPROX_ALIGN, the library's until seaprox_close; best zero,
    /// and from mmap(2) or calloc: most of it is used under load alone.
    pub memory: *mut c_void,
    /// How many bytes.
    pub memory_size: usize,
    /// This end's secret, SEAPROX_KEY_SIZE bytes that nobody else knows; null: links have no keys. Copied into the
    /// link's memory, all of which seaprox_close overwrites; what is the caller's stays as it is.
    pub key: *const u8,
    /// With a key: who may be at the far end. Links come in from any of them; a link that goes out leads to
    /// the only one. Copied likewise.
    pub peers: *const Peer,
    /// How many, at most SEAPROX_PEERS_MAX.
    pub peers_size: usize,
}

/// A dest was reached.
pub const SEAPROX_NOTICE_CONNECTED: u32 = 1;
/// A connection ended.
pub const SEAPROX_NOTICE_CLOSED: u32 = 2;
/// A connection was not made.
pub const SEAPROX_NOTICE_REFUSED: u32 = 3;
/// Nothing is accepted for a while: the kernel ran out of something.
pub const SEAPROX_NOTICE_EXHAUSTED: u32 = 4;
/// A link is up.
pub const SEAPROX_NOTICE_LINK_UP: u32 = 5;
/// A link is down, or could not be made.
pub const SEAPROX_NOTICE_LINK_DOWN: u32 = 6;

/// What happened. All of it is gone when the callback returns.
#[repr(C)]
pub struct Notice {
    /// sizeof(struct seaprox_notice).
    pub size: usize,
    /// SEAPROX_NOTICE_CONNECTED and the like.
    pub kind: u32,
    /// Why, of a connection that was refused or did not end in order, or of a link; 0 else.
    pub reason: u32,
    /// What the kernel said (EMFILE ..) when it ran out of something; 0 else.
    pub error: c_int,
    /// Bytes read from the source, of a connection that was closed.
    pub source_bytes: u64,
    /// Bytes read from the dest, of a connection that was closed.
    pub dest_bytes: u64,
    /// The source's own word, of a connection that was closed or refused.
    pub source_data: u64,
    /// The dest's own word, likewise.
    pub dest_data: u64,
    /// Which connection, or who came, or the far end of the link, in words.
    pub description: *const c_char,
    /// Which of the peers of seaprox_link is at the far end of the link, from 0; SEAPROX_NONE: it is not known,
    /// or it is no link.
    pub peer: u32,
}

/// Is told what happens.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Observer {
    /// sizeof(struct seaprox_observer).
    pub size: usize,
    /// Called on the thread it happens on. It must not block. It may call what `on_connect` may.
    pub on_notice: Option<unsafe extern "C" fn(user: *mut c_void, notice: *const Notice)>,
    /// Given to the callback.
    pub user: *mut c_void,
}
