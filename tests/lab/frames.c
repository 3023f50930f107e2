#define _GNU_SOURCE
#include "frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int poll_fd;

uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

static int packet_socket(const char *name, int vnet)
{
	struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0), size = 8 << 20, one = 1;
	where.sll_ifindex = (int)if_nametoindex(name);
	if (fd < 0 || !where.sll_ifindex || bind(fd, (struct sockaddr *)&where, sizeof where))
		fail(name);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	/* What waits in the bucket behind the interface counts as the sender's. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
	if (vnet && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one))
		fail("PACKET_VNET_HDR");
	return fd;
}

void ways_open(struct way ways[2], const char *a, const char *b, unsigned room, int vnet)
{
	int fds[3] = {packet_socket(a, vnet), packet_socket(b, vnet), STDIN_FILENO};
	struct epoll_event event = {.events = EPOLLIN};

	poll_fd = epoll_create1(0);
	for (int i = 0; i < 3; i++) {
		event.data.fd = fds[i];
		if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fds[i], &event) && i < 2)
			fail("epoll");
	}
	for (int i = 0; i < 2; i++) {
		ways[i] = (struct way){.in = fds[i], .out = fds[1 - i], .room = room};
		ways[i].due = calloc(room, sizeof *ways[i].due);
		ways[i].size = calloc(room, sizeof *ways[i].size);
		ways[i].frame = calloc(room, FRAME);
		if (!ways[i].due || !ways[i].size || !ways[i].frame)
			fail("memory");
	}
	puts("ready");
	fflush(stdout);
}

int ways_wait(const struct way ways[2], char *text, size_t room)
{
	struct epoll_event ready[4];
	uint64_t now = now_ns(), wait = 1000000000u;

	for (int i = 0; i < 2; i++)
		if (ways[i].tail != ways[i].head) {
			uint64_t due = ways[i].due[ways[i].tail];
			uint64_t left = due > now ? due - now : 0;
			wait = left < wait ? left : wait;
		}
	struct timespec until = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
	int n = epoll_pwait2(poll_fd, ready, 4, &until, NULL);
	for (int i = 0; i < n; i++)
		if (ready[i].data.fd == STDIN_FILENO) {
			ssize_t got = read(STDIN_FILENO, text, room - 1);
			if (got <= 0)
				return -1;
			text[got] = 0;
			return (int)got;
		}
	return 0;
}

void way_give(struct way *w)
{
	struct mmsghdr batch[BATCH] = {0};
	struct iovec part[BATCH];
	uint64_t now = now_ns();

	while (w->tail != w->head && w->due[w->tail] <= now) {
		unsigned count = 0;
		for (unsigned at = w->tail; count < BATCH && at != w->head && w->due[at] <= now; at = (at + 1) % w->room) {
			part[count] = (struct iovec){w->frame[at], w->size[at]};
			batch[count].msg_hdr.msg_iov = &part[count];
			batch[count++].msg_hdr.msg_iovlen = 1;
		}
		int sent = sendmmsg(w->out, batch, count, MSG_DONTWAIT);
		w->tail = (w->tail + (sent > 0 ? (unsigned)sent : 1)) % w->room; /* one that is not taken is lost */
	}
}
