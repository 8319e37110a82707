/* A peer that is no seaprox: it connects by SCTP and says what nobody should have to hear. What it says depends on the
 * seed alone, as far as the peer lets it speak; it ends by itself. It does not judge: that the peer lives, and serves
 * others meanwhile, is for the test to see.
 *
 *   alien WHAT REMOTE PORT SEED ROUNDS MESSAGES
 *
 *   garbage  random messages on random streams, ordered and not
 *   hello    a proper HELLO, then the same
 *   nearly   a proper HELLO and PING, then messages that are almost right: known kinds, plausible channels
 *   long     a proper HELLO, then messages of more than 32 KiB, on many streams at once
 *   streams  as many streams as SCTP has, a message on each in turn
 *   all      each of them in turn
 *
 * A round is one association, of at most MESSAGES messages. It ends 0 when every round got its association, whatever
 * the peer then did with it, and 1 when one did not: then nobody listens any more. */
#include "sctp.h"

#define MESSAGE_MAX (256 * 1024)
#define PACKET_MAX 32768
#define STREAMS_MAX 65535

enum what { GARBAGE, HELLO, NEARLY, LONG, STREAMS, ALL };

static const char *const names[] = {"garbage", "hello", "nearly", "long", "streams", "all"};
static uint8_t bytes[MESSAGE_MAX];
static unsigned long sent_messages, sent_bytes, ended_by_peer, stalled;

static void put16(uint8_t *place, uint16_t value)
{
	place[0] = value;
	place[1] = value >> 8;
}

static void put32(uint8_t *place, uint32_t value)
{
	put16(place, value);
	put16(place + 2, value >> 16);
}

/* 0 when the peer took it. */
static int say(int fd, const struct message *message)
{
	if (!sctp_send(fd, bytes, message)) {
		sent_messages++;
		sent_bytes += message->length;
		return 0;
	}
	if (errno == EAGAIN || errno == EMSGSIZE)
		stalled++;
	else
		ended_by_peer++;
	return -1;
}

/* HELLO, and the PING that says it was answered, in one packet. */
static int say_hello(int fd)
{
	struct message hello = {.length = 32};

	memset(bytes, 0, hello.length);
	bytes[0] = 0x0e;
	bytes[1] = bytes[2] = 1;
	put16(bytes + 4, 1024);
	put32(bytes + 8, 16384);
	put32(bytes + 12, 1 << 20);
	put16(bytes + 16, 15);
	bytes[20] = 0x08;
	return say(fd, &hello);
}

/* A message of the protocol as somebody might write it who has read half of it. Its length. */
static size_t nearly_right(uint64_t *seed, uint16_t *stream)
{
	static const uint8_t kinds[] = {0x00, 0x01, 0x01, 0x03, 0x04, 0x04, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0b, 0x0c, 0x0d,
		0x0e, 0x0f, 0x80, 0xff};
	uint32_t slot = random_below(seed, 4);
	uint32_t channel = 1u << 31 | random_below(seed, 3) << 16 | slot;
	size_t length = 8 + random_below(seed, 40);

	random_fill(seed, bytes, 64);
	bytes[0] = kinds[random_below(seed, sizeof(kinds))];
	bytes[1] = random_below(seed, 2);
	if (random_below(seed, 8))
		put32(bytes + 4, channel);
	switch (bytes[0]) {
	case 0x01: /* DATA, often as long as it says */
	case 0x80:
	case 0xff:
		put16(bytes + 2, length - (bytes[0] == 0x01 ? 8 : 4) + !random_below(seed, 8));
		break;
	case 0x04: /* OPEN of a service that may be there: the empty name; no client */
		put16(bytes + 2, 0);
		put32(bytes + 8, 16384);
		bytes[1] = random_below(seed, 8) ? 0 : random_below(seed, 7);
		bytes[12] = 0;
		bytes[13] = 0;
		length = random_below(seed, 8) ? 14 : length;
		break;
	case 0x08: /* PING and PONG */
	case 0x0d:
		length = 12;
		break;
	case 0x06: /* RESET, with a final offset that may be true */
		put32(bytes + 8, random_below(seed, 64));
		length = 12;
		break;
	default:
		break;
	}
	*stream = random_below(seed, 8) ? 1 + 2 * slot + 1 : 0;
	return length;
}

/* The next message of a round, into `bytes`. */
static struct message next(enum what what, uint64_t *seed, uint32_t count, uint16_t streams)
{
	struct message message = {.ppid = random_below(seed, 4) ? 0 : random_next(seed)};

	switch (what) {
	case NEARLY:
		message.length = nearly_right(seed, &message.stream);
		if (message.stream >= streams)
			message.stream = 0;
		return message;
	case LONG:
		message.stream = random_below(seed, streams < 64 ? streams : 64);
		message.length = PACKET_MAX + 1 + random_below(seed, MESSAGE_MAX - PACKET_MAX);
		random_fill(seed, bytes, 64);
		memset(bytes + 64, bytes[0], message.length - 64);
		break;
	case STREAMS:
		message.stream = count % streams;
		message.length = 1 + random_below(seed, 64);
		random_fill(seed, bytes, message.length);
		break;
	default:
		message.stream = random_below(seed, streams);
		message.flags = random_below(seed, 4) ? 0 : SCTP_UNORDERED;
		message.length = 1 + random_below(seed, random_below(seed, 8) ? 64 : PACKET_MAX);
		random_fill(seed, bytes, message.length);
		break;
	}
	return message;
}

/* Takes what the peer said, so that it is not held up by us alone. */
static void hear(int fd)
{
	int count;

	for (count = 0; count < 64; count++)
		if (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) <= 0)
			return;
}

/* One association; 0 when there was one. */
static int round_of(enum what what, const struct addresses *there, uint64_t *seed, uint32_t messages)
{
	int fd = sctp_socket(there->family, what == STREAMS ? STREAMS_MAX : 64, 2);
	int room = 2 * MESSAGE_MAX, is_deaf = !random_below(seed, 2);
	uint32_t count = 0, farewell = random_below(seed, 3);
	uint16_t streams;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	if (sctp_connect(fd, there)) {
		fprintf(stderr, "connect: %s\n", strerror(errno));
		close(fd);
		return -1;
	}
	streams = sctp_streams(fd);
	if (what == GARBAGE || what == STREAMS || !say_hello(fd)) {
		for (; count < messages; count++) {
			struct message message = next(what, seed, count, streams);

			if (say(fd, &message))
				break;
			if (!is_deaf)
				hear(fd);
		}
	}
	if (farewell == 0) { /* ABORT, without a word */
		struct linger none = {.l_onoff = 1};

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	} else if (farewell == 1) { /* SHUTDOWN, and then we wait */
		shutdown(fd, SHUT_WR);
		for (count = 0; count < 100000 && recv(fd, bytes, sizeof(bytes), 0) > 0; count++)
			;
	}
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	struct addresses there;
	enum what what = GARBAGE;
	uint64_t seed;
	long rounds, messages, count;

	while (argc == 7 && what <= ALL && strcmp(argv[1], names[what]))
		what++;
	if (argc != 7 || what > ALL) {
		fputs("alien garbage|hello|nearly|long|streams|all REMOTE PORT SEED ROUNDS MESSAGES\n", stderr);
		return 2;
	}
	there = addresses_of(argv[2], number_of(argv[3], 1, 65535));
	seed = number_of(argv[4], 0, 1000000000);
	rounds = number_of(argv[5], 1, 1000000);
	messages = number_of(argv[6], 1, 1000000);
	for (count = 0; count < rounds; count++) {
		uint64_t own = random_next(&seed);

		if (round_of(what == ALL ? count % ALL : what, &there, &own, messages)) {
			fprintf(stderr, "round %ld got no association\n", count);
			return 1;
		}
	}
	printf("rounds=%ld messages=%lu bytes=%lu ended_by_peer=%lu stalled=%lu\n", rounds, sent_messages, sent_bytes,
		ended_by_peer, stalled);
	return 0;
}
