/*
 * Two proxies in one process, joined by links: listeners in front of one, targets or a connector behind the
 * other, over each carrier that is there, with keys and without. What is refused at the far end is a reset here,
 * and whoever has other keys is nobody there.
 */
#include <seaprox.h>

#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdalign.h>
#include <sys/mman.h>

enum { THREADS = 2, CONNECTIONS = 64, BULK = 1 << 20 };

static alignas(SEAPROX_ALIGN) unsigned char memories[2][SEAPROX_SIZE];
static struct seaprox *ingress, *egress;
static int backend_port;

static void *pages(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void *run_ingress(void *thread) {
    IS(0, seaprox_run(ingress, (uint32_t)(uintptr_t)thread));
    return NULL;
}

static void *run_egress(void *thread) {
    IS(0, seaprox_run(egress, (uint32_t)(uintptr_t)thread));
    return NULL;
}

/* What the far end is asked for, and what becomes of it. */
static void on_connect(void *user, uint64_t ticket, const struct seaprox_target *target) {
    char address[SEAPROX_ADDRESS_SIZE];
    (void)user;
    IS(SEAPROX_TARGET_NAME, target->kind);
    IS(8080, target->port);
    IS(0, strcmp(target->host, "backend.example"));
    CHECK(strncmp(target->source, "ipv4[127.0.0.1:", 15) == 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", backend_port);
    IS(0, seaprox_connect(egress, ticket, address));
}

/* Secrets of two ends and of a stranger, what they are known by, and what the ends know besides. */
enum { INGRESS, EGRESS, STRANGER, NOBODY };
static unsigned char secrets[NOBODY][SEAPROX_KEY_SIZE], publics[NOBODY][SEAPROX_KEY_SIZE], psk[SEAPROX_KEY_SIZE];

static void make_keys(void) {
    for (int who = 0; who < NOBODY; who++) {
        for (int n = 0; n < SEAPROX_KEY_SIZE; n++)
            secrets[who][n] = (unsigned char)(17 * who + 31 * n + 5), psk[n] = (unsigned char)(n * n + 1);
        IS(0, seaprox_public_key(secrets[who], publics[who]));
    }
    CHECK(memcmp(publics[INGRESS], publics[EGRESS], SEAPROX_KEY_SIZE) != 0);
}

/* Whether all of it is zero. Valgrind would ask whether that was set, of what is between the fields of structs. */
static int is_zero(const unsigned char *bytes, size_t size) {
#ifdef UNDER_VALGRIND
    size = 0;
#endif
    for (size_t n = 0; n < size; n++)
        if (bytes[n] != 0)
            return 0;
    return 1;
}

/* Which peer the far end of a link was, as far as was told: links up, and the sum of the peers' numbers. */
static uint32_t links_up, peers_up;

static void on_notice(void *user, const struct seaprox_notice *notice) {
    (void)user;
    if (notice->kind == SEAPROX_NOTICE_LINK_UP) {
        __atomic_add_fetch(&links_up, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&peers_up, notice->peer, __ATOMIC_RELAXED);
    }
}

static struct seaprox_link link_to(const char *address, uint32_t kind) {
    struct seaprox_link link = {.size = sizeof link, .address = address, .insecure = 1};
    link.memory_size = seaprox_link_sizeof(kind, THREADS);
    link.memory = pages(link.memory_size);
    return link;
}

static void unlink_from(const struct seaprox_link *link) {
    IS(0, munmap(link->memory, link->memory_size));
}

static void init(int which, struct seaprox **proxy) {
    struct seaprox_options options = {.size = sizeof options, .abi_version = SEAPROX_ABI_VERSION};
    options.connections = CONNECTIONS, options.threads = THREADS;
    options.name = which == 0 ? "ingress" : "egress";
#ifdef UNDER_VALGRIND
    memset(memories[which], 0, sizeof memories[which]);
#endif
    IS(0, seaprox_init(memories[which], sizeof memories[which], &options, proxy));
}

static void *send_bulk(void *fd) {
    unsigned char bytes[4096];
    for (size_t sent = 0; sent < BULK; sent += sizeof bytes) {
        for (size_t n = 0; n < sizeof bytes; n++)
            bytes[n] = (unsigned char)((sent + n) * 2654435761u >> 13);
        IS(sizeof bytes, send(*(int *)fd, bytes, sizeof bytes, MSG_NOSIGNAL));
    }
    IS(0, shutdown(*(int *)fd, SHUT_WR));
    return NULL;
}

static void hear_bulk(int fd) {
    unsigned char bytes[4096];
    size_t heard = 0;
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0)
        for (ssize_t n = 0; n < got; n++, heard++)
            if (bytes[n] != (unsigned char)(heard * 2654435761u >> 13))
                CHECK(!"another byte");
    IS(0, got);
    IS(BULK, heard);
}

/* Connections through both, each with other bytes both ways and both halves ended. */
static void use(int backend, int port) {
    enum { AT_ONCE = 6 };
    int clients[AT_ONCE], servers[AT_ONCE];
    pthread_t sender;
    for (int n = 0; n < AT_ONCE; n++) {
        char text[16];
        snprintf(text, sizeof text, "%c: hello", 'a' + n);
        clients[n] = connect_to(port);
        say(clients[n], text);
        servers[n] = patient(accept(backend, NULL, NULL));
        hear(servers[n], text);
        say(servers[n], "welcome");
        hear(clients[n], "welcome");
    }
    IS(0, pthread_create(&sender, NULL, send_bulk, &clients[0]));
    hear_bulk(servers[0]);
    IS(0, pthread_join(sender, NULL));
    IS(0, pthread_create(&sender, NULL, send_bulk, &servers[0]));
    hear_bulk(clients[0]);
    IS(0, pthread_join(sender, NULL));
    for (int n = 0; n < AT_ONCE; n++)
        IS(0, close(clients[n]) | close(servers[n]));
}

/* Gives a link the keys of one end. */
static void protect(struct seaprox_link *link, int who, const struct seaprox_peer *peers, size_t count) {
    link->insecure = 0, link->key = secrets[who];
    link->peers = peers, link->peers_size = count;
}

/* Everything over one carrier; -EPROTONOSUPPORT if this kernel has it not. */
static int over(const char *scheme, int by_connector, int keyed) {
    /* The true one is not the first. */
    struct seaprox_peer known[] = {{.size = sizeof *known, .key = publics[STRANGER]},
                                   {.size = sizeof *known, .key = publics[INGRESS], .psk = psk}};
    struct seaprox_peer far = {.size = sizeof far, .key = publics[EGRESS], .psk = psk};
    struct seaprox_observer observer = {.size = sizeof observer, .on_notice = on_notice};
    char at[SEAPROX_ADDRESS_SIZE + 16], address[SEAPROX_ADDRESS_SIZE], text[SEAPROX_ADDRESS_SIZE];
    struct seaprox_counters counters = {.size = sizeof counters};
    struct seaprox_connector connector = {.size = sizeof connector, .on_connect = on_connect};
    pthread_t threads[2 * THREADS];
    int backend = listen_somewhere(&backend_port), before = dup(0);
    int is_path = strcmp(scheme, "seqpacket") == 0;

    IS(0, close(before));
    snprintf(at, sizeof at, is_path ? "%s:@seaprox-links-%d" : "%s:127.0.0.1:0", scheme, getpid());
    init(1, &egress);
    struct seaprox_link in = link_to(at, SEAPROX_SOURCE);
    if (keyed)
        protect(&in, EGRESS, known, 2);
    int result = seaprox_link(egress, SEAPROX_SOURCE, &in);
    if (result == -EPROTONOSUPPORT) {
        struct seaprox_link out = link_to("sctp:127.0.0.1:7000", SEAPROX_DEST);
        if (keyed)
            protect(&out, INGRESS, &far, 1);
        init(0, &ingress);
        IS(-EPROTONOSUPPORT, seaprox_link(ingress, SEAPROX_DEST, &out));
        IS(0, seaprox_close(ingress) | seaprox_close(egress) | close(backend));
        unlink_from(&in), unlink_from(&out);
        return result;
    }
    IS(0, result);
    IS(-EEXIST, seaprox_link(egress, SEAPROX_SOURCE, &in));
    IS(-EEXIST, seaprox_listen(egress, "127.0.0.1:0"));
    IS(0, seaprox_listening(egress, 0, address, sizeof address));
    snprintf(text, sizeof text, "127.0.0.1:%d", backend_port);
    IS(0, by_connector ? seaprox_connector(egress, &connector) : seaprox_target(egress, text));
    IS(0, seaprox_observer(egress, &observer));
    links_up = peers_up = 0;
    IS(0, seaprox_start(egress));

    if (!is_path)
        snprintf(at, sizeof at, "%s:%s", scheme, address);
    init(0, &ingress);
    struct seaprox_link out = link_to(at, SEAPROX_DEST);
    if (keyed)
        protect(&out, INGRESS, &far, 1);
    if (by_connector)
        out.target_kind = SEAPROX_TARGET_NAME, out.host = "backend.example", out.port = 8080;
    IS(0, seaprox_listen(ingress, "127.0.0.1:0"));
    IS(0, seaprox_link(ingress, SEAPROX_DEST, &out));
    IS(-EEXIST, seaprox_link(ingress, SEAPROX_DEST, &out));
    IS(-EEXIST, seaprox_target(ingress, text));
    IS(-EEXIST, seaprox_connector(ingress, &connector));
    IS(0, seaprox_start(ingress));
    IS(0, seaprox_listening(ingress, 0, address, sizeof address));
    for (uintptr_t n = 0; n < THREADS; n++) {
        IS(0, pthread_create(&threads[2 * n], NULL, run_egress, (void *)n));
        IS(0, pthread_create(&threads[2 * n + 1], NULL, run_ingress, (void *)n));
    }
    use(backend, port_of(address));

    /* Nobody is behind the far end any more. */
    IS(0, close(backend));
    be_refused(port_of(address));

    IS(0, seaprox_drain(ingress));
    IS(0, seaprox_drain(egress));
    for (int n = 0; n < 2 * THREADS; n++)
        IS(0, pthread_join(threads[n], NULL));
    IS(0, seaprox_counters(egress, SEAPROX_ALL, &counters));
    IS(6, counters.closed);
    IS(1, counters.failed[SEAPROX_REASON_CONNECTION_REFUSED]);
    IS(0, seaprox_counters(ingress, SEAPROX_ALL, &counters));
    IS(7, counters.accepted);
    IS(0, counters.occupied);
    IS(0, seaprox_close(ingress));
    IS(0, seaprox_close(egress));
    IS(THREADS, links_up);
    IS(THREADS * (keyed ? 1 : SEAPROX_NONE), peers_up);
    if (keyed)
        CHECK(is_zero(in.memory, in.memory_size) && is_zero(out.memory, out.memory_size));
    unlink_from(&in), unlink_from(&out);
    int after = dup(0);
    /* The backend's number is vacant again as well. */
    CHECK(after <= before);
    IS(-1, fcntl(before, F_GETFD));
    IS(0, close(after));
    return 0;
}

/* Whoever has another secret, takes the far end for somebody else, knows no psk or has no keys gets no link: its
   clients are reset, and the far end never hears of one. */
static void strangers(const char *scheme) {
    struct seaprox_peer known = {.size = sizeof known, .key = publics[INGRESS], .psk = psk};
    struct seaprox_peer far = {.size = sizeof far, .key = publics[EGRESS], .psk = psk}, wrong = far, plain = far;
    struct seaprox_counters counters = {.size = sizeof counters};
    char at[SEAPROX_ADDRESS_SIZE + 16], address[SEAPROX_ADDRESS_SIZE];
    pthread_t threads[2 * THREADS];
    int port, backend = listen_somewhere(&port), is_path = strcmp(scheme, "seqpacket") == 0;
    wrong.key = publics[STRANGER], plain.psk = NULL;

    snprintf(at, sizeof at, is_path ? "%s:@seaprox-keys-%d" : "%s:127.0.0.1:0", scheme, getpid());
    init(1, &egress);
    struct seaprox_link in = link_to(at, SEAPROX_SOURCE);
    protect(&in, EGRESS, &known, 1);
    IS(0, seaprox_link(egress, SEAPROX_SOURCE, &in));
    IS(0, seaprox_listening(egress, 0, address, sizeof address));
    if (!is_path)
        snprintf(at, sizeof at, "%s:%s", scheme, address);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    IS(0, seaprox_target(egress, address));
    IS(0, seaprox_start(egress));
    for (uintptr_t n = 0; n < THREADS; n++)
        IS(0, pthread_create(&threads[n], NULL, run_egress, (void *)n));

    for (int which = 0; which < 4; which++) {
        struct seaprox_link out = link_to(at, SEAPROX_DEST);
        const struct seaprox_peer *peers[] = {&far, &wrong, &plain};
        out.wait_millis = 300;
        if (which < 3)
            protect(&out, which == 0 ? STRANGER : INGRESS, peers[which], 1);
        init(0, &ingress);
        IS(0, seaprox_listen(ingress, "127.0.0.1:0"));
        IS(0, seaprox_link(ingress, SEAPROX_DEST, &out));
        IS(0, seaprox_start(ingress));
        IS(0, seaprox_listening(ingress, 0, address, sizeof address));
        for (uintptr_t n = 0; n < THREADS; n++)
            IS(0, pthread_create(&threads[THREADS + n], NULL, run_ingress, (void *)n));
        be_refused(port_of(address));
        IS(0, seaprox_stop(ingress));
        for (int n = 0; n < THREADS; n++)
            IS(0, pthread_join(threads[THREADS + n], NULL));
        IS(0, seaprox_close(ingress));
        CHECK(which == 3 || is_zero(out.memory, out.memory_size));
        unlink_from(&out);
    }
    IS(0, seaprox_stop(egress));
    for (int n = 0; n < THREADS; n++)
        IS(0, pthread_join(threads[n], NULL));
    IS(0, seaprox_counters(egress, SEAPROX_ALL, &counters));
    IS(0, counters.accepted);
    IS(0, seaprox_close(egress) | close(backend));
    CHECK(is_zero(in.memory, in.memory_size));
    unlink_from(&in);
}

/* What cannot be keys: of all of it nothing is left behind. */
static void refuses_keys(void) {
    static const unsigned char zeroes[SEAPROX_KEY_SIZE], low[SEAPROX_KEY_SIZE] = {1};
    struct seaprox_link good = link_to("seqpacket:@seaprox-nobody", SEAPROX_DEST), link;
    struct seaprox_peer peer = {.size = sizeof peer, .key = publics[EGRESS]}, many[SEAPROX_PEERS_MAX + 1], twice[2];
    unsigned char key[SEAPROX_KEY_SIZE];
    IS(-EINVAL, seaprox_public_key(NULL, key));
    IS(-EINVAL, seaprox_public_key(secrets[0], NULL));
    IS(-EINVAL, seaprox_public_key(zeroes, key));
    init(0, &ingress);
    link = good, link.insecure = 0;
    IS(-EPERM, seaprox_link(ingress, SEAPROX_DEST, &link));
    link.peers = &peer, link.peers_size = 1;
    IS(-EPERM, seaprox_link(ingress, SEAPROX_DEST, &link));
    link.insecure = 1;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, protect(&link, INGRESS, &peer, 1), link.insecure = 1;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link.insecure = 7;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, protect(&link, INGRESS, &peer, 0);
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    protect(&link, INGRESS, NULL, 1);
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    protect(&link, INGRESS, &peer, 1), link.key = zeroes;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    protect(&link, EGRESS, &peer, 1);
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    const unsigned char *none[] = {NULL, zeroes, low};
    for (size_t n = 0; n < 3; n++) {
        protect(&link, INGRESS, &peer, 1), peer.key = none[n];
        IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    }
    peer.key = publics[EGRESS], peer.psk = zeroes;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    peer.psk = NULL, peer.size = 8;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    peer.size = sizeof peer, twice[0] = twice[1] = peer;
    protect(&link, INGRESS, twice, 2);
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    unlink_from(&good);
    good = link_to("seqpacket:@seaprox-nobody", SEAPROX_SOURCE), link = good;
    protect(&link, INGRESS, twice, 2);
    IS(-EEXIST, seaprox_link(ingress, SEAPROX_SOURCE, &link));
    twice[1].key = publics[STRANGER], twice[1].size = 2 * sizeof peer;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_SOURCE, &link));
    for (size_t n = 0; n <= SEAPROX_PEERS_MAX; n++)
        many[n] = peer;
    protect(&link, INGRESS, many, SEAPROX_PEERS_MAX + 1);
    IS(-ENOSPC, seaprox_link(ingress, SEAPROX_SOURCE, &link));
    /* An older caller's struct ends before the keys. */
    link = good, link.size = offsetof(struct seaprox_link, key);
    IS(0, seaprox_link(ingress, SEAPROX_SOURCE, &link));
    IS(0, seaprox_close(ingress));
    CHECK(is_zero(good.memory, good.memory_size));
    unlink_from(&good);
}

/* What cannot be a link. */
static void refuses(void) {
    struct seaprox_link good = link_to("udp:127.0.0.1:7000", SEAPROX_DEST), link = good;
    const char *nowhere[] = {"",          "udp:",      "udp:127.0.0.1", "udp:localhost:7000", "tcp:127.0.0.1:1",
                             "seqpacket:", "seqpacket:@", "sctp:127.0.0.1:7000,", "udp:127.0.0.1:0",
                             "sctp:1.2.3.4:7000,1.2.3.4", "udp::7000"};
    IS(0, seaprox_link_sizeof(7, 1));
    CHECK(seaprox_link_sizeof(SEAPROX_SOURCE, 2) == 2 * seaprox_link_sizeof(SEAPROX_SOURCE, 1));
    init(0, &ingress);
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, NULL));
    IS(-EINVAL, seaprox_link(NULL, SEAPROX_DEST, &link));
    IS(-EINVAL, seaprox_link(ingress, 2, &link));
    for (size_t n = 0; n < sizeof nowhere / sizeof *nowhere; n++) {
        link = good, link.address = nowhere[n];
        IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    }
    link = good, link.size = 8;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.address = NULL;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.insecure = 0;
    IS(-EPERM, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.memory = NULL;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.memory_size--;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.memory = memories[0];
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.timeout_millis = UINT32_MAX;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.target_kind = 9;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    link = good, link.target_kind = SEAPROX_TARGET_NAME;
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_DEST, &link));
    IS(-EINVAL, seaprox_link(ingress, SEAPROX_SOURCE, &good));
    link = link_to("udp:192.0.2.1:7000", SEAPROX_SOURCE);
    IS(-EADDRNOTAVAIL, seaprox_link(ingress, SEAPROX_SOURCE, &link));
    unlink_from(&link);
    IS(0, seaprox_link(ingress, SEAPROX_DEST, &good));
    IS(-EINVAL, seaprox_start(ingress));
    IS(0, seaprox_listen(ingress, "127.0.0.1:0"));
    IS(0, seaprox_start(ingress));
    IS(-EBUSY, seaprox_link(ingress, SEAPROX_DEST, &good));
    IS(0, seaprox_close(ingress));
    unlink_from(&good);
}

int main(void) {
    int has_sctp = 0;
    make_keys();
    refuses();
    refuses_keys();
    for (int keyed = 0; keyed <= 1; keyed++)
        for (int by_connector = 0; by_connector <= 1; by_connector++) {
            IS(0, over("udp", by_connector, keyed));
            IS(0, over("seqpacket", by_connector, keyed));
            int result = over("sctp", by_connector, keyed);
            /* tests/vm has a kernel with SCTP. */
            int is_missing = result == -EPROTONOSUPPORT && getenv("SEAPROX_REQUIRE_SCTP") == NULL;
            CHECK(result == 0 || is_missing);
            has_sctp |= result == 0;
        }
    strangers("udp");
    strangers("seqpacket");
    if (has_sctp)
        strangers("sctp");
    puts("all so");
    return 0;
}
