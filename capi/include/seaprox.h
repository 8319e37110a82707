/*
 * seaprox: a socket proxy in memory of yours, on threads of yours.
 *
 * Made from the package seaprox-capi by cbindgen; changed there.
 *
 * Every function gives 0, or an errno with a minus before it; those that give something else say so. What
 * a function is asked for it writes through its last pointers, only when it gives 0.
 *
 * A pointer you hand over is null or good until the function returns, for as much as its type or the
 * size beside it says. What of it can be looked at is: null where there must be something, misaligned, too
 * short, a number that means nothing, is -EINVAL. A proxy's memory is the library's from seaprox_init to
 * seaprox_close, and may be used by any number of threads in between, each thread of the proxy by one at a
 * time: whoever comes second gets -EBUSY, and so does a callback that calls what it may not.
 *
 * A struct begins with its size, set by you as sizeof; later versions only add fields, and take 0
 * for those you do not know. Callbacks must return, and must not unwind or jump out (longjmp, C++ exceptions).
 * Nothing here allocates. A bug in the library ends the process with one line.
 */


#ifndef SEAPROX_H
#define SEAPROX_H

#include <stddef.h>
#include <stdint.h>

/* What the library was built for. Other sizes (SEAPROX_MAX_NUM_CONNECTIONS=256 cargo build ..) are to be said
   to this compiler too (-DSEAPROX_MAX_NUM_CONNECTIONS=256). seaprox_init refuses memory that is too short. */
#ifndef SEAPROX_MAX_NUM_CONNECTIONS
#define SEAPROX_MAX_NUM_CONNECTIONS 8192
#endif
#ifndef SEAPROX_NUM_THREADS
#define SEAPROX_NUM_THREADS 4
#endif

/**
 * What a proxy's memory takes beside its connections and threads, in bytes: how it was set up.
 */
#define SEAPROX_FIXED_BYTES (12 * 1024)

/**
 * What a connection takes of it, in bytes.
 */
#define SEAPROX_CONNECTION_BYTES 160

/**
 * What a thread takes of it, in bytes: a buffer, counters, and what is ready and to be closed.
 */
#define SEAPROX_THREAD_BYTES (120 * 1024)

/**
 * What a client of a proxy type takes, in bytes, in memory of its own.
 */
#define SEAPROX_SEAT_BYTES 832

/**
 * Changes when a program that was compiled with an older header would go wrong.
 */
#define SEAPROX_ABI_VERSION 1

/**
 * The bytes that `seaprox_init` needs, as a constant for a static array; `seaprox_sizeof` says
 * exactly how many. A library of other sizes wants SEAPROX_MAX_NUM_CONNECTIONS and
 * SEAPROX_NUM_THREADS defined alike.
 */
#define SEAPROX_SIZE ((SEAPROX_FIXED_BYTES + (SEAPROX_MAX_NUM_CONNECTIONS * SEAPROX_CONNECTION_BYTES)) + (SEAPROX_NUM_THREADS * SEAPROX_THREAD_BYTES))

/**
 * What the address of that memory must be a multiple of.
 */
#define SEAPROX_ALIGN 64

/**
 * How many targets a proxy can have.
 */
#define SEAPROX_TARGETS_MAX 16

/**
 * How many addresses it can listen on.
 */
#define SEAPROX_LISTENERS_MAX 16

/**
 * Bytes that hold every address in words, with the zero at its end.
 */
#define SEAPROX_ADDRESS_SIZE 128

/**
 * Bytes that hold every description, with the zero at its end.
 */
#define SEAPROX_DESCRIPTION_SIZE 192

/**
 * No connection: where `seaprox_next` begins.
 */
#define SEAPROX_NONE UINT32_MAX

/**
 * All threads together.
 */
#define SEAPROX_ALL UINT32_MAX

/**
 * When the table is full clients wait in the listener's backlog.
 */
#define SEAPROX_WHEN_FULL_WAIT 0

/**
 * When the table is full clients are accepted and reset.
 */
#define SEAPROX_WHEN_FULL_REFUSE 1

/**
 * Who came to the proxy.
 */
#define SEAPROX_SOURCE 0

/**
 * Whom the proxy went to.
 */
#define SEAPROX_DEST 1

/**
 * Nobody is there.
 */
#define SEAPROX_IDLE 0

/**
 * The dest is being reached.
 */
#define SEAPROX_CONNECTING 1

/**
 * Bytes can flow.
 */
#define SEAPROX_CONNECTED 2

/**
 * How many numbers there will ever be for reasons why a connection was not made or did not end in
 * order. 0 is none: connected, or ended in order.
 */
#define SEAPROX_NUM_CONNECTION_FAIL_REASONS 64

/**
 * The name could not be resolved to any address.
 */
#define SEAPROX_REASON_NAME_RESOLUTION 1

/**
 * Nobody listens there.
 */
#define SEAPROX_REASON_CONNECTION_REFUSED 2

/**
 * An error that has no number of its own.
 */
#define SEAPROX_REASON_OTHER 3

/**
 * No vacant place in the table.
 */
#define SEAPROX_REASON_TABLE_FULL 4

/**
 * No answer in time.
 */
#define SEAPROX_REASON_TIMED_OUT 5

/**
 * The peer broke the protocol.
 */
#define SEAPROX_REASON_PROTOCOL 6

/**
 * The peer sent more than it had credit for.
 */
#define SEAPROX_REASON_CREDIT_EXCEEDED 7

/**
 * The far end offers no such service.
 */
#define SEAPROX_REASON_NO_SUCH_SERVICE 8

/**
 * It may not be connected to.
 */
#define SEAPROX_REASON_DENIED 9

/**
 * No route.
 */
#define SEAPROX_REASON_UNREACHABLE 10

/**
 * No byte moved for the idle timeout.
 */
#define SEAPROX_REASON_IDLE 11

/**
 * The proxy is ending.
 */
#define SEAPROX_REASON_SHUTDOWN 12

/**
 * Two ends of a link have no version in common.
 */
#define SEAPROX_REASON_VERSION 13

/**
 * The peer could not prove who it is.
 */
#define SEAPROX_REASON_AUTH 14

/**
 * One side reset the connection.
 */
#define SEAPROX_REASON_RESET 15

/**
 * Too many lookups are waiting.
 */
#define SEAPROX_REASON_RESOLVER_FULL 16

/**
 * Descriptors, buffers or memory ran out.
 */
#define SEAPROX_REASON_OUT_OF_DESCRIPTORS 17

/**
 * The source left while its dest was being connected.
 */
#define SEAPROX_REASON_SOURCE_GONE 18

/**
 * One direction had ended, and the other did not in time.
 */
#define SEAPROX_REASON_HALF_CLOSED 19

/**
 * The link is down, or went down.
 */
#define SEAPROX_REASON_LINK_DOWN 20

/**
 * The peer has as much as it may have, or asks for more in a second than it may.
 */
#define SEAPROX_REASON_OVER_LIMIT 21

/**
 * The embedder's own targets.
 */
#define SEAPROX_TARGET_DEFAULT 0

/**
 * An internet address.
 */
#define SEAPROX_TARGET_ADDRESS 1

/**
 * The name of a host.
 */
#define SEAPROX_TARGET_NAME 2

/**
 * The name of a service.
 */
#define SEAPROX_TARGET_SERVICE 3

/**
 * More must be heard first.
 */
#define SEAPROX_MORE 0

/**
 * The client wants what the verdict names.
 */
#define SEAPROX_CONNECT 1

/**
 * The client has no connection.
 */
#define SEAPROX_REJECT 2

/**
 * Bytes of a client's that a proxy type can see at a time.
 */
#define SEAPROX_INPUT_SIZE 520

/**
 * Bytes that a client can have been told and not yet have taken.
 */
#define SEAPROX_REPLY_SIZE 192

/**
 * Bytes of state that a proxy type can have for each client.
 */
#define SEAPROX_STATE_SIZE 64

/**
 * Bytes of the longest name, with room for a zero that nobody needs.
 */
#define SEAPROX_HOST_SIZE 256

/**
 * The bytes that a proxy type's clients need.
 */
#define SEAPROX_SEATS_SIZE (SEAPROX_MAX_NUM_CONNECTIONS * SEAPROX_SEAT_BYTES)

/**
 * Bytes of a key of any kind: what base64 makes 44 characters of (`wg genkey`, `seaprox genkey`).
 */
#define SEAPROX_KEY_SIZE 32

/**
 * How many peers an end of links can know.
 */
#define SEAPROX_PEERS_MAX 64

/**
 * A dest was reached.
 */
#define SEAPROX_NOTICE_CONNECTED 1

/**
 * A connection ended.
 */
#define SEAPROX_NOTICE_CLOSED 2

/**
 * A connection was not made.
 */
#define SEAPROX_NOTICE_REFUSED 3

/**
 * Nothing is accepted for a while: the kernel ran out of something.
 */
#define SEAPROX_NOTICE_EXHAUSTED 4

/**
 * A link is up.
 */
#define SEAPROX_NOTICE_LINK_UP 5

/**
 * A link is down, or could not be made.
 */
#define SEAPROX_NOTICE_LINK_DOWN 6

/**
 * A proxy, in memory of its caller's.
 */
struct seaprox;

/**
 * How a proxy is to behave. Zeroes but for the first two fields are the usual.
 */
struct seaprox_options {
    /**
     * sizeof(struct seaprox_options).
     */
    size_t size;
    /**
     * SEAPROX_ABI_VERSION.
     */
    uint32_t abi_version;
    /**
     * Connections at once, at most; 0: as many as the library was built for.
     */
    uint32_t connections;
    /**
     * Threads; 0: one. All of them must be driven: each takes its share of the connections.
     */
    uint32_t threads;
    /**
     * SEAPROX_WHEN_FULL_WAIT or SEAPROX_WHEN_FULL_REFUSE.
     */
    uint32_t when_full;
    /**
     * How long a dest may take to be reached, in milliseconds; 0: 10,000.
     */
    uint32_t connect_timeout_millis;
    /**
     * After how long without a byte a connection is reset, in milliseconds; 0: never.
     */
    uint32_t idle_timeout_millis;
    /**
     * How long one direction may go on when the other has ended, in milliseconds; 0: for ever.
     */
    uint32_t half_close_timeout_millis;
    /**
     * SO_SNDBUF and SO_RCVBUF of every socket, in bytes; 0: the kernel tunes them.
     */
    uint32_t socket_buffer_bytes;
    /**
     * Kernel memory that pipes may take, of all threads, in bytes; 0: 64 MiB, what one user may have
     * by default. Less than 64 KiB a thread: none, and every byte is copied.
     */
    uint64_t pipe_bytes;
    /**
     * How descriptions begin, at most 15 letters, digits or `-`; null: "static". Copied.
     */
    const char *name;
};

/**
 * Whom somebody wants to be connected to. All of it is gone when the callback returns.
 */
struct seaprox_target {
    /**
     * sizeof(struct seaprox_target).
     */
    size_t size;
    /**
     * SEAPROX_TARGET_DEFAULT, _ADDRESS, _NAME or _SERVICE.
     */
    uint32_t kind;
    /**
     * The port of an address or a name; 0 else.
     */
    uint16_t port;
    /**
     * The connection, for `seaprox_connection_source` and the like.
     */
    uint32_t connection;
    /**
     * An address without its port ("1.2.3.4", "::1"), or a name; ends in a zero and holds no other.
     * A name comes from outside: it is as long as its sender likes, up to 255 bytes, and may hold any
     * byte but 0.
     */
    const char *host;
    /**
     * Who is to be connected, in words: "ipv4[1.2.3.4:3234]".
     */
    const char *source;
};

/**
 * Reaches dests outside the library.
 */
struct seaprox_connector {
    /**
     * sizeof(struct seaprox_connector).
     */
    size_t size;
    /**
     * Called once for each connection, on the thread that drives it. It must not block. Whoever
     * has connected, or failed to, calls `seaprox_complete` or `seaprox_connect` with the ticket, from any
     * thread, or at once. It may call these two, seaprox_drain, seaprox_stop, seaprox_wake and
     * seaprox_counters; all other functions give -EBUSY.
     */
    void (*on_connect)(void *user, uint64_t ticket, const struct seaprox_target *target);
    /**
     * Given to the callback.
     */
    void *user;
};

/**
 * What happened. All of it is gone when the callback returns.
 */
struct seaprox_notice {
    /**
     * sizeof(struct seaprox_notice).
     */
    size_t size;
    /**
     * SEAPROX_NOTICE_CONNECTED and the like.
     */
    uint32_t kind;
    /**
     * Why, of a connection that was refused or did not end in order, or of a link; 0 else.
     */
    uint32_t reason;
    /**
     * What the kernel said (EMFILE ..) when it ran out of something; 0 else.
     */
    int error;
    /**
     * Bytes read from the source, of a connection that was closed.
     */
    uint64_t source_bytes;
    /**
     * Bytes read from the dest, of a connection that was closed.
     */
    uint64_t dest_bytes;
    /**
     * The source's own word, of a connection that was closed or refused.
     */
    uint64_t source_data;
    /**
     * The dest's own word, likewise.
     */
    uint64_t dest_data;
    /**
     * Which connection, or who came, or the far end of the link, in words.
     */
    const char *description;
    /**
     * Which of the peers of seaprox_link is at the far end of the link, from 0; SEAPROX_NONE: it is not known,
     * or it is no link.
     */
    uint32_t peer;
};

/**
 * Is told what happens.
 */
struct seaprox_observer {
    /**
     * sizeof(struct seaprox_observer).
     */
    size_t size;
    /**
     * Called on the thread it happens on. It must not block. It may call what `on_connect` may.
     */
    void (*on_notice)(void *user, const struct seaprox_notice *notice);
    /**
     * Given to the callback.
     */
    void *user;
};

/**
 * What a proxy type makes of what it heard. All of it is zero, but for the size and where words for the
 * client go, when a callback is called.
 */
struct seaprox_verdict {
    /**
     * sizeof(struct seaprox_verdict).
     */
    size_t size;
    /**
     * Room for SEAPROX_REPLY_SIZE bytes that the client is told, before any of the dest's. If it has not
     * taken what it was told before there may be less: then it is refused.
     */
    uint8_t *reply;
    /**
     * How many bytes were put there.
     */
    size_t reply_size;
    /**
     * How many bytes of the input need not be seen again. What is left with SEAPROX_CONNECT goes to the
     * dest.
     */
    size_t consumed;
    /**
     * With SEAPROX_CONNECT: SEAPROX_TARGET_DEFAULT, _ADDRESS, _NAME or _SERVICE.
     */
    uint32_t target_kind;
    /**
     * With SEAPROX_REJECT: why (SEAPROX_REASON_..).
     */
    uint32_t reason;
    /**
     * With an address or a name: the port.
     */
    uint16_t port;
    /**
     * How many bytes of `host` there are.
     */
    uint16_t host_size;
    /**
     * An address without its port ("1.2.3.4", "::1"), or a name.
     */
    uint8_t host[SEAPROX_HOST_SIZE];
};

/**
 * What clients say before their bytes flow. Its callbacks are called on the thread that drives the client, with
 * `state`: bytes of that client's own, aligned for any number, zero when it comes; nothing is told of its
 * end, so nothing may hang on them. They may call what `on_connect` may.
 *
 * A callback that gives what it cannot (another verdict, more bytes than there are, an address that
 * is none) loses its client, and no other.
 */
struct seaprox_proxy_type {
    /**
     * sizeof(struct seaprox_proxy_type).
     */
    size_t size;
    /**
     * SEAPROX_SEATS_SIZE bytes, a multiple of SEAPROX_ALIGN, the library's until seaprox_close. As of the
     * proxy's own memory: best it is zero.
     */
    void *seats;
    /**
     * How many bytes: SEAPROX_SEAT_BYTES for each connection of the options are enough.
     */
    size_t seats_size;
    /**
     * How many bytes of state it wants, at most SEAPROX_STATE_SIZE.
     */
    uint32_t state_size;
    /**
     * How long a client may take to say what it wants, in milliseconds; 0: 10,000.
     */
    uint32_t timeout_millis;
    /**
     * Hears all that a client has said and that was not consumed: first nothing, when it comes. Gives
     * SEAPROX_MORE, SEAPROX_CONNECT or SEAPROX_REJECT. Is something consumed and something left, it is
     * called again at once, so that one message a call is enough. To want more of SEAPROX_INPUT_SIZE bytes without
     * consuming any is to refuse the client.
     */
    int (*on_bytes)(void *user,
                    void *state,
                    const uint8_t *input,
                    size_t input_size,
                    struct seaprox_verdict *verdict);
    /**
     * Is told what became of the dest, once, with 0 or a reason (also SEAPROX_REASON_TIMED_OUT, of a
     * client that did not say in time), unless it rejected the client itself or the client is gone; may
     * put a reply for the client into the verdict. A client without a connection and without a reply is
     * reset.
     */
    void (*on_answer)(void *user, void *state, uint32_t reason, struct seaprox_verdict *verdict);
    /**
     * Given to the callbacks.
     */
    void *user;
};

/**
 * Somebody who may be at the far end of a link.
 */
struct seaprox_peer {
    /**
     * sizeof(struct seaprox_peer), the same of all peers of an array.
     */
    size_t size;
    /**
     * What it is known by: SEAPROX_KEY_SIZE bytes, as seaprox_public_key gives them there.
     */
    const uint8_t *key;
    /**
     * What both know besides: SEAPROX_KEY_SIZE bytes that were drawn at random; null: nothing.
     */
    const uint8_t *psk;
};

/**
 * An end of links: each carries the connections of one thread between two seaprox. Zeroes but for the size,
 * the address, the memory, and either `insecure` or keys are the usual.
 */
struct seaprox_link {
    /**
     * sizeof(struct seaprox_link).
     */
    size_t size;
    /**
     * Where: "udp:1.2.3.4:7000", "sctp:1.2.3.4:7000", "seqpacket:/path" or "seqpacket:@name"; of SCTP
     * further addresses of the same machine behind commas. To take links in, also "udp::7000": every
     * address of this machine.
     */
    const char *address;
    /**
     * 1: whoever can reach either end, or the way between, may use and read the link. Without keys it must be
     * said, and with keys it must not.
     */
    uint32_t insecure;
    /**
     * After how long without a sign of the far end a link is dead, in milliseconds; 0: 15,000.
     */
    uint32_t timeout_millis;
    /**
     * How long connections wait for a link that is down before they are refused, in milliseconds; 0:
     * 10,000. Of no meaning where links come in.
     */
    uint32_t wait_millis;
    /**
     * What the far end is asked for, by connections that do not say themselves: SEAPROX_TARGET_DEFAULT (its own
     * targets), _ADDRESS, _NAME or _SERVICE. Of no meaning where links come in.
     */
    uint32_t target_kind;
    /**
     * The port of an address or a name.
     */
    uint16_t port;
    /**
     * The address without its port, or the name; null for the default.
     */
    const char *host;
    /**
     * seaprox_link_sizeof bytes, a multiple of SEAPROX_ALIGN, the library's until seaprox_close; best zero,
     * and from mmap(2) or calloc: most of it is used under load alone.
     */
    void *memory;
    /**
     * How many bytes.
     */
    size_t memory_size;
    /**
     * This end's secret, SEAPROX_KEY_SIZE bytes that nobody else knows; null: links have no keys. Copied into the
     * link's memory, all of which seaprox_close overwrites; what is the caller's stays as it is.
     */
    const uint8_t *key;
    /**
     * With a key: who may be at the far end. Links come in from any of them; a link that goes out leads to
     * the only one. Copied likewise.
     */
    const struct seaprox_peer *peers;
    /**
     * How many, at most SEAPROX_PEERS_MAX.
     */
    size_t peers_size;
};

/**
 * What a thread, or all of them, hold and have seen.
 */
struct seaprox_counters {
    /**
     * sizeof(struct seaprox_counters), set by the caller; what does not fit is not written.
     */
    size_t size;
    /**
     * Connections held now.
     */
    uint64_t occupied;
    /**
     * Connections that may be held.
     */
    uint64_t limit;
    /**
     * Connections taken from listeners and links so far.
     */
    uint64_t accepted;
    /**
     * Connections whose dest was reached.
     */
    uint64_t connected;
    /**
     * Connections that ended, however.
     */
    uint64_t closed;
    /**
     * Bytes relayed by the connections that ended, both directions.
     */
    uint64_t bytes;
    /**
     * Connections that ended, or were not made, for each reason.
     */
    uint64_t failed[SEAPROX_NUM_CONNECTION_FAIL_REASONS];
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * How many bytes of memory a proxy takes: at most SEAPROX_SIZE.
 */
size_t seaprox_sizeof(void);

/**
 * What their address must be a multiple of: SEAPROX_ALIGN.
 */
size_t seaprox_alignof(void);

/**
 * Puts a proxy into memory, which is the library's from now until seaprox_close gave 0. Best it is
 * zero already (a static, calloc, mmap): what is not is made so, and pages of it that are
 * never used take no room then. The descriptors 0, 1 and 2 must be open.
 *
 * -EINVAL: a null pointer, memory that is too short (seaprox_sizeof) or misaligned, options of another
 * ABI version or that mean nothing, more connections or threads than the library was built for.
 * -E2BIG: options that this library does not know. -EBUSY: there is a proxy in this memory that was not
 * closed. -EBADF: a standard descriptor is closed.
 */
int seaprox_init(void *memory,
                 size_t size,
                 const struct seaprox_options *options,
                 struct seaprox **proxy);

/**
 * Listens on an address: "1.2.3.4:80", "[::1]:80" (IPv6 alone), ":80" (every address of this
 * machine), "unix:/path" or "unix:@name". Port 0 takes one that is free, which seaprox_listening
 * tells. May be called up to SEAPROX_LISTENERS_MAX times.
 *
 * -EINVAL: no such address. -EBUSY: the proxy has started. -ENOSPC: too many. Or what the kernel says:
 * -EADDRINUSE, -EACCES ..
 */
int seaprox_listen(struct seaprox *proxy,
                   const char *address);

/**
 * Listens on a socket that somebody else has opened and that listens already, such as one of socket
 * activation. If this gives 0 the descriptor is the library's, which closes it in seaprox_close;
 * but it does not shut the socket down, so that others may go on with it.
 *
 * -EBADF: it is not open. -EPROTOTYPE: it is no stream socket. -EINVAL: it does not listen.
 * -EBUSY, -ENOSPC: as seaprox_listen.
 */
int seaprox_listen_fd(struct seaprox *proxy, int fd);

/**
 * The address of listener number `index`, in the order they were added, in words that seaprox_listen
 * reads ("unix" for a path); number 0 is where links come in, if they do, before the start.
 * SEAPROX_ADDRESS_SIZE bytes of room are enough.
 *
 * -ENOENT: there are not so many. -ENOSPC: it is cut.
 */
int seaprox_listening(const struct seaprox *proxy,
                      uint32_t index,
                      char *text,
                      size_t size);

/**
 * Adds a target: "1.2.3.4:80", "[::1]:80" or "unix:/path". Each connection goes to the first of them that
 * can be reached. Names are for a connector (seaprox_connector).
 *
 * -EINVAL: no such address. -EEXIST: there is a connector. -EBUSY: the proxy has started. -ENOSPC:
 * there are SEAPROX_TARGETS_MAX.
 */
int seaprox_target(struct seaprox *proxy,
                   const char *address);

/**
 * Lets a callback reach every dest, in place of targets.
 *
 * -EINVAL: no callback, or no size. -EEXIST: there is one, or there are targets. -EBUSY: the proxy
 * has started.
 */
int seaprox_connector(struct seaprox *proxy, const struct seaprox_connector *connector);

/**
 * Lets a callback be told what happens.
 *
 * -EINVAL: no callback, or no size. -EEXIST: there is one. -EBUSY: the proxy has started.
 */
int seaprox_observer(struct seaprox *proxy, const struct seaprox_observer *observer);

/**
 * Lets clients say what they want, in what a proxy type understands: before a connector, or before the
 * library's own dialing of addresses and of the proxy's targets, if there are any.
 *
 * -EINVAL: no callbacks, no size, too much state; no memory for the seats, too little of it, misaligned,
 * or the proxy's own. -EEXIST: there is one. -EBUSY: the proxy has started.
 */
int seaprox_proxy_type(struct seaprox *proxy,
                       const struct seaprox_proxy_type *proxy_type);

/**
 * How many bytes of memory an end of links takes: `kind` as of seaprox_link, `threads` as of the options.
 * 0: no such end.
 */
size_t seaprox_link_sizeof(uint32_t kind,
                           uint32_t threads);

/**
 * What the other ends are to know an end by: writes the SEAPROX_KEY_SIZE bytes of the public key that goes with a
 * secret of as many. Any bytes that were drawn at random are one.
 *
 * -EINVAL: null, or nothing but zeroes.
 */
int seaprox_public_key(const uint8_t *key,
                       uint8_t *public_key);

/**
 * Joins the proxy to another seaprox by links. `kind` SEAPROX_SOURCE: links come in at the address, up to two a
 * thread, in place of listeners; their connections go to the targets, or to a connector (which is told what
 * each wants), or on through another link. SEAPROX_DEST: connections go into a link a thread to the
 * address, which is connected, and again for ever when it is lost.
 *
 * -EINVAL: no such kind or address, no size, memory as of seaprox_proxy_type; a key of nothing but zeroes, one that
 * keeps no secret, this end's own among the peers, no peer, more than one of a link that goes out, or
 * keys and `insecure` as well. -EPERM: no keys, and `insecure` is not 1. -ENOSPC: more than SEAPROX_PEERS_MAX.
 * -EEXIST: there is one, or connections come from, or go, somewhere else, or two peers have one key. -EBUSY: the
 * proxy has started. Or what the kernel says: -EADDRINUSE, -EPROTONOSUPPORT (it has no SCTP) ..
 */
int seaprox_link(struct seaprox *proxy,
                 uint32_t kind,
                 const struct seaprox_link *link);

/**
 * Starts the proxy: from now on its threads may be driven, and must be. Where SIGPIPE would end the process
 * it is ignored from now on: splice(2) has no flag that says so.
 *
 * -EINVAL: it is not known where connections come from, or where they go. -EBUSY: it has started. Or
 * what the kernel says (-EMFILE ..): then it can only be closed.
 */
int seaprox_start(struct seaprox *proxy);

/**
 * Ends the proxy: what runs is reset, every descriptor of it is closed, and the memory is the
 * caller's again. Tickets that were given out must not be used any more, nor anything else of it.
 *
 * -EBUSY: a thread is being driven (seaprox_stop, and wait for it), or this is a callback; nothing was
 * done.
 */
int seaprox_close(struct seaprox *proxy);

/**
 * Drives a thread until it was told to drain or to stop and nothing is left. Blocks; the thread may
 * be any, one for each number below the options' `threads`.
 *
 * -EINVAL: there is no such thread, or the proxy was not started. -EBUSY: it is driven by somebody
 * else, or this is a callback. Or what the kernel says if it refuses to wait.
 */
int seaprox_run(struct seaprox *proxy, uint32_t thread);

/**
 * One turn of a thread. Waits for something to do for `timeout_millis` at most: 0 not at all, less than
 * 0 as long as it takes. Between two turns the thread's connections can be looked at.
 *
 * -ESHUTDOWN: it was told to drain or to stop, and nothing is left. Else as seaprox_run.
 */
int seaprox_turn(struct seaprox *proxy,
                 uint32_t thread,
                 int timeout_millis);

/**
 * The descriptor that is readable when a turn has something to do, for a loop of one's own. It is an
 * epoll, and the library's.
 *
 * -ESHUTDOWN: as seaprox_turn. -EINVAL, -EBUSY: as seaprox_run.
 */
int seaprox_fd(const struct seaprox *proxy,
               uint32_t thread,
               int *fd);

/**
 * In how many milliseconds a turn is due although that descriptor may not be readable; -1: not before
 * it is. To be asked after every turn.
 *
 * -ESHUTDOWN: as seaprox_turn. -EINVAL, -EBUSY: as seaprox_run.
 */
int seaprox_timeout(const struct seaprox *proxy,
                    uint32_t thread,
                    int *timeout_millis);

/**
 * Lets every turn that waits end now. From any thread, from callbacks and from signal handlers.
 */
int seaprox_wake(const struct seaprox *proxy);

/**
 * Drains: what waits at the listeners is taken, nothing after it, and what runs is finished. From
 * any thread, from callbacks and from signal handlers.
 */
int seaprox_drain(const struct seaprox *proxy);

/**
 * Stops: what runs is reset. From any thread, from callbacks and from signal handlers.
 */
int seaprox_stop(const struct seaprox *proxy);

/**
 * Reports what became of a connect, once, from any thread or from the callback itself. `reason` 0:
 * `fd` is a stream socket that is connected, or whose connect is under way, and the library's from now on. Else
 * the connect failed for this reason (SEAPROX_REASON_..), and `fd` is -1.
 *
 * If this does not give 0 the descriptor is still the caller's, to be closed. -ESTALE: the ticket was used,
 * or its connection timed out or was given up. -EINVAL: no such reason, or a descriptor with one, or a
 * standard descriptor. -EBADF: it is not open. -ENOTSOCK: it is no socket.
 */
int seaprox_complete(const struct seaprox *proxy,
                     uint64_t ticket,
                     int fd,
                     uint32_t reason);

/**
 * Connects a ticket to an address: "1.2.3.4:80", "[::1]:80" or "unix:/path". Does not wait: the proxy
 * does. For whoever only looks a name up, or only chooses. From any thread or from the callback.
 *
 * -EINVAL: no such address. -ESTALE: as seaprox_complete. Or what the kernel says of socket(2) and
 * connect(2); except with -ESTALE the ticket is still good, for another address or a reason.
 */
int seaprox_connect(const struct seaprox *proxy,
                    uint64_t ticket,
                    const char *address);

/**
 * What a thread, or all of them (SEAPROX_ALL), hold and have seen. From any thread, at any time, and from
 * callbacks. Set `counters->size` first.
 *
 * -EINVAL: there is no such thread, or no size.
 */
int seaprox_counters(const struct seaprox *proxy,
                     uint32_t thread,
                     struct seaprox_counters *counters);

/**
 * A reason in one word, "timed-out"; "none" for 0, and null for what is no reason. Good for ever.
 */
const char *seaprox_reason_name(uint32_t reason);

/**
 * The next connection of a thread after `*connection`, which it becomes; SEAPROX_NONE begins.
 * O(connections) for all of them together.
 *
 * -ENOENT: there is none any more. -EINVAL: there is no such thread, it was not started, or
 * `*connection` is another's. -EBUSY: it is being driven, or this is a callback. -ESHUTDOWN: it has ended.
 */
int seaprox_next(const struct seaprox *proxy,
                 uint32_t thread,
                 uint32_t *connection);

/**
 * A connection in words: "static[ipv4[1.2.3.4:3234]->ipv6[[::1]:80]]". SEAPROX_DESCRIPTION_SIZE bytes of room
 * are enough.
 *
 * -ENOENT: there is no such connection. -ENOSPC: it is cut. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_connection_describe(const struct seaprox *proxy,
                                uint32_t connection,
                                char *text,
                                size_t size);

/**
 * The source side of a connection: who came.
 *
 * -EINVAL: there can be no such connection.
 */
int seaprox_connection_source(const struct seaprox *proxy, uint32_t connection, uint32_t *side);

/**
 * The dest side of a connection: whom the proxy went to.
 *
 * -EINVAL: there can be no such connection.
 */
int seaprox_connection_dest(const struct seaprox *proxy, uint32_t connection, uint32_t *side);

/**
 * The connection of a side.
 *
 * -EINVAL: there can be no such side.
 */
int seaprox_side_get_connection(const struct seaprox *proxy, uint32_t side, uint32_t *connection);

/**
 * The other side of the same connection.
 *
 * -EINVAL: there can be no such side.
 */
int seaprox_side_get_other_side(const struct seaprox *proxy, uint32_t side, uint32_t *other);

/**
 * Which side it is: SEAPROX_SOURCE or SEAPROX_DEST.
 *
 * -EINVAL: there can be no such side.
 */
int seaprox_side_kind(const struct seaprox *proxy, uint32_t side, uint32_t *kind);

/**
 * How far a side is: SEAPROX_IDLE, SEAPROX_CONNECTING or SEAPROX_CONNECTED.
 *
 * -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_side_state(const struct seaprox *proxy, uint32_t side, uint32_t *state);

/**
 * The descriptor of a side, -1 if it has none (a channel of a link has none). It is the library's, and may be
 * closed in the next turn: to look at, or to set an option.
 *
 * -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_side_fd(const struct seaprox *proxy,
                    uint32_t side,
                    int *fd);

/**
 * The bytes read from a side so far.
 *
 * -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_side_bytes(const struct seaprox *proxy, uint32_t side, uint64_t *bytes);

/**
 * Who is at the far end of a side, in words: "ipv4[1.2.3.4:3234]". SEAPROX_ADDRESS_SIZE bytes of room are
 * enough.
 *
 * -ENOENT: there is no such connection. -ENOSPC: it is cut. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_side_describe(const struct seaprox *proxy,
                          uint32_t side,
                          char *text,
                          size_t size);

/**
 * The caller's own word on a side, 0 if it has none.
 *
 * -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_side_data(const struct seaprox *proxy, uint32_t side, uint64_t *data);

/**
 * Sets the caller's own word on a side, until its connection ends: the observer is told of it then.
 *
 * -ENOENT: there is no such connection. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_side_set_data(const struct seaprox *proxy, uint32_t side, uint64_t data);

/**
 * The first side of a thread that has this word of the caller's, which is not 0. O(connections).
 *
 * -ENOENT: none has. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
 */
int seaprox_data_get_side(const struct seaprox *proxy,
                          uint32_t thread,
                          uint64_t data,
                          uint32_t *side);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SEAPROX_H */
