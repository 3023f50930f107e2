/* A bad line between two network interfaces: frames of one leave the other late, out of order, twice, or never.
 *
 *   line IFACE-A IFACE-B DELAY_MS JITTER_MS LOSS_PCT DUPLICATE_PCT REORDER_PCT SEED
 *
 * It stands where a kernel's netem would, for kernels without it. A frame leaves DELAY + up to JITTER later; jitter alone
 * keeps the order (a queue does), REORDER_PCT of the frames go at once instead and so overtake. Ends when stdin ends or
 * on SIGTERM.
 */
#include "frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { FRAMES = 4096 };

static uint64_t state;
static double delay, jitter, loss, twice, early;

/* xorshift64*: the same seed gives the same faults. */
static double chance(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (double)((state * 0x2545F4914F6CDD1DULL) >> 11) / 9007199254740992.0;
}

/* `last`: when the newest frame of this direction is due. */
static void take(struct way *w, uint64_t *last)
{
	for (int k = 0; k < BATCH; k++) {
		unsigned next = (w->head + 1) % w->room;
		uint8_t *frame = w->frame[w->head];
		ssize_t got = recv(w->in, frame, FRAME, 0);
		if (got <= 0)
			return;
		if (chance() < loss)
			continue;
		if (chance() < twice)
			(void)!send(w->out, frame, (size_t)got, MSG_DONTWAIT);
		if (chance() < early) {
			(void)!send(w->out, frame, (size_t)got, MSG_DONTWAIT);
			continue;
		}
		if (next == w->tail)
			continue; /* full, as a queue is */
		uint64_t due = now_ns() + (uint64_t)(delay + chance() * jitter);
		*last = due > *last ? due : *last;
		w->due[w->head] = *last;
		w->size[w->head] = (uint16_t)got;
		w->head = next;
	}
}

int main(int argc, char **argv)
{
	static struct way ways[2];
	uint64_t last[2] = {0};
	char text[64];

	if (argc != 9) {
		fprintf(stderr, "usage: line IFACE-A IFACE-B DELAY_MS JITTER_MS LOSS_PCT DUPLICATE_PCT REORDER_PCT SEED\n");
		return 2;
	}
	delay = atof(argv[3]) * 1e6;
	jitter = atof(argv[4]) * 1e6;
	loss = atof(argv[5]) / 100;
	twice = atof(argv[6]) / 100;
	early = atof(argv[7]) / 100;
	state = strtoull(argv[8], NULL, 10) | 1;
	ways_open(ways, argv[1], argv[2], FRAMES, 1);
	while (ways_wait(ways, text, sizeof text) >= 0)
		for (int i = 0; i < 2; i++) {
			take(&ways[i], &last[i]);
			way_give(&ways[i]);
		}
	return 0;
}
