/*
 * Dests that are connected outside: eight threads complete tickets while the same tickets time out; what
 * they hand over is connected, is being connected, or is nothing that could be a dest. Every descriptor has
 * one owner, and nothing is allocated.
 */
#include <seaprox.h>

#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

enum { CONNECTORS = 8, CLIENTS = 160, CONNECTIONS = 64, TIMEOUT_MILLIS = 20, QUEUE = 1024 };

static alignas(SEAPROX_ALIGN) unsigned char memory[SEAPROX_SIZE];
static struct seaprox *proxy;
static int backend_port;

/* With --wrap the linker hands over what the library, and all that it is made of, asks of the heap. */
static atomic_int allocations;
#ifdef COUNTED
#define COUNT(call, ...) ((void)allocations++, __real_##call(__VA_ARGS__))
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **memory, size_t align, size_t size);

void *__wrap_malloc(size_t size) {
    return COUNT(malloc, size);
}
void *__wrap_calloc(size_t count, size_t size) {
    return COUNT(calloc, count, size);
}
void *__wrap_realloc(void *old, size_t size) {
    return COUNT(realloc, old, size);
}
int __wrap_posix_memalign(void **memory, size_t align, size_t size) {
    return COUNT(posix_memalign, memory, align, size);
}
#endif

/* The tickets on their way to the connectors. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t tickets[QUEUE];
    unsigned put, taken;
} queue = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0, 0};

static void on_connect(void *user, uint64_t ticket, const struct seaprox_target *target) {
    struct seaprox_counters counters = {.size = sizeof counters};
    char text[8];
    uint32_t state;

    CHECK(user == &queue && target->size >= sizeof *target && ticket != 0);
    IS(SEAPROX_TARGET_DEFAULT, target->kind);
    IS(0, target->port);
    IS(0, strcmp(target->host, ""));
    IS(0, strncmp(target->source, "ipv4[127.0.0.1:", 15));
    CHECK(target->connection < CONNECTIONS);
    /* What a callback may not call. */
    IS(-EBUSY, seaprox_turn(proxy, 0, 0));
    IS(-EBUSY, seaprox_side_state(proxy, 2 * target->connection, &state));
    IS(-EBUSY, seaprox_connection_describe(proxy, target->connection, text, sizeof text));
    IS(-EBUSY, seaprox_close(proxy));
    IS(0, seaprox_counters(proxy, 0, &counters));
    pthread_mutex_lock(&queue.lock);
    CHECK(queue.put - queue.taken < QUEUE);
    queue.tickets[queue.put++ % QUEUE] = ticket;
    pthread_cond_signal(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
}

/* The next ticket, 0 when it is over. */
static uint64_t next_ticket(void) {
    pthread_mutex_lock(&queue.lock);
    while (queue.put == queue.taken)
        pthread_cond_wait(&queue.changed, &queue.lock);
    uint64_t ticket = queue.tickets[queue.taken++ % QUEUE];
    pthread_mutex_unlock(&queue.lock);
    return ticket;
}

static atomic_int taken, late, failed;

/* Whether a completion was taken, once; a second one never is. */
static int report(uint64_t ticket, int fd, uint32_t reason) {
    int result = seaprox_complete(proxy, ticket, fd, reason);
    CHECK(result == 0 || result == -ESTALE);
    IS(-ESTALE, seaprox_complete(proxy, ticket, -1, SEAPROX_REASON_OTHER));
    return result == 0;
}

static void count(atomic_int *counter, int is_taken) {
    if (is_taken)
        ++*counter;
    else
        ++late;
}

static void *connector(void *arg) {
    static atomic_uint numbers;
    char address[32];
    uint64_t ticket;
    (void)arg;
    snprintf(address, sizeof address, "127.0.0.1:%d", backend_port);
    while ((ticket = next_ticket()) != 0) {
        unsigned number = numbers++;
        /* What cannot be a dest; the ticket is as good as before. */
        IS(-EBADF, seaprox_complete(proxy, ticket, -1, 0));
        IS(-EBADF, seaprox_complete(proxy, ticket, 100000, 0));
        IS(-EINVAL, seaprox_complete(proxy, ticket, 0, 0));
        IS(-EINVAL, seaprox_complete(proxy, ticket, -1, 63));
        IS(-EINVAL, seaprox_complete(proxy, ticket, 5, SEAPROX_REASON_OTHER));
        IS(-EINVAL, seaprox_connect(proxy, ticket, "localhost:80"));
        if (number % 4 == 0) {
            count(&failed, report(ticket, -1, SEAPROX_REASON_DENIED));
        } else if (number % 4 == 1) {
            int result = seaprox_connect(proxy, ticket, address);
            CHECK(result == 0 || result == -ESTALE);
            count(&taken, result == 0);
        } else {
            int fd = connect_to(backend_port);
            /* Around the timeout. */
            usleep(number * 7919 % (2 * TIMEOUT_MILLIS) * 1000);
            int is_taken = report(ticket, fd, 0);
            count(&taken, is_taken);
            if (!is_taken)
                IS(0, close(fd));
        }
    }
    return NULL;
}

/* Sends back what each says, one after the other, so a client that was reset is no trouble. */
static void *echo(void *listener) {
    for (;;) {
        char room[64];
        ssize_t bytes;
        int fd = accept(*(int *)listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        patient(fd);
        while ((bytes = recv(fd, room, sizeof room, 0)) > 0)
            if (send(fd, room, (size_t)bytes, MSG_NOSIGNAL) != bytes)
                break;
        close(fd);
    }
}

static void *run(void *arg) {
    (void)arg;
    IS(0, seaprox_run(proxy, 0));
    return NULL;
}

/* Whether a client was served; if not it must have been reset. */
static int visit(int port, int number) {
    char said[32] = {0}, heard[32] = {0};
    snprintf(said, sizeof said, "client %d", number);
    int fd = connect_to(port), served = 0;
    if (send(fd, said, sizeof said, MSG_NOSIGNAL) == sizeof said) {
        ssize_t bytes = recv(fd, heard, sizeof heard, MSG_WAITALL);
        CHECK(bytes == sizeof heard || (bytes < 0 && errno == ECONNRESET));
        served = bytes > 0;
        CHECK(!served || memcmp(said, heard, sizeof said) == 0);
    }
    IS(0, close(fd));
    return served;
}

int main(void) {
    struct seaprox_options options = {.size = sizeof options, .abi_version = SEAPROX_ABI_VERSION};
    struct seaprox_connector connectors = {sizeof connectors, on_connect, &queue};
    struct seaprox_counters counters = {.size = sizeof counters};
    char text[SEAPROX_ADDRESS_SIZE];
    pthread_t threads[CONNECTORS], runner, backend;
    int listener = listen_somewhere(&backend_port), served = 0;

    options.connections = CONNECTIONS, options.connect_timeout_millis = TIMEOUT_MILLIS;
    options.name = "external";
    int before = dup(0);
    IS(0, close(before));
    IS(0, seaprox_init(memory, sizeof memory, &options, &proxy));
    IS(0, seaprox_listen(proxy, "127.0.0.1:0"));
    IS(0, seaprox_connector(proxy, &connectors));
    IS(-ESTALE, seaprox_complete(proxy, 1, -1, SEAPROX_REASON_OTHER));
    IS(-ESTALE, seaprox_complete(proxy, UINT64_MAX, -1, SEAPROX_REASON_OTHER));
    IS(0, seaprox_start(proxy));
    IS(0, seaprox_listening(proxy, 0, text, sizeof text));
    IS(0, pthread_create(&backend, NULL, echo, &listener));
    IS(0, pthread_create(&runner, NULL, run, NULL));
    for (int n = 0; n < CONNECTORS; n++)
        IS(0, pthread_create(&threads[n], NULL, connector, NULL));
    for (int n = 0; n < CLIENTS; n++)
        served += visit(port_of(text), n);

    for (int n = 0; n < CONNECTORS; n++) {
        pthread_mutex_lock(&queue.lock);
        queue.tickets[queue.put++ % QUEUE] = 0;
        pthread_cond_signal(&queue.changed);
        pthread_mutex_unlock(&queue.lock);
    }
    for (int n = 0; n < CONNECTORS; n++)
        IS(0, pthread_join(threads[n], NULL));
    IS(0, seaprox_drain(proxy));
    IS(0, pthread_join(runner, NULL));
    IS(0, seaprox_counters(proxy, SEAPROX_ALL, &counters));
    IS(CLIENTS, taken + late + failed);
    CHECK(taken > 0 && late > 0 && failed > 0);
    IS(CLIENTS, counters.accepted);
    IS(served, counters.connected);
    CHECK(served <= taken && served > 0);
    IS(CLIENTS - served, counters.failed[SEAPROX_REASON_TIMED_OUT] +
                             counters.failed[SEAPROX_REASON_DENIED]);
    IS(0, seaprox_close(proxy));
    IS(0, allocations);
#ifdef COUNTED
    void *volatile one = malloc(1);
    free(one);
    IS(1, allocations);
#endif

    IS(0, shutdown(listener, SHUT_RD));
    IS(0, pthread_join(backend, NULL));
    int after = dup(0);
    IS(before, after);
    puts("all so");
    return 0;
}
