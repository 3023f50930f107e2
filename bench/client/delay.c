/* A delay line between two network interfaces: every frame of one leaves the other a fixed time later, in order.
 *
 *   delay IFACE-A IFACE-B MILLISECONDS
 *
 * It stands where a kernel's netem would, for kernels without it. A line "N\n" on stdin sets another delay (milliseconds,
 * decimals allowed). Two AF_PACKET sockets; the frames wait in a ring for each direction; the timer is epoll's, so a
 * frame is up to 0.1 ms late. What the sending interface does not take (its queue is full) is dropped, as on a cable.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 16384, FRAME = 1600, BATCH = 64 };

struct line {
	int in, out;
	unsigned head, tail;
	uint64_t due[FRAMES];
	uint16_t size[FRAMES];
	uint8_t (*frame)[FRAME];
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static int packet_socket(const char *name)
{
	struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0), size = 8 << 20, one = 1;
	where.sll_ifindex = (int)if_nametoindex(name);
	if (fd < 0 || !where.sll_ifindex || bind(fd, (struct sockaddr *)&where, sizeof where)) {
		fprintf(stderr, "delay: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	/* What waits in the bucket behind the interface counts as the sender's. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
	return fd;
}

static void take(struct line *l, uint64_t delay)
{
	struct mmsghdr batch[BATCH] = {0};
	struct iovec part[BATCH];
	unsigned room = (l->tail + FRAMES - l->head - 1) % FRAMES, count = room < BATCH ? room : BATCH;

	if (!count) { /* full: what comes is lost */
		static uint8_t rest[FRAME];
		while (recv(l->in, rest, FRAME, 0) > 0)
			;
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		part[i] = (struct iovec){l->frame[(l->head + i) % FRAMES], FRAME};
		batch[i].msg_hdr.msg_iov = &part[i];
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	int got = recvmmsg(l->in, batch, count, MSG_DONTWAIT, NULL);
	uint64_t due = now_ns() + delay;
	for (int i = 0; i < got; i++) {
		l->size[l->head] = (uint16_t)batch[i].msg_len;
		l->due[l->head] = due;
		l->head = (l->head + 1) % FRAMES;
	}
}

static void give(struct line *l, uint64_t now)
{
	struct mmsghdr batch[BATCH] = {0};
	struct iovec part[BATCH];

	while (l->tail != l->head && l->due[l->tail] <= now) {
		unsigned count = 0;
		for (unsigned at = l->tail; count < BATCH && at != l->head && l->due[at] <= now; at = (at + 1) % FRAMES) {
			part[count] = (struct iovec){l->frame[at], l->size[at]};
			batch[count].msg_hdr.msg_iov = &part[count];
			batch[count++].msg_hdr.msg_iovlen = 1;
		}
		int sent = sendmmsg(l->out, batch, count, MSG_DONTWAIT);
		l->tail = (l->tail + (sent > 0 ? (unsigned)sent : 1)) % FRAMES; /* one that is not taken is lost */
	}
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: delay IFACE-A IFACE-B MILLISECONDS\n");
		return 2;
	}
	static struct line lines[2];
	uint64_t delay = (uint64_t)(atof(argv[3]) * 1e6);
	int a = packet_socket(argv[1]), b = packet_socket(argv[2]), poll = epoll_create1(0);
	lines[0].in = lines[1].out = a;
	lines[1].in = lines[0].out = b;
	for (int i = 0; i < 2; i++)
		lines[i].frame = calloc(FRAMES, FRAME);
	struct epoll_event event = {.events = EPOLLIN}, ready[4];
	for (int i = 0; i < 3; i++) {
		event.data.fd = i == 0 ? a : i == 1 ? b : 0;
		if (epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event) && i < 2)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		uint64_t now = now_ns(), wait = 1000000000u;
		for (int i = 0; i < 2; i++)
			if (lines[i].tail != lines[i].head) {
				uint64_t due = lines[i].due[lines[i].tail];
				uint64_t left = due > now ? due - now : 0;
				wait = left < wait ? left : wait;
			}
		struct timespec until = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
		int n = epoll_pwait2(poll, ready, 4, &until, NULL);
		for (int i = 0; i < n; i++)
			if (ready[i].data.fd == 0) {
				char text[64];
				ssize_t got = read(0, text, sizeof text - 1);
				if (got <= 0)
					return 0;
				text[got] = 0;
				delay = (uint64_t)(atof(text) * 1e6);
			}
		for (int i = 0; i < 2; i++) {
			take(&lines[i], delay);
			give(&lines[i], now_ns());
		}
	}
}
