/* Frames on their way between two network interfaces, for programs that stand where a kernel's netem would.
 *
 * Two AF_PACKET sockets and a ring for each direction. Whoever takes frames says when each is due; the timer is epoll's,
 * so a frame is up to 0.1 ms late.
 */
#ifndef FRAMES_H
#define FRAMES_H
#include <stddef.h>
#include <stdint.h>

enum { FRAME = 1600 + 10, BATCH = 64 };

struct way {
	int in, out;
	unsigned room, head, tail; /* frames that wait are tail to head - 1, modulo room */
	uint64_t *due;
	uint16_t *size;
	uint8_t (*frame)[FRAME];
};

uint64_t now_ns(void);

/* Open both directions with rings of `room` frames; `vnet`: with a struct virtio_net_hdr before each frame, read and
 * written as it is, since between veths a checksum is not there yet. Prints "ready"; ends the program on an error. */
void ways_open(struct way ways[2], const char *a, const char *b, unsigned room, int vnet);

/* Until a frame has come, one is due, or something is on stdin: bytes of that in `text`, which is ended by 0; 0 for none,
 * -1 when stdin has ended. */
int ways_wait(const struct way ways[2], char *text, size_t room);

/* Send what is due. What the sending interface does not take (its queue is full) is dropped, as on a cable. */
void way_give(struct way *w);

#endif
