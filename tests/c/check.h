/*
 * What the tests in C have in common: a check that ends the program and says where, and a tcp client and
 * a listener that do not wait for ever.
 */
#ifndef CHECK_H
#define CHECK_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);  \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

#define IS(expected, call)                                                           \
    do {                                                                             \
        long long is = (long long)(call), wanted = (long long)(expected);            \
        if (is != wanted) {                                                          \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__,     \
                    #call, is, wanted);                                              \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

enum { PATIENCE_SECONDS = 30 };

static inline int patient(int fd) {
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    CHECK(fd >= 0);
    IS(0, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
    IS(0, setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience));
    return fd;
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A listener on 127.0.0.1, and its port. */
static inline int listen_somewhere(int *port) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int fd = patient(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    IS(0, bind(fd, (struct sockaddr *)&address, size));
    IS(0, listen(fd, 16));
    IS(0, getsockname(fd, (struct sockaddr *)&address, &size));
    *port = ntohs(address.sin_port);
    return fd;
}

static inline int connect_to(int port) {
    struct sockaddr_in address = loopback(port);
    int fd = patient(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    IS(0, connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

/* The port in words like "127.0.0.1:80". */
static inline int port_of(const char *address) {
    const char *colon = strrchr(address, ':');
    CHECK(colon != NULL);
    return atoi(colon + 1);
}

static inline void say(int fd, const char *text) {
    IS(strlen(text), send(fd, text, strlen(text), MSG_NOSIGNAL));
}

/* Hears exactly this. */
static inline void hear(int fd, const char *text) {
    char room[256] = {0};
    CHECK(strlen(text) < sizeof room);
    IS(strlen(text), recv(fd, room, strlen(text), MSG_WAITALL));
    IS(0, strcmp(room, text));
}

/* Hears the end, in order. */
static inline void hear_end(int fd) {
    char byte;
    IS(0, recv(fd, &byte, 1, 0));
}

/* Hears a reset. */
static inline void hear_reset(int fd) {
    char byte;
    IS(-1, recv(fd, &byte, 1, 0));
    IS(ECONNRESET, errno);
}

/* Connects and is reset, which may come before the connect has returned. */
static inline void be_refused(int port) {
    struct sockaddr_in address = loopback(port);
    int fd = patient(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        hear_reset(fd);
    else
        IS(ECONNRESET, errno);
    IS(0, close(fd));
}

#endif
