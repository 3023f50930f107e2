/* The relay's data path in C: what `bwrouter.relay.loop.Loop` does for one circuit, over the same system calls and the
 * same libsodium. Its cost is the floor under which no interpreter can go. Little-endian machines only. */
#ifndef CELL_LOOP_H
#define CELL_LOOP_H
#include <netinet/in.h>
#include <stdint.h>

/* Keys and ids of one circuit, and the relay's own obfuscation key, as bench/relay/circuit.py packs them. */
struct preset {
    uint8_t forward[32], backward[32], prev_obf[32], next_obf[32], own_obf[32];
    uint8_t prev_mac[16], next_mac[16]; /* link MAC keys: of what goes to the client, of what the next hop sends */
    struct sockaddr_in6 prev, next;
    uint64_t own_cid, next_cid;    /* the ids under which the previous and the next hop speak to us */
    uint64_t to_prev, to_next;     /* the ids that they gave us */
    uint64_t left;                 /* bytes that are paid for */
    uint64_t origin;               /* this hop's own label */
};
_Static_assert(sizeof(struct preset) == 296, "bench/relay/circuit.py packs 296 bytes without holes");

struct cell_loop;
struct cell_loop *cell_loop_new(int fd, const struct preset *preset, int offload);
/* Take one batch and forward it; returns the number of cells that came, 0 when none was waiting. */
int cell_loop_step(struct cell_loop *loop);
/* Counters: cells in, cells out, cells dropped. */
void cell_loop_counters(const struct cell_loop *loop, uint64_t out[3]);
#endif
