/* A delay line between two network interfaces: every frame of one leaves the other a fixed time later, in order.
 *
 *   delay IFACE-A IFACE-B MILLISECONDS
 *
 * It stands where a kernel's netem would, for kernels without it. A line "N\n" on stdin sets another delay (milliseconds,
 * decimals allowed). Ends when stdin ends or on SIGTERM.
 */
#define _GNU_SOURCE
#include "frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { FRAMES = 16384 };

static void take(struct way *w, uint64_t delay)
{
	struct mmsghdr batch[BATCH] = {0};
	struct iovec part[BATCH];
	unsigned room = (w->tail + w->room - w->head - 1) % w->room, count = room < BATCH ? room : BATCH;

	if (!count) { /* full: what comes is lost */
		static uint8_t rest[FRAME];
		while (recv(w->in, rest, FRAME, 0) > 0)
			;
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		part[i] = (struct iovec){w->frame[(w->head + i) % w->room], FRAME};
		batch[i].msg_hdr.msg_iov = &part[i];
		batch[i].msg_hdr.msg_iovlen = 1;
	}
	int got = recvmmsg(w->in, batch, count, MSG_DONTWAIT, NULL);
	uint64_t due = now_ns() + delay;
	for (int i = 0; i < got; i++) {
		w->size[w->head] = (uint16_t)batch[i].msg_len;
		w->due[w->head] = due;
		w->head = (w->head + 1) % w->room;
	}
}

int main(int argc, char **argv)
{
	static struct way ways[2];
	char text[64];

	if (argc != 4) {
		fprintf(stderr, "usage: delay IFACE-A IFACE-B MILLISECONDS\n");
		return 2;
	}
	uint64_t delay = (uint64_t)(atof(argv[3]) * 1e6);
	ways_open(ways, argv[1], argv[2], FRAMES, 0);
	for (int said; (said = ways_wait(ways, text, sizeof text)) >= 0;) {
		if (said)
			delay = (uint64_t)(atof(text) * 1e6);
		for (int i = 0; i < 2; i++) {
			take(&ways[i], delay);
			way_give(&ways[i]);
		}
	}
	return 0;
}
