/* A bad line between two network interfaces: frames of one leave the other late, out of order, twice, or never.
 *
 *   line IFACE-A IFACE-B DELAY_MS JITTER_MS LOSS_PCT DUPLICATE_PCT REORDER_PCT SEED
 *
 * It stands where a kernel's netem would, for kernels without it. A frame leaves DELAY + up to JITTER later; jitter alone
 * keeps the order (a queue does), REORDER_PCT of the frames go at once instead and so overtake. Ends when stdin ends or
 * on SIGTERM. Two AF_PACKET sockets and a ring for each direction.
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

enum { FRAMES = 4096, FRAME = 1600 + 10, BATCH = 64 };

struct way {
	int in, out;
	unsigned head, tail;
	uint64_t last;
	uint64_t due[FRAMES];
	uint16_t size[FRAMES];
	uint8_t (*frame)[FRAME];
};

static uint64_t state;

/* xorshift64*: the same seed gives the same faults. */
static double chance(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (double)((state * 0x2545F4914F6CDD1DULL) >> 11) / 9007199254740992.0;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int packet_socket(const char *name)
{
	struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0), size = 4 << 20, one = 1;
	where.sll_ifindex = (int)if_nametoindex(name);
	if (fd < 0 || !where.sll_ifindex || bind(fd, (struct sockaddr *)&where, sizeof where)) {
		fprintf(stderr, "line: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
	/* A struct virtio_net_hdr before each frame, read and written as it is: between veths a checksum is not there yet. */
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)) {
		perror("line: PACKET_VNET_HDR");
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 9) {
		fprintf(stderr, "usage: line IFACE-A IFACE-B DELAY_MS JITTER_MS LOSS_PCT DUPLICATE_PCT REORDER_PCT SEED\n");
		return 2;
	}
	static struct way ways[2];
	double delay = atof(argv[3]) * 1e6, jitter = atof(argv[4]) * 1e6;
	double loss = atof(argv[5]) / 100, twice = atof(argv[6]) / 100, early = atof(argv[7]) / 100;
	int a = packet_socket(argv[1]), b = packet_socket(argv[2]), poll = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN}, ready[4];
	state = strtoull(argv[8], NULL, 10) | 1;
	ways[0].in = ways[1].out = a;
	ways[1].in = ways[0].out = b;
	for (int i = 0; i < 2; i++)
		ways[i].frame = calloc(FRAMES, FRAME);
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
			if (ways[i].tail != ways[i].head) {
				uint64_t due = ways[i].due[ways[i].tail];
				uint64_t left = due > now ? due - now : 0;
				wait = left < wait ? left : wait;
			}
		struct timespec until = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
		int n = epoll_pwait2(poll, ready, 4, &until, NULL);
		for (int i = 0; i < n; i++) {
			char text[64];
			if (ready[i].data.fd == 0 && read(0, text, sizeof text) <= 0)
				return 0;
		}
		for (int i = 0; i < 2; i++) {
			struct way *w = &ways[i];
			for (int k = 0; k < BATCH; k++) {
				unsigned next = (w->head + 1) % FRAMES;
				ssize_t got = recv(w->in, w->frame[w->head], FRAME, 0);
				if (got <= 0)
					break;
				if (chance() < loss)
					continue;
				if (chance() < twice)
					(void)!send(w->out, w->frame[w->head], (size_t)got, MSG_DONTWAIT);
				if (chance() < early) {
					(void)!send(w->out, w->frame[w->head], (size_t)got, MSG_DONTWAIT);
					continue;
				}
				if (next == w->tail)
					continue; /* full, as a queue is */
				uint64_t due = now_ns() + (uint64_t)(delay + chance() * jitter);
				w->last = due > w->last ? due : w->last;
				w->due[w->head] = w->last;
				w->size[w->head] = (uint16_t)got;
				w->head = next;
			}
			for (now = now_ns(); w->tail != w->head && w->due[w->tail] <= now; w->tail = (w->tail + 1) % FRAMES)
				(void)!send(w->out, w->frame[w->tail], w->size[w->tail], MSG_DONTWAIT);
		}
	}
}
