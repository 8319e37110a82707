/* SCTP bytes there and back, over one path or several. Shows that the machine has a network, and how it behaves: that
 * the same bytes come back on the same stream, how long one takes, and how long the longest took.
 *
 *   echo serve LOCAL[,LOCAL].. PORT                       for ever, one association after the other; says `ready`
 *   echo drive LOCAL[,LOCAL].. REMOTE[,REMOTE].. PORT SECONDS BYTES SEED
 *
 * `drive` keeps one message of BYTES under way for SECONDS, on one stream after the other, and prints
 * `messages=N median_us=N longest_us=N`. Every call gives up after ten seconds, and then it ends with 1. */
#include "sctp.h"

#define MESSAGE_MAX 65536
#define STREAMS 32
#define TIMES_MAX 100000

static uint8_t sent[MESSAGE_MAX], received[MESSAGE_MAX];
static int64_t times[TIMES_MAX];

static int serve(const char *local, uint16_t port)
{
	struct addresses here = addresses_of(local, port);
	int listener = sctp_socket(here.family, STREAMS, 0);

	sctp_bind(listener, &here);
	if (listen(listener, 8))
		fail("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct message message;
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 && errno == ECONNABORTED)
			continue;
		if (fd < 0)
			fail("accept");
		while (sctp_receive(fd, received, sizeof(received), &message, 0) == 1) {
			message.flags = 0;
			if (sctp_send(fd, received, &message))
				break;
		}
		close(fd);
	}
}

static int by_size(const void *one, const void *other)
{
	int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;

	return (a > b) - (a < b);
}

static int drive(char **argv)
{
	uint16_t port = number_of(argv[2], 1, 65535);
	struct addresses here = addresses_of(argv[0], 0), there = addresses_of(argv[1], port);
	int64_t start, end = number_of(argv[3], 1, 600) * 1000000ll;
	struct message out = {.length = number_of(argv[4], 1, MESSAGE_MAX)}, in;
	uint64_t seed = number_of(argv[5], 0, 1000000000);
	int fd = sctp_socket(here.family, STREAMS, 10);
	size_t count = 0;

	sctp_bind(fd, &here);
	if (sctp_connect(fd, &there))
		fail("connect");
	start = now_micros();
	while (count < TIMES_MAX && now_micros() - start < end) {
		int64_t before = now_micros();

		random_fill(&seed, sent, out.length);
		out.stream = count % sctp_streams(fd);
		if (sctp_send(fd, sent, &out))
			fail("send");
		errno = 0;
		if (sctp_receive(fd, received, sizeof(received), &in, 0) != 1)
			fail("receive");
		if (in.length != out.length || in.stream != out.stream || memcmp(sent, received, out.length)) {
			fprintf(stderr, "message %zu came back altered\n", count);
			return 1;
		}
		times[count++] = now_micros() - before;
	}
	qsort(times, count, sizeof(*times), by_size);
	printf("messages=%zu median_us=%lld longest_us=%lld\n", count, (long long)times[count / 2],
		(long long)times[count - 1]);
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "serve"))
		return serve(argv[2], number_of(argv[3], 1, 65535));
	if (argc == 8 && !strcmp(argv[1], "drive"))
		return drive(argv + 2);
	fputs("echo serve LOCAL.. PORT | echo drive LOCAL.. REMOTE.. PORT SECONDS BYTES SEED\n", stderr);
	return 2;
}
