/* What the SCTP programs of the tests share: addresses, sockets, messages, random numbers. Knows nothing of seaprox.
 * Whatever fails ends the program with 1 and a line that says what. The kernel's own header only, no libsctp. */
#ifndef SCTP_H
#define SCTP_H

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sctp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ADDRESSES_MAX 8

/* Several addresses in a row, as bindx and connectx want them. */
struct addresses {
	uint8_t bytes[ADDRESSES_MAX * sizeof(struct sockaddr_in6)];
	socklen_t length;
	int family;
};

struct message {
	uint16_t stream;
	uint16_t flags;
	uint32_t ppid;
	size_t length; /* bytes of it */
};

__attribute__((noreturn)) static inline void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* "10.1.0.1,10.2.0.1" and a port. All of one family. */
static inline struct addresses addresses_of(const char *list, uint16_t port)
{
	struct addresses all = {0};
	char copy[ADDRESSES_MAX * 64], *rest = copy, *one;

	if (strlen(list) >= sizeof(copy)) {
		errno = E2BIG;
		fail(list);
	}
	strcpy(copy, list);
	while ((one = strsep(&rest, ","))) {
		struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
		struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
		int is_v4 = inet_pton(AF_INET, one, &v4.sin_addr) == 1;
		socklen_t size = is_v4 ? sizeof(v4) : sizeof(v6);

		if ((!is_v4 && inet_pton(AF_INET6, one, &v6.sin6_addr) != 1) || all.length + size > sizeof(all.bytes)) {
			errno = EINVAL;
			fail(one);
		}
		memcpy(all.bytes + all.length, is_v4 ? (void *)&v4 : (void *)&v6, size);
		all.length += size;
		all.family = is_v4 ? AF_INET : AF_INET6;
	}
	return all;
}

static inline void set_option(int fd, int level, int name, const void *value, socklen_t size)
{
	if (setsockopt(fd, level, name, value, size))
		fail("setsockopt");
}

/* A one-to-one socket with the timers of a link that must notice soon: a second at most, two losses to give a path up.
 * Every call on it ends within `seconds`. */
static inline int sctp_socket(int family, uint16_t streams, int seconds)
{
	struct sctp_initmsg init = {.sinit_num_ostreams = streams, .sinit_max_instreams = streams};
	struct sctp_rtoinfo rto = {.srto_initial = 500, .srto_max = 1000, .srto_min = 100};
	struct sctp_paddrparams path = {.spp_hbinterval = 1000, .spp_pathmaxrxt = 2, .spp_flags = SPP_HB_ENABLE};
	struct timeval limit = {.tv_sec = seconds};
	int on = 1;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_SCTP);

	if (fd < 0)
		fail("socket");
	path.spp_address.ss_family = family;
	set_option(fd, IPPROTO_SCTP, SCTP_INITMSG, &init, sizeof(init));
	set_option(fd, IPPROTO_SCTP, SCTP_RTOINFO, &rto, sizeof(rto));
	set_option(fd, IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, &path, sizeof(path));
	set_option(fd, IPPROTO_SCTP, SCTP_NODELAY, &on, sizeof(on));
	set_option(fd, IPPROTO_SCTP, SCTP_RECVRCVINFO, &on, sizeof(on));
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	set_option(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	set_option(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

static inline void sctp_bind(int fd, const struct addresses *local)
{
	set_option(fd, IPPROTO_SCTP, SCTP_SOCKOPT_BINDX_ADD, local->bytes, local->length);
}

/* 0, or -1 with errno. */
static inline int sctp_connect(int fd, const struct addresses *remote)
{
	/* This option alone answers with the number of the association. */
	return setsockopt(fd, IPPROTO_SCTP, SCTP_SOCKOPT_CONNECTX, remote->bytes, remote->length) < 0 ? -1 : 0;
}

/* How many streams this end may send on, once it is connected. */
static inline uint16_t sctp_streams(int fd)
{
	struct sctp_status status = {0};
	socklen_t size = sizeof(status);

	if (getsockopt(fd, IPPROTO_SCTP, SCTP_STATUS, &status, &size))
		fail("SCTP_STATUS");
	return status.sstat_outstrms;
}

/* The whole message, or -1 with errno: SCTP takes no half of one. */
static inline int sctp_send(int fd, const void *bytes, const struct message *message)
{
	struct sctp_sndinfo info = {
		.snd_sid = message->stream, .snd_flags = message->flags, .snd_ppid = htonl(message->ppid)};
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(info))];
	} control = {0};
	struct iovec part = {(void *)bytes, message->length};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *entry = CMSG_FIRSTHDR(&header);

	entry->cmsg_level = IPPROTO_SCTP;
	entry->cmsg_type = SCTP_SNDINFO;
	entry->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(entry), &info, sizeof(info));
	return sendmsg(fd, &header, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* A whole message of at most `room` bytes: 1; the end: 0; -1 with errno (EMSGSIZE: there was no room). */
static inline int sctp_receive(int fd, void *bytes, size_t room, struct message *message, int flags)
{
	struct sctp_rcvinfo info;
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(info))];
	} control;
	size_t length = 0;

	*message = (struct message){0};
	for (;;) {
		struct iovec part = {(uint8_t *)bytes + length, room - length};
		struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
			.msg_controllen = sizeof(control.bytes)};
		ssize_t got = recvmsg(fd, &header, flags);
		struct cmsghdr *entry;

		if (got <= 0)
			return got;
		length += got;
		for (entry = CMSG_FIRSTHDR(&header); entry; entry = CMSG_NXTHDR(&header, entry)) {
			if (entry->cmsg_level != IPPROTO_SCTP || entry->cmsg_type != SCTP_RCVINFO)
				continue;
			memcpy(&info, CMSG_DATA(entry), sizeof(info));
			message->stream = info.rcv_sid;
			message->flags = info.rcv_flags;
			message->ppid = ntohl(info.rcv_ppid);
		}
		if (header.msg_flags & MSG_EOR) {
			message->length = length;
			return 1;
		}
		if (length == room) {
			errno = EMSGSIZE;
			return -1;
		}
	}
}

/* SplitMix64: the same numbers for the same seed, everywhere. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t mixed = *state += 0x9e3779b97f4a7c15;

	mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
	mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
	return mixed ^ (mixed >> 31);
}

/* 0 .. below - 1. */
static inline uint32_t random_below(uint64_t *state, uint32_t below)
{
	return (random_next(state) >> 32) * below >> 32;
}

static inline void random_fill(uint64_t *state, uint8_t *bytes, size_t length)
{
	size_t place;

	for (place = 0; place < length; place++)
		bytes[place] = random_next(state) >> 56;
}

static inline int64_t now_micros(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

/* A number on the command line: `low` to `high`, or the end. */
static inline long number_of(const char *text, long low, long high)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (!*text || *end || number < low || number > high) {
		errno = EINVAL;
		fail(text);
	}
	return number;
}

#endif
