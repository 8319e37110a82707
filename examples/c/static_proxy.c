/*
 * A static proxy in C: memory of its own, threads of its own, no heap.
 *
 *     static_proxy LISTEN TARGET [TARGET..]
 *
 * LISTEN and TARGET are addresses and ports, "127.0.0.1:8080" or "[::1]:80", or "unix:/path". SIGTERM and
 * SIGINT drain; a second one stops.
 */
#include <seaprox.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 2 };

static alignas(SEAPROX_ALIGN) unsigned char memory[SEAPROX_SIZE];
static struct seaprox *proxy;

static int failed(const char *what, int result) {
    fprintf(stderr, "static_proxy: %s: %s\n", what, strerror(-result));
    return 1;
}

/* seaprox_drain and seaprox_stop may be called from a signal handler. */
static void end(int signal) {
    static volatile sig_atomic_t times;
    (void)signal;
    if (times++ == 0)
        seaprox_drain(proxy);
    else
        seaprox_stop(proxy);
}

static void say(void *user, const struct seaprox_notice *notice) {
    (void)user;
    switch (notice->kind) {
    case SEAPROX_NOTICE_CLOSED:
        fprintf(stderr, "closed %s %llu %llu: %s\n", notice->description,
                (unsigned long long)notice->source_bytes, (unsigned long long)notice->dest_bytes,
                seaprox_reason_name(notice->reason));
        break;
    case SEAPROX_NOTICE_REFUSED:
        fprintf(stderr, "refused %s: %s\n", notice->description,
                seaprox_reason_name(notice->reason));
        break;
    case SEAPROX_NOTICE_EXHAUSTED:
        fprintf(stderr, "nothing is accepted for a while: %s\n", strerror(notice->error));
        break;
    }
}

static void *run(void *number) {
    int result = seaprox_run(proxy, (uint32_t)(uintptr_t)number);
    if (result != 0) {
        failed("a thread", result);
        seaprox_stop(proxy);
    }
    return NULL;
}

int main(int argc, char **argv) {
    struct seaprox_options options = {
        .size = sizeof options, .abi_version = SEAPROX_ABI_VERSION, .threads = THREADS};
    struct seaprox_observer observer = {.size = sizeof observer, .on_notice = say};
    struct seaprox_counters counters = {.size = sizeof counters};
    char address[SEAPROX_ADDRESS_SIZE];
    pthread_t threads[THREADS];
    int result;

    if (argc < 3) {
        fprintf(stderr, "usage: static_proxy LISTEN TARGET [TARGET..]\n");
        return 64;
    }
    if ((result = seaprox_init(memory, sizeof memory, &options, &proxy)) != 0)
        return failed("init", result);
    if ((result = seaprox_listen(proxy, argv[1])) != 0)
        return failed(argv[1], result);
    for (int n = 2; n < argc; n++)
        if ((result = seaprox_target(proxy, argv[n])) != 0)
            return failed(argv[n], result);
    if ((result = seaprox_observer(proxy, &observer)) != 0)
        return failed("observer", result);
    if ((result = seaprox_start(proxy)) != 0)
        return failed("start", result);
    signal(SIGTERM, end);
    signal(SIGINT, end);
    if ((result = seaprox_listening(proxy, 0, address, sizeof address)) != 0)
        return failed("listening", result);
    printf("listening %s\n", address);
    fflush(stdout);

    for (uintptr_t n = 0; n < THREADS; n++)
        if ((result = pthread_create(&threads[n], NULL, run, (void *)n)) != 0)
            return failed("thread", -result);
    for (int n = 0; n < THREADS; n++)
        pthread_join(threads[n], NULL);
    if ((result = seaprox_counters(proxy, SEAPROX_ALL, &counters)) != 0)
        return failed("counters", result);
    printf("%llu connections, %llu bytes\n", (unsigned long long)counters.closed,
           (unsigned long long)counters.bytes);
    return (result = seaprox_close(proxy)) != 0 ? failed("close", result) : 0;
}
