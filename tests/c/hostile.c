/*
 * Proxy types that give what they cannot: each loses its client, and no other. What a client is to be
 * done to it says itself, with its first byte; beside each a client of good manners goes on.
 */
#include <seaprox.h>

#include "check.h"

#include <pthread.h>
#include <stdalign.h>

enum { CONNECTIONS = 8, TIMEOUT_MILLIS = 300 };

static alignas(SEAPROX_ALIGN) unsigned char memory[SEAPROX_SIZE];
static alignas(SEAPROX_ALIGN) unsigned char seats[CONNECTIONS * SEAPROX_SEAT_BYTES];
static struct seaprox *proxy;
static int backend_port;

/* What a callback may not call. */
static void call_back(void) {
    char text[8];
    uint32_t number = SEAPROX_NONE;
    IS(-EBUSY, seaprox_turn(proxy, 0, 0));
    IS(-EBUSY, seaprox_run(proxy, 0));
    IS(-EBUSY, seaprox_next(proxy, 0, &number));
    IS(-EBUSY, seaprox_connection_describe(proxy, 0, text, sizeof text));
    IS(-EBUSY, seaprox_listen(proxy, "127.0.0.1:0"));
    IS(-EBUSY, seaprox_start(proxy));
    IS(-EBUSY, seaprox_close(proxy));
}

static void name(struct seaprox_verdict *verdict, uint32_t kind, const char *host, size_t size) {
    verdict->target_kind = kind;
    verdict->host_size = (uint16_t)size;
    memcpy(verdict->host, host, size < sizeof verdict->host ? size : sizeof verdict->host);
    verdict->port = (uint16_t)backend_port;
}

static int on_bytes(void *user, void *state, const uint8_t *input, size_t size,
                    struct seaprox_verdict *verdict) {
    static const char long_name[SEAPROX_HOST_SIZE];
    unsigned char *own = state;
    (void)user;
    IS(0, (uintptr_t)state % sizeof(uint64_t));
    CHECK(verdict->size >= sizeof *verdict && size <= SEAPROX_INPUT_SIZE && input != NULL);
    IS(0, verdict->reply_size + verdict->consumed + verdict->host_size + verdict->port);
    if (own[0] == 0)
        for (int n = 0; n < SEAPROX_STATE_SIZE; n++)
            IS(0, own[n]);
    memset(state, 0xee, SEAPROX_STATE_SIZE);
    if (size == 0)
        return SEAPROX_MORE;
    verdict->consumed = 1;
    switch (input[0]) {
    case '+':
        name(verdict, SEAPROX_TARGET_ADDRESS, "127.0.0.1", 9);
        return SEAPROX_CONNECT;
    case 'r':
        verdict->reply_size = SEAPROX_REPLY_SIZE + 1;
        return SEAPROX_MORE;
    case 'R':
        verdict->reply_size = SIZE_MAX;
        return SEAPROX_CONNECT;
    case 'c':
        verdict->consumed = size + 1;
        return SEAPROX_MORE;
    case 'C':
        verdict->consumed = SIZE_MAX;
        return SEAPROX_REJECT;
    case 'v':
        return 77;
    case 'V':
        return -1;
    case 'h':
        name(verdict, SEAPROX_TARGET_NAME, long_name, UINT16_MAX);
        return SEAPROX_CONNECT;
    case 'H':
        name(verdict, SEAPROX_TARGET_NAME, long_name, SEAPROX_HOST_SIZE);
        return SEAPROX_CONNECT;
    case 'n':
        name(verdict, SEAPROX_TARGET_NAME, "", 0);
        return SEAPROX_CONNECT;
    case 'a':
        name(verdict, SEAPROX_TARGET_ADDRESS, "127.0.0.1\0", 10);
        return SEAPROX_CONNECT;
    case 'A':
        name(verdict, SEAPROX_TARGET_ADDRESS, "\xff\xfe", 2);
        return SEAPROX_CONNECT;
    case 'k':
        name(verdict, 99, "127.0.0.1", 9);
        return SEAPROX_CONNECT;
    case 'p':
        name(verdict, SEAPROX_TARGET_ADDRESS, "127.0.0.1", 9);
        verdict->port = 0;
        return SEAPROX_CONNECT;
    case 's':
        name(verdict, SEAPROX_TARGET_SERVICE, "none", 4);
        return SEAPROX_CONNECT;
    case 'q':
        verdict->reason = UINT32_MAX;
        return SEAPROX_REJECT;
    case 'x':
        memset(verdict, 0xff, sizeof *verdict);
        return SEAPROX_CONNECT;
    case 'm':
        verdict->consumed = size;
        return SEAPROX_MORE;
    case 'f':
        verdict->consumed = 0;
        return SEAPROX_MORE;
    case 'w': /* Says more and more, to one who does not listen. */
        verdict->consumed = 0;
        verdict->reply_size = SEAPROX_REPLY_SIZE;
        return SEAPROX_MORE;
    case 'b':
        call_back();
        name(verdict, SEAPROX_TARGET_ADDRESS, "127.0.0.1", 9);
        return SEAPROX_CONNECT;
    case 'o':
        name(verdict, SEAPROX_TARGET_ADDRESS, "127.0.0.1", 9);
        own[1] = 'o';
        return SEAPROX_CONNECT;
    default:
        CHECK(!"a client of whom nobody knows");
        return SEAPROX_REJECT;
    }
}

static void on_answer(void *user, void *state, uint32_t reason, struct seaprox_verdict *verdict) {
    const unsigned char *own = state;
    (void)user;
    call_back();
    IS(0, verdict->reply_size);
    if (own[1] == 'o')
        verdict->reply_size = SEAPROX_REPLY_SIZE + 1;
    else if (reason == 0) {
        memcpy(verdict->reply, "ok", 2);
        verdict->reply_size = 2;
    }
}

static void *run(void *arg) {
    (void)arg;
    IS(0, seaprox_run(proxy, 0));
    return NULL;
}

/* Memory for clients that cannot be. */
static void refuses_seats(void) {
    struct seaprox_proxy_type type = {.size = sizeof type,
                                      .seats = seats,
                                      .seats_size = sizeof seats,
                                      .state_size = SEAPROX_STATE_SIZE,
                                      .timeout_millis = TIMEOUT_MILLIS,
                                      .on_bytes = on_bytes,
                                      .on_answer = on_answer};
    struct seaprox_proxy_type other = type;

    IS(-EINVAL, seaprox_proxy_type(proxy, NULL));
    other.size = 0;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.on_bytes = NULL;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.on_answer = NULL;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.state_size = SEAPROX_STATE_SIZE + 1;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.timeout_millis = UINT32_MAX;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.seats = NULL;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.seats = seats + 1;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.seats_size = (CONNECTIONS - 1) * SEAPROX_SEAT_BYTES;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    other = type, other.seats = memory + SEAPROX_ALIGN;
    IS(-EINVAL, seaprox_proxy_type(proxy, &other));
    IS(-EINVAL, seaprox_start(proxy));
    IS(0, seaprox_proxy_type(proxy, &type));
    IS(-EEXIST, seaprox_proxy_type(proxy, &type));
}

/* Hears whatever it is told, and then a reset, or an end after a reply. */
static void hear_no_connection(int fd) {
    char room[512];
    ssize_t bytes;
    while ((bytes = recv(fd, room, sizeof room, 0)) > 0)
        ;
    CHECK(bytes == 0 || errno == ECONNRESET);
}

int main(void) {
    struct seaprox_options options = {.size = sizeof options, .abi_version = SEAPROX_ABI_VERSION};
    struct seaprox_counters counters = {.size = sizeof counters};
    char address[SEAPROX_ADDRESS_SIZE], full[SEAPROX_INPUT_SIZE];
    const char *hostile = "rRcCvVhHnaAkpsqxmo";
    int backend = listen_somewhere(&backend_port);
    pthread_t runner;

    memset(seats, 0xa5, sizeof seats);
    options.connections = CONNECTIONS, options.name = "hostile";
    IS(0, seaprox_init(memory, sizeof memory, &options, &proxy));
    IS(0, seaprox_listen(proxy, "127.0.0.1:0"));
    refuses_seats();
    IS(0, seaprox_start(proxy));
    IS(0, seaprox_listening(proxy, 0, address, sizeof address));
    IS(0, pthread_create(&runner, NULL, run, NULL));

    /* One of good manners, with what is for the dest right behind. */
    int port = port_of(address), good = connect_to(port);
    say(good, "+early");
    int dest = patient(accept(backend, NULL, NULL));
    hear(good, "ok");
    hear(dest, "early");
    for (const char *kind = hostile; *kind != 0; kind++) {
        int bad = connect_to(port);
        IS(1, send(bad, kind, 1, MSG_NOSIGNAL));
        hear_no_connection(bad);
        IS(0, close(bad));
        if (*kind == 'o')
            /* It was connected: its dest is reset too. */
            IS(0, close(accept(backend, NULL, NULL)));
        say(good, "still");
        hear(dest, "still");
        say(dest, "there");
        hear(good, "there");
    }
    memset(full, 'f', sizeof full);
    int bad = connect_to(port);
    IS(sizeof full, send(bad, full, sizeof full, MSG_NOSIGNAL));
    hear_no_connection(bad);
    IS(0, close(bad));
    bad = connect_to(port);
    /* As long as it is there, byte by byte. */
    while (send(bad, "w", 1, MSG_NOSIGNAL) == 1)
        usleep(1000);
    IS(0, close(bad));
    bad = connect_to(port);
    say(bad, "b");
    int second = patient(accept(backend, NULL, NULL));
    hear(bad, "ok");
    say(second, "all the same");
    hear(bad, "all the same");

    IS(0, shutdown(good, SHUT_WR));
    hear_end(dest);
    IS(0, seaprox_drain(proxy));
    IS(0, close(dest) | close(second) | close(bad) | close(good));
    IS(0, pthread_join(runner, NULL));
    IS(0, seaprox_counters(proxy, SEAPROX_ALL, &counters));
    IS(0, counters.occupied);
    IS(strlen(hostile) + 4, counters.accepted);
    IS(1, counters.failed[SEAPROX_REASON_NO_SUCH_SERVICE]);
    /* `m` took too long, `f` said too much, `o` was told too much, and `w` whichever comes first. */
    CHECK(counters.failed[SEAPROX_REASON_TIMED_OUT] > 0 && counters.failed[SEAPROX_REASON_PROTOCOL] > 0);
    IS(4, counters.failed[SEAPROX_REASON_TIMED_OUT] + counters.failed[SEAPROX_REASON_PROTOCOL]);
    IS(0, seaprox_close(proxy));
    puts("all so");
    return 0;
}
