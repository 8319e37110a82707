/*
 * A SOCKS 5 proxy in C (RFC 1928: CONNECT, no authentication; IPv4, IPv6 and names).
 *
 *     socks5 LISTEN
 *
 * What clients say is a proxy type of our own, bytes in and bytes out. Names are looked up on threads of our
 * own; the connecting itself is the library's. SIGTERM and SIGINT drain.
 */
#include <seaprox.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>

enum { CONNECTIONS = 256, RESOLVERS = 4, JOBS = 64 };
enum { VERSION = 5, CONNECT = 1, IPV4 = 1, NAME = 3, IPV6 = 4, NO_METHOD = 0xff };
enum { FAILED = 1, NOT_ALLOWED, NO_NETWORK, NO_HOST, REFUSED, TTL_EXPIRED, NO_COMMAND, NO_ADDRESS_TYPE };

static alignas(SEAPROX_ALIGN) unsigned char memory[SEAPROX_SIZE];
static alignas(SEAPROX_ALIGN) unsigned char seats[CONNECTIONS * SEAPROX_SEAT_BYTES];
static struct seaprox *proxy;

static void say(struct seaprox_verdict *verdict, const unsigned char *bytes, size_t size) {
    memcpy(verdict->reply + verdict->reply_size, bytes, size);
    verdict->reply_size += size;
}

/* The answer to a request; where we are connected from is nobody's business. */
static void answer(struct seaprox_verdict *verdict, unsigned char code) {
    const unsigned char reply[10] = {VERSION, code, 0, IPV4};
    say(verdict, reply, sizeof reply);
}

static int reject(struct seaprox_verdict *verdict, unsigned char code, uint32_t reason) {
    if (code != 0)
        answer(verdict, code);
    verdict->reason = reason;
    return SEAPROX_REJECT;
}

/* "Which methods do you know?": one byte of version, one of length, and so many methods. */
static int greet(unsigned char *greeted, const uint8_t *in, size_t size, struct seaprox_verdict *verdict) {
    if (size >= 1 && in[0] != VERSION)
        return reject(verdict, 0, SEAPROX_REASON_PROTOCOL);
    if (size < 2 || size < 2u + in[1])
        return SEAPROX_MORE;
    if (memchr(in + 2, 0, in[1]) == NULL) {
        say(verdict, (const unsigned char[]){VERSION, NO_METHOD}, 2);
        return reject(verdict, 0, SEAPROX_REASON_AUTH);
    }
    say(verdict, (const unsigned char[]){VERSION, 0}, 2);
    *greeted = 1;
    verdict->consumed = 2u + in[1];
    return SEAPROX_MORE;
}

/* "Connect me to ..": version, command, 0, type of address, address, port. */
static int request(const uint8_t *in, size_t size, struct seaprox_verdict *verdict) {
    if (size < 5)
        return SEAPROX_MORE;
    if (in[0] != VERSION)
        return reject(verdict, FAILED, SEAPROX_REASON_PROTOCOL);
    if (in[1] != CONNECT)
        return reject(verdict, NO_COMMAND, SEAPROX_REASON_DENIED);
    const uint8_t *address = in + 4;
    size_t length = in[3] == IPV4 ? 4 : in[3] == IPV6 ? 16 : in[3] == NAME ? in[4] : 0;
    if (in[3] == NAME)
        address++;
    if (length == 0)
        return reject(verdict, NO_ADDRESS_TYPE, SEAPROX_REASON_PROTOCOL);
    const uint8_t *port = address + length;
    if (size < (size_t)(port + 2 - in))
        return SEAPROX_MORE;
    if (in[3] == NAME) {
        verdict->target_kind = SEAPROX_TARGET_NAME;
        verdict->host_size = (uint16_t)length;
        memcpy(verdict->host, address, length);
    } else {
        char *text = (char *)verdict->host;
        inet_ntop(in[3] == IPV4 ? AF_INET : AF_INET6, address, text, sizeof verdict->host);
        verdict->target_kind = SEAPROX_TARGET_ADDRESS;
        verdict->host_size = (uint16_t)strlen(text);
    }
    verdict->port = (uint16_t)(port[0] << 8 | port[1]);
    verdict->consumed = (size_t)(port + 2 - in);
    return SEAPROX_CONNECT;
}

/* One message a call: with more of them it is called again at once. All we know of a client is whether it was
   greeted. */
static int on_bytes(void *user, void *greeted, const uint8_t *in, size_t size, struct seaprox_verdict *verdict) {
    (void)user;
    return *(unsigned char *)greeted ? request(in, size, verdict) : greet(greeted, in, size, verdict);
}

static void on_answer(void *user, void *greeted, uint32_t reason, struct seaprox_verdict *verdict) {
    static const unsigned char codes[SEAPROX_NUM_CONNECTION_FAIL_REASONS] = {
        [SEAPROX_REASON_NAME_RESOLUTION] = NO_HOST, [SEAPROX_REASON_CONNECTION_REFUSED] = REFUSED,
        [SEAPROX_REASON_TIMED_OUT] = TTL_EXPIRED,   [SEAPROX_REASON_DENIED] = NOT_ALLOWED,
        [SEAPROX_REASON_UNREACHABLE] = NO_NETWORK,
    };
    (void)user;
    if (*(unsigned char *)greeted)
        answer(verdict, reason == 0 ? 0 : codes[reason] != 0 ? codes[reason] : FAILED);
}

/* Names on their way to the threads that look them up. */
static struct job {
    uint64_t ticket;
    char host[SEAPROX_HOST_SIZE], port[6];
} jobs[JOBS];
static unsigned put, taken;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *resolver(void *arg) {
    char host[NI_MAXHOST], address[NI_MAXHOST + 10];
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    (void)arg;
    for (;;) {
        struct addrinfo *found = NULL;
        pthread_mutex_lock(&lock);
        while (put == taken)
            pthread_cond_wait(&changed, &lock);
        struct job job = jobs[taken++ % JOBS];
        pthread_mutex_unlock(&lock);
        if (getaddrinfo(job.host, job.port, &hints, &found) != 0) {
            seaprox_complete(proxy, job.ticket, -1, SEAPROX_REASON_NAME_RESOLUTION);
            continue;
        }
        getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
        freeaddrinfo(found);
        snprintf(address, sizeof address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, job.port);
        if (seaprox_connect(proxy, job.ticket, address) != 0)
            seaprox_complete(proxy, job.ticket, -1, SEAPROX_REASON_UNREACHABLE);
    }
    return NULL;
}

/* Numbers are names as well, to getaddrinfo. */
static void on_connect(void *user, uint64_t ticket, const struct seaprox_target *target) {
    (void)user;
    pthread_mutex_lock(&lock);
    int full = put - taken == JOBS;
    if (!full) {
        struct job *job = &jobs[put++ % JOBS];
        job->ticket = ticket;
        snprintf(job->host, sizeof job->host, "%s", target->host);
        snprintf(job->port, sizeof job->port, "%hu", target->port);
        pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&lock);
    if (full)
        seaprox_complete(proxy, ticket, -1, SEAPROX_REASON_RESOLVER_FULL);
}

static void drain(int signal) {
    (void)signal;
    seaprox_drain(proxy);
}

int main(int argc, char **argv) {
    const struct seaprox_options options = {
        .size = sizeof options, .abi_version = SEAPROX_ABI_VERSION, .connections = CONNECTIONS, .name = "socks5"};
    const struct seaprox_proxy_type type = {
        .size = sizeof type, .seats = seats, .seats_size = sizeof seats, .state_size = 1,
        .on_bytes = on_bytes, .on_answer = on_answer};
    const struct seaprox_connector connector = {.size = sizeof connector, .on_connect = on_connect};
    char address[SEAPROX_ADDRESS_SIZE];
    int result;

    if (argc != 2)
        return fprintf(stderr, "usage: socks5 LISTEN\n"), 64;
    if ((result = seaprox_init(memory, sizeof memory, &options, &proxy)) != 0 ||
        (result = seaprox_listen(proxy, argv[1])) != 0 ||
        (result = seaprox_proxy_type(proxy, &type)) != 0 ||
        (result = seaprox_connector(proxy, &connector)) != 0 ||
        (result = seaprox_start(proxy)) != 0 ||
        (result = seaprox_listening(proxy, 0, address, sizeof address)) != 0) {
        fprintf(stderr, "socks5: %s: %s\n", argv[1], strerror(-result));
        return 1;
    }
    signal(SIGTERM, drain);
    signal(SIGINT, drain);
    for (int n = 0; n < RESOLVERS; n++) {
        pthread_t thread;
        if ((result = pthread_create(&thread, NULL, resolver, NULL)) != 0)
            return fprintf(stderr, "socks5: %s\n", strerror(result)), 1;
    }
    printf("listening %s\n", address);
    fflush(stdout);
    if ((result = seaprox_run(proxy, 0)) != 0)
        fprintf(stderr, "socks5: %s\n", strerror(-result));
    /* The resolvers may still hold tickets: the proxy stays open, and the process ends. */
    return result != 0;
}
