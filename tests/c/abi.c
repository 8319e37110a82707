/*
 * What the library says to misuse, and what there is to be looked at: everything that a header's
 * sentence says of an error, on one proxy that is turned by hand.
 */
#include <seaprox.h>

#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <stdalign.h>

static alignas(SEAPROX_ALIGN) unsigned char memory[SEAPROX_SIZE + SEAPROX_ALIGN];
static struct seaprox *proxy;

static struct seaprox_options usual(void) {
    struct seaprox_options options = {.size = sizeof options, .abi_version = SEAPROX_ABI_VERSION};
    options.connections = 4;
    return options;
}

/* Memory of a proxy that was closed will do as well; but valgrind takes what is left in it for never
   written, and says so. */
static int init(const struct seaprox_options *options) {
#ifdef UNDER_VALGRIND
    if (proxy == NULL || seaprox_wake(proxy) != 0)
        memset(memory, 0, sizeof memory);
#endif
    return seaprox_init(memory, SEAPROX_SIZE, options, &proxy);
}

/* Memory and options that cannot be. */
static void refuses_memory_and_options(void) {
    struct seaprox_options options = usual();
    struct seaprox *other = (struct seaprox *)memory;

    CHECK(seaprox_sizeof() <= SEAPROX_SIZE);
    IS(SEAPROX_ALIGN, seaprox_alignof());
    IS(-EINVAL, seaprox_init(NULL, SEAPROX_SIZE, &options, &proxy));
    IS(-EINVAL, seaprox_init(memory + 1, SEAPROX_SIZE, &options, &proxy));
    IS(-EINVAL, seaprox_init(memory, seaprox_sizeof() - 1, &options, &other));
    CHECK(other == (struct seaprox *)memory);
    IS(-EINVAL, seaprox_init(memory, SEAPROX_SIZE, NULL, &proxy));
    IS(-EINVAL, seaprox_init(memory, SEAPROX_SIZE, &options, NULL));
    IS(-EINVAL, seaprox_init(memory, SEAPROX_SIZE, (void *)((char *)&options + 1), &proxy));

    options = usual(), options.size = 0;
    IS(-EINVAL, init(&options));
    options = usual(), options.size = 4;
    IS(-EINVAL, init(&options));
    options = usual(), options.abi_version++;
    IS(-EINVAL, init(&options));
    options = usual(), options.connections = SEAPROX_MAX_NUM_CONNECTIONS + 1;
    IS(-EINVAL, init(&options));
    options = usual(), options.threads = SEAPROX_NUM_THREADS + 1;
    IS(-EINVAL, init(&options));
    options = usual(), options.threads = 2, options.connections = 1;
    IS(-EINVAL, init(&options));
    options = usual(), options.when_full = 2;
    IS(-EINVAL, init(&options));
    options = usual(), options.idle_timeout_millis = UINT32_MAX;
    IS(-EINVAL, init(&options));
    const char *names[] = {"", "sixteen-letters-", "a[b", "a b", "\xc3\xa4"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        options = usual(), options.name = names[n];
        IS(-EINVAL, init(&options));
    }
    char endless[4096];
    memset(endless, 'a', sizeof endless);
    options = usual(), options.name = endless;
    IS(-ENAMETOOLONG, init(&options));

    /* A caller that is newer than the library: it may know more, as long as it asks for nothing. */
    struct {
        struct seaprox_options known;
        uint64_t unknown[4];
    } newer = {.known = usual()};
    newer.known.size = sizeof newer;
    newer.unknown[3] = 1;
    IS(-E2BIG, init(&newer.known));
    newer.unknown[3] = 0;
    IS(0, init(&newer.known));
    IS(-EBUSY, init(&newer.known));
    IS(0, seaprox_close(proxy));

    /* Memory that held something else. */
    memset(memory, 0xa5, sizeof memory);
    options = usual();
    IS(0, init(&options));
    IS(0, seaprox_close(proxy));

    int second = dup(2);
    CHECK(second > 2);
    close(2);
    int result = init(&options);
    CHECK(dup2(second, 2) == 2);
    close(second);
    IS(-EBADF, result);
}

/* Handles that are none, in every function. */
static void refuses_other_handles(void) {
    struct seaprox_options options = usual();
    struct seaprox_counters counters = {.size = sizeof counters};
    uint32_t number = SEAPROX_NONE;
    uint64_t word;
    int fd;
    char text[8];
    static alignas(SEAPROX_ALIGN) unsigned char copy[SEAPROX_SIZE];

    IS(0, init(&options));
    memcpy(copy, memory, sizeof copy);
    IS(0, seaprox_close(proxy));
    struct seaprox *handles[] = {NULL, (struct seaprox *)(memory + 1), proxy,
                                 (struct seaprox *)copy};
    for (size_t n = 0; n < sizeof handles / sizeof *handles; n++) {
        struct seaprox *none = handles[n];
        IS(-EINVAL, seaprox_listen(none, "127.0.0.1:0"));
        IS(-EINVAL, seaprox_listen_fd(none, 0));
        IS(-EINVAL, seaprox_listening(none, 0, text, sizeof text));
        IS(-EINVAL, seaprox_target(none, "127.0.0.1:80"));
        IS(-EINVAL, seaprox_connector(none, NULL));
        IS(-EINVAL, seaprox_observer(none, NULL));
        IS(-EINVAL, seaprox_start(none));
        IS(-EINVAL, seaprox_close(none));
        IS(-EINVAL, seaprox_run(none, 0));
        IS(-EINVAL, seaprox_turn(none, 0, 0));
        IS(-EINVAL, seaprox_fd(none, 0, &fd));
        IS(-EINVAL, seaprox_timeout(none, 0, &fd));
        IS(-EINVAL, seaprox_wake(none));
        IS(-EINVAL, seaprox_drain(none));
        IS(-EINVAL, seaprox_stop(none));
        IS(-EINVAL, seaprox_complete(none, 1, -1, SEAPROX_REASON_OTHER));
        IS(-EINVAL, seaprox_connect(none, 1, "127.0.0.1:80"));
        IS(-EINVAL, seaprox_counters(none, 0, &counters));
        IS(-EINVAL, seaprox_next(none, 0, &number));
        IS(-EINVAL, seaprox_connection_describe(none, 0, text, sizeof text));
        IS(-EINVAL, seaprox_connection_source(none, 0, &number));
        IS(-EINVAL, seaprox_connection_dest(none, 0, &number));
        IS(-EINVAL, seaprox_side_get_connection(none, 0, &number));
        IS(-EINVAL, seaprox_side_get_other_side(none, 0, &number));
        IS(-EINVAL, seaprox_side_kind(none, 0, &number));
        IS(-EINVAL, seaprox_side_state(none, 0, &number));
        IS(-EINVAL, seaprox_side_fd(none, 0, &fd));
        IS(-EINVAL, seaprox_side_bytes(none, 0, &word));
        IS(-EINVAL, seaprox_side_describe(none, 0, text, sizeof text));
        IS(-EINVAL, seaprox_side_data(none, 0, &word));
        IS(-EINVAL, seaprox_side_set_data(none, 0, 1));
        IS(-EINVAL, seaprox_data_get_side(none, 0, 1, &number));
    }
}

static void on_connect(void *user, uint64_t ticket, const struct seaprox_target *target) {
    (void)user, (void)ticket, (void)target;
}

/* Being told what cannot be, and what is told too late. */
static void refuses_to_be_told(void) {
    struct seaprox_options options = usual();
    struct seaprox_connector connector = {.size = sizeof connector};
    struct seaprox_observer observer = {.size = sizeof observer};
    char text[SEAPROX_ADDRESS_SIZE];
    int fd;

    IS(0, init(&options));
    IS(-EINVAL, seaprox_start(proxy));
    IS(-EINVAL, seaprox_turn(proxy, 0, 0));
    IS(-EINVAL, seaprox_run(proxy, 0));
    IS(-EINVAL, seaprox_fd(proxy, 0, &fd));
    const char *nowhere[] = {"", "here", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x", "unix:", ":+1"};
    for (size_t n = 0; n < sizeof nowhere / sizeof *nowhere; n++) {
        IS(-EINVAL, seaprox_listen(proxy, nowhere[n]));
        IS(-EINVAL, seaprox_target(proxy, nowhere[n]));
    }
    IS(-EINVAL, seaprox_listen(proxy, NULL));
    IS(-EINVAL, seaprox_target(proxy, NULL));
    IS(-EINVAL, seaprox_target(proxy, "127.0.0.1:0"));
    IS(-EINVAL, seaprox_target(proxy, "localhost:80"));
    IS(-EADDRNOTAVAIL, seaprox_listen(proxy, "192.0.2.1:0"));
    IS(-EBADF, seaprox_listen_fd(proxy, -1));
    IS(-EBADF, seaprox_listen_fd(proxy, 1000));
    IS(-ENOTSOCK, seaprox_listen_fd(proxy, 0));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd > 2);
    IS(-EINVAL, seaprox_listen_fd(proxy, fd));
    IS(0, close(fd));

    for (int n = 0; n < SEAPROX_LISTENERS_MAX; n++)
        IS(0, seaprox_listen(proxy, "127.0.0.1:0"));
    IS(-ENOSPC, seaprox_listen(proxy, "127.0.0.1:0"));
    IS(0, seaprox_listening(proxy, SEAPROX_LISTENERS_MAX - 1, text, sizeof text));
    IS(-EADDRINUSE, seaprox_listen(proxy, text));
    IS(-ENOENT, seaprox_listening(proxy, SEAPROX_LISTENERS_MAX, text, sizeof text));
    IS(-EINVAL, seaprox_listening(proxy, 0, text, 0));
    IS(-EINVAL, seaprox_listening(proxy, 0, NULL, sizeof text));
    IS(-ENOSPC, seaprox_listening(proxy, 0, text, 4));
    IS(0, strcmp(text, "127"));

    IS(-EINVAL, seaprox_connector(proxy, NULL));
    IS(-EINVAL, seaprox_connector(proxy, &connector));
    IS(-EINVAL, seaprox_observer(proxy, &observer));
    connector.on_connect = on_connect, connector.size = 0;
    IS(-EINVAL, seaprox_connector(proxy, &connector));
    connector.size = sizeof connector;
    IS(0, seaprox_connector(proxy, &connector));
    IS(-EEXIST, seaprox_connector(proxy, &connector));
    IS(-EEXIST, seaprox_target(proxy, "127.0.0.1:80"));
    IS(0, seaprox_start(proxy));

    IS(-EBUSY, seaprox_start(proxy));
    IS(-EBUSY, seaprox_listen(proxy, "127.0.0.1:0"));
    IS(-EBUSY, seaprox_listen_fd(proxy, 0));
    IS(-EBUSY, seaprox_target(proxy, "127.0.0.1:80"));
    IS(-EBUSY, seaprox_connector(proxy, &connector));
    IS(-EBUSY, seaprox_observer(proxy, &observer));
    IS(0, seaprox_close(proxy));

    IS(0, init(&options));
    for (int n = 0; n < SEAPROX_TARGETS_MAX; n++)
        IS(0, seaprox_target(proxy, "127.0.0.1:80"));
    IS(-ENOSPC, seaprox_target(proxy, "127.0.0.1:80"));
    IS(-EEXIST, seaprox_connector(proxy, &connector));
    IS(0, seaprox_close(proxy));
}

/* What the observer heard last. */
struct heard {
    struct seaprox_notice notice;
    char description[SEAPROX_DESCRIPTION_SIZE];
    int times;
};

static void on_notice(void *user, const struct seaprox_notice *notice) {
    struct heard *heard = user;
    struct seaprox_counters counters = {.size = sizeof counters};
    uint32_t number = SEAPROX_NONE;
    uint64_t word;
    int fd;

    CHECK(notice->size >= sizeof *notice);
    CHECK(strlen(notice->description) < sizeof heard->description);
    strcpy(heard->description, notice->description);
    heard->notice = *notice;
    heard->times++;
    /* What a callback may call, and what it may not. */
    IS(0, seaprox_wake(proxy));
    IS(0, seaprox_counters(proxy, SEAPROX_ALL, &counters));
    IS(-ESTALE, seaprox_complete(proxy, 1, -1, SEAPROX_REASON_OTHER));
    IS(-EBUSY, seaprox_turn(proxy, 0, 0));
    IS(-EBUSY, seaprox_run(proxy, 0));
    IS(-EBUSY, seaprox_fd(proxy, 0, &fd));
    IS(-EBUSY, seaprox_timeout(proxy, 0, &fd));
    IS(-EBUSY, seaprox_next(proxy, 0, &number));
    IS(-EBUSY, seaprox_side_data(proxy, 0, &word));
    IS(-EBUSY, seaprox_side_set_data(proxy, 0, 7));
    IS(-EBUSY, seaprox_connection_describe(proxy, 0, heard->description, 8));
    IS(-EBUSY, seaprox_start(proxy));
    IS(-EBUSY, seaprox_close(proxy));
}

/* Turns until `times` notices were heard, as a loop of one's own would. */
static void turn_until(struct heard *heard, int times) {
    while (heard->times < times) {
        struct pollfd wait = {.events = POLLIN};
        int timeout;
        IS(0, seaprox_fd(proxy, 0, &wait.fd));
        IS(0, seaprox_timeout(proxy, 0, &timeout));
        CHECK(poll(&wait, 1, timeout) >= 0);
        IS(0, seaprox_turn(proxy, 0, 0));
    }
}

/* One connection, looked at from all sides. */
static void shows_what_there_is(void) {
    struct seaprox_options options = usual();
    struct heard heard = {.times = 0};
    struct seaprox_observer observer = {sizeof observer, on_notice, &heard};
    struct seaprox_counters counters = {.size = sizeof counters};
    uint32_t connection = SEAPROX_NONE, source, dest, number;
    uint64_t word;
    char text[SEAPROX_DESCRIPTION_SIZE], expected[SEAPROX_DESCRIPTION_SIZE];
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int port, fd, backend = listen_somewhere(&port);

    options.name = "abi-test", options.idle_timeout_millis = 60000;
    IS(0, init(&options));
    IS(0, seaprox_listen(proxy, "127.0.0.1:0"));
    snprintf(text, sizeof text, "127.0.0.1:%d", port);
    IS(0, seaprox_target(proxy, text));
    IS(0, seaprox_observer(proxy, &observer));
    IS(0, seaprox_start(proxy));
    IS(-EINVAL, seaprox_turn(proxy, 1, 0));
    IS(-EINVAL, seaprox_next(proxy, 1, &connection));
    IS(-EINVAL, seaprox_counters(proxy, 1, &counters));
    IS(-ENOENT, seaprox_next(proxy, 0, &connection));
    IS(SEAPROX_NONE, connection);
    IS(-ENOENT, seaprox_side_set_data(proxy, 0, 1));
    IS(-ENOENT, seaprox_connection_describe(proxy, 0, text, sizeof text));
    IS(-ENOENT, seaprox_side_describe(proxy, 0, text, sizeof text));
    IS(0, seaprox_side_state(proxy, 0, &number));
    IS(SEAPROX_IDLE, number);

    IS(0, seaprox_listening(proxy, 0, text, sizeof text));
    int client = connect_to(port_of(text));
    turn_until(&heard, 1);
    IS(SEAPROX_NOTICE_CONNECTED, heard.notice.kind);
    int server = patient(accept(backend, NULL, NULL));
    IS(0, seaprox_next(proxy, 0, &connection));
    IS(0, connection);
    number = connection;
    IS(-ENOENT, seaprox_next(proxy, 0, &number));
    number = 4;
    IS(-EINVAL, seaprox_next(proxy, 0, &number));

    IS(0, getsockname(client, (struct sockaddr *)&peer, &size));
    snprintf(expected, sizeof expected, "abi-test[ipv4[127.0.0.1:%d]->ipv4[127.0.0.1:%d]]",
             ntohs(peer.sin_port), port);
    IS(0, seaprox_connection_describe(proxy, connection, text, sizeof text));
    IS(0, strcmp(text, expected));
    IS(0, strcmp(heard.description, expected));
    IS(-ENOSPC, seaprox_connection_describe(proxy, connection, text, 5));
    IS(0, strcmp(text, "abi-"));

    IS(0, seaprox_connection_source(proxy, connection, &source));
    IS(0, seaprox_connection_dest(proxy, connection, &dest));
    IS(0, seaprox_side_get_other_side(proxy, source, &number));
    IS(dest, number);
    IS(0, seaprox_side_get_other_side(proxy, dest, &number));
    IS(source, number);
    IS(0, seaprox_side_get_connection(proxy, dest, &number));
    IS(connection, number);
    IS(0, seaprox_side_kind(proxy, source, &number));
    IS(SEAPROX_SOURCE, number);
    IS(0, seaprox_side_kind(proxy, dest, &number));
    IS(SEAPROX_DEST, number);
    IS(0, seaprox_side_state(proxy, dest, &number));
    IS(SEAPROX_CONNECTED, number);
    IS(-EINVAL, seaprox_side_state(proxy, 8, &number));
    IS(-EINVAL, seaprox_side_kind(proxy, 8, &number));
    IS(-EINVAL, seaprox_connection_source(proxy, 4, &number));
    IS(-EINVAL, seaprox_side_state(proxy, dest, NULL));
    IS(-EINVAL, seaprox_side_state(proxy, dest, (uint32_t *)((char *)&number + 1)));
    IS(0, seaprox_side_describe(proxy, dest, text, sizeof text));
    snprintf(expected, sizeof expected, "ipv4[127.0.0.1:%d]", port);
    IS(0, strcmp(text, expected));
    IS(0, seaprox_side_fd(proxy, source, &fd));
    size = sizeof peer;
    IS(0, getsockname(fd, (struct sockaddr *)&peer, &size));

    IS(-EINVAL, seaprox_data_get_side(proxy, 0, 0, &number));
    IS(-ENOENT, seaprox_data_get_side(proxy, 0, 77, &number));
    IS(0, seaprox_side_set_data(proxy, source, 77));
    IS(0, seaprox_side_set_data(proxy, dest, UINT64_MAX));
    IS(0, seaprox_side_data(proxy, source, &word));
    IS(77, word);
    IS(0, seaprox_data_get_side(proxy, 0, UINT64_MAX, &number));
    IS(dest, number);

    say(client, "question");
    IS(0, seaprox_turn(proxy, 0, -1));
    hear(server, "question");
    IS(0, seaprox_side_bytes(proxy, source, &word));
    IS(8, word);
    say(server, "answer");
    IS(0, shutdown(server, SHUT_WR));
    IS(0, shutdown(client, SHUT_WR));
    turn_until(&heard, 2);
    hear(client, "answer");
    hear_end(client);
    hear_end(server);
    IS(SEAPROX_NOTICE_CLOSED, heard.notice.kind);
    IS(0, heard.notice.reason);
    IS(8, heard.notice.source_bytes);
    IS(6, heard.notice.dest_bytes);
    IS(77, heard.notice.source_data);
    CHECK(heard.notice.dest_data == UINT64_MAX);
    IS(0, seaprox_side_data(proxy, source, &word));
    IS(0, word);

    /* A target that is gone. */
    IS(0, close(backend));
    IS(0, seaprox_listening(proxy, 0, text, sizeof text));
    int refused = connect_to(port_of(text));
    turn_until(&heard, 3);
    IS(SEAPROX_NOTICE_REFUSED, heard.notice.kind);
    IS(SEAPROX_REASON_CONNECTION_REFUSED, heard.notice.reason);
    hear_reset(refused);

    IS(-EINVAL, seaprox_counters(proxy, SEAPROX_ALL, NULL));
    counters.size = 0;
    IS(-EINVAL, seaprox_counters(proxy, SEAPROX_ALL, &counters));
    counters.size = sizeof counters;
    IS(0, seaprox_counters(proxy, 0, &counters));
    IS(4, counters.limit);
    IS(0, counters.occupied);
    IS(2, counters.accepted);
    IS(1, counters.connected);
    IS(1, counters.closed);
    IS(14, counters.bytes);
    IS(1, counters.failed[SEAPROX_REASON_CONNECTION_REFUSED]);
    /* An older caller knows less of it, and nothing beyond is written. */
    memset(&counters, 0xff, sizeof counters);
    counters.size = offsetof(struct seaprox_counters, failed);
    IS(0, seaprox_counters(proxy, 0, &counters));
    IS(14, counters.bytes);
    CHECK(counters.failed[0] == UINT64_MAX);

    IS(0, seaprox_drain(proxy));
    while (seaprox_turn(proxy, 0, -1) == 0)
        ;
    IS(-ESHUTDOWN, seaprox_turn(proxy, 0, -1));
    IS(0, seaprox_run(proxy, 0));
    IS(0, seaprox_close(proxy));
    IS(0, close(client) | close(server) | close(refused));
}

/* What still runs is reset, and every descriptor is given back. */
static void closes_everything(void) {
    struct seaprox_options options = usual();
    char text[SEAPROX_ADDRESS_SIZE];
    int port, backend = listen_somewhere(&port), before = dup(0), listener = listen_somewhere(&port);
    struct sockaddr_in address;
    socklen_t size = sizeof address;

    IS(0, close(before));
    IS(0, close(listener));
    IS(0, getsockname(backend, (struct sockaddr *)&address, &size));
    IS(0, init(&options));
    listener = listen_somewhere(&port);
    IS(0, seaprox_listen_fd(proxy, listener));
    IS(0, seaprox_listen(proxy, "unix:@seaprox-abi-test"));
    IS(0, seaprox_listening(proxy, 1, text, sizeof text));
    IS(0, strcmp(text, "unix"));
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(address.sin_port));
    IS(0, seaprox_target(proxy, text));
    IS(0, seaprox_start(proxy));
    int client = connect_to(port);
    say(client, "hello");
    for (int n = 0; n < 4; n++)
        IS(0, seaprox_turn(proxy, 0, 100));
    int server = patient(accept(backend, NULL, NULL));
    hear(server, "hello");
    IS(0, seaprox_close(proxy));
    hear_reset(client);
    hear_reset(server);
    IS(-1, fcntl(listener, F_GETFD));
    IS(0, close(client) | close(server));
    int after = dup(0);
    IS(before, after);
    IS(0, close(after) | close(backend));
}

int main(void) {
    for (uint32_t reason = 0; reason < SEAPROX_NUM_CONNECTION_FAIL_REASONS; reason++)
        CHECK((seaprox_reason_name(reason) != NULL) == (reason <= SEAPROX_REASON_OVER_LIMIT));
    refuses_memory_and_options();
    refuses_other_handles();
    refuses_to_be_told();
    shows_what_there_is();
    closes_everything();
    puts("all so");
    return 0;
}
