#define _GNU_SOURCE
#include "cell_loop.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fields of the wire are read in place: little-endian machines only"
#endif

enum { SLOTS = 256, SLOT = 2048, RUN = 64, MESSAGES = 64, TABLE = 1024, HEADER = 24, LAYER = 17, TAG = 16 };
enum { PACKET_MIN = 41, PACKET_MAX = 1472, RELAY = 1, RUN_BYTES = 65000, WINDOW_WORDS = 16, WINDOW = 1008 };
#define COUNTER_LIMIT (1u << 30)

struct window {
    uint32_t next;
    uint64_t bits[WINDOW_WORDS];
};

struct circuit {
    struct preset p;
    int64_t left; /* bytes that may still pass */
    struct window forward, back[8];
};

union control {
    char room[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

struct cell_loop {
    int fd, gro, gso, per, expect, learn;
    struct circuit *forward[TABLE], *backward[TABLE];
    uint8_t obf[32];
    uint64_t cells_in, cells_out, dropped;
    struct mmsghdr rx[MESSAGES], tx[SLOTS];
    struct iovec rx_iov[SLOTS], tx_iov[SLOTS];
    struct sockaddr_in6 names[MESSAGES];
    union control rx_control[MESSAGES], tx_control[SLOTS];
    uint16_t sizes[SLOTS];
    const struct sockaddr_in6 *to[SLOTS];
    int queued;
    uint8_t slots[SLOTS][SLOT], stage[RUN * SLOT];
};

static uint64_t load64(const uint8_t *a) {
    uint64_t v;
    memcpy(&v, a, 8);
    return v;
}

static int window_fresh(const struct window *w, uint32_t n) {
    if (n >= w->next) return 1;
    if (w->next - n > WINDOW + 1) return 0;
    return !(w->bits[(n >> 6) % WINDOW_WORDS] >> (n & 63) & 1);
}

static void window_take(struct window *w, uint32_t n) {
    if (n >= w->next) {
        uint32_t last = w->next ? (w->next - 1) >> 6 : 0, word = n >> 6;
        if (word - last > WINDOW_WORDS) last = word - WINDOW_WORDS;
        while (last < word) w->bits[++last % WINDOW_WORDS] = 0;
        w->next = n + 1;
    }
    w->bits[(n >> 6) % WINDOW_WORDS] |= 1ull << (n & 63);
}

static void lay(struct cell_loop *l, int expect) {
    l->expect = expect;
    for (int i = 0; i < SLOTS; i++) l->rx_iov[i] = (struct iovec){l->slots[i], expect};
}

struct cell_loop *cell_loop_new(int fd, const struct preset *preset, int offload) {
    struct cell_loop *l = calloc(1, sizeof *l);
    struct circuit *c = calloc(1, sizeof *c);
    if (!l || !c || sodium_init() < 0) abort();
    int one = 1;
    l->fd = fd;
    l->gro = offload && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one) == 0;
    l->gso = offload;
    l->per = l->gro ? RUN : 1;
    lay(l, l->gro ? PACKET_MAX : SLOT - 32);
    c->p = *preset;
    c->left = (int64_t)preset->left;
    memcpy(l->obf, preset->own_obf, 32);
    l->forward[preset->own_cid % TABLE] = c;
    l->backward[preset->next_cid % TABLE] = c;
    return l;
}

/* Forward: open the layer in place, dress the packet for the next hop. Returns its size, 0 when it is dropped. */
static int forward(struct cell_loop *l, struct circuit *c, uint8_t *a, int n) {
    uint64_t number = load64(a + 8);
    if (number >= COUNTER_LIMIT || !window_fresh(&c->forward, (uint32_t)number)) return 0;
    memset(a + 4, 0, 4);
    a[16] = 0;
    if (crypto_aead_chacha20poly1305_ietf_decrypt(a + HEADER, NULL, NULL, a + HEADER, n - HEADER, a + 8, 9, a + 4,
                                                  c->p.forward))
        return 0;
    window_take(&c->forward, (uint32_t)number);
    if (a[n - LAYER] != RELAY || c->left < n) return 0;
    c->left -= n;
    n -= LAYER;
    memcpy(a, &c->p.to_next, 8);
    memset(a + 16, 0, 8);
    crypto_stream_chacha20_ietf_xor(a, a, HEADER, a + n - 12, c->p.next_obf);
    l->to[l->queued] = &c->p.next;
    return n;
}

/* Backward: check the link, seal one more layer, dress the packet for the previous hop. */
static int backward(struct cell_loop *l, struct circuit *c, uint8_t *a, int n) {
    uint8_t mac[8];
    crypto_shorthash(mac, a, 16, c->p.next_mac);
    if (memcmp(mac, a + 16, 8)) return 0;
    uint64_t number = load64(a + 8), origin = number >> 61;
    number &= (1ull << 61) - 1;
    if (number >= COUNTER_LIMIT || origin == 0 || origin == c->p.origin || n > PACKET_MAX - LAYER) return 0;
    struct window *w = &c->back[origin];
    if (!window_fresh(w, (uint32_t)number) || c->left < n + LAYER) return 0;
    c->left -= n + LAYER;
    window_take(w, (uint32_t)number);
    a[n] = RELAY;
    memset(a + 4, 0, 4);
    a[16] = 1;
    crypto_aead_chacha20poly1305_ietf_encrypt(a + HEADER, NULL, a + HEADER, n + 1 - HEADER, a + 8, 9, NULL, a + 4,
                                              c->p.backward);
    n += LAYER;
    memcpy(a, &c->p.to_prev, 8);
    crypto_shorthash(a + 16, a, 16, c->p.prev_mac);
    crypto_stream_chacha20_ietf_xor(a, a, HEADER, a + n - 12, c->p.prev_obf);
    l->to[l->queued] = &c->p.prev;
    return n;
}

static void packet(struct cell_loop *l, uint8_t *a, int n) {
    int out = 0;
    if (n >= PACKET_MIN && n <= PACKET_MAX) {
        crypto_stream_chacha20_ietf_xor(a, a, HEADER, a + n - 12, l->obf);
        uint64_t cid = load64(a);
        struct circuit *c = l->forward[cid % TABLE];
        if (c && c->p.own_cid == cid)
            out = forward(l, c, a, n);
        else if ((c = l->backward[cid % TABLE]) && c->p.next_cid == cid)
            out = backward(l, c, a, n);
    }
    if (!out) {
        l->dropped++;
        return;
    }
    l->tx_iov[l->queued] = (struct iovec){a, (size_t)out};
    l->sizes[l->queued++] = (uint16_t)out;
}

/* How many datagrams message m holds, each in a slot of its own afterwards; sets the size of all but the last. */
static int split(struct cell_loop *l, int m, int *size, int *last) {
    int total = (int)l->rx[m].msg_len;
    uint8_t *a = l->slots[m * l->per];
    struct cmsghdr *c = l->rx[m].msg_hdr.msg_controllen ? CMSG_FIRSTHDR(&l->rx[m].msg_hdr) : NULL;
    *size = total;
    if (c && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) memcpy(size, CMSG_DATA(c), sizeof *size);
    if (*size >= total) {
        *size = *last = total;
        if (total > l->expect && l->per > 1) memmove(a + l->expect, a + SLOT, (size_t)(total - l->expect));
        return 1;
    }
    int count = (total + *size - 1) / *size;
    *last = total - (count - 1) * *size;
    if (*size != l->expect) {
        for (int done = 0, i = 0; done < total; done += l->expect, i++)
            memcpy(l->stage + done, a + i * SLOT, (size_t)(total - done < l->expect ? total - done : l->expect));
        for (int i = 0; i < count; i++) memcpy(a + i * SLOT, l->stage + i * *size, (size_t)(i < count - 1 ? *size : *last));
        if (count >= 4 && *size >= 1024) l->learn = *size;
    }
    return count;
}

static void flush(struct cell_loop *l) {
    int messages = 0;
    for (int q = 0; q < l->queued;) {
        int n = 1, most = l->gso ? RUN_BYTES / l->sizes[q] : 1;
        if (most > RUN) most = RUN;
        while (n < most && q + n < l->queued && l->sizes[q + n] == l->sizes[q] && l->to[q + n] == l->to[q]) n++;
        struct msghdr *h = &l->tx[messages].msg_hdr;
        *h = (struct msghdr){.msg_name = (void *)l->to[q], .msg_namelen = sizeof *l->to[q], .msg_iov = l->tx_iov + q,
                             .msg_iovlen = (size_t)n};
        if (n > 1) {
            h->msg_control = &l->tx_control[messages];
            h->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
            struct cmsghdr *c = CMSG_FIRSTHDR(h);
            c->cmsg_level = IPPROTO_UDP;
            c->cmsg_type = UDP_SEGMENT;
            c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            memcpy(CMSG_DATA(c), &l->sizes[q], sizeof(uint16_t));
        }
        messages++;
        q += n;
    }
    for (int done = 0; done < messages;) {
        int k = sendmmsg(l->fd, l->tx + done, (unsigned)(messages - done), MSG_DONTWAIT);
        if (k <= 0) {
            l->dropped += l->tx[done].msg_hdr.msg_iovlen;
            k = 1;
        }
        done += k;
    }
    l->cells_out += (uint64_t)l->queued;
    l->queued = 0;
}

int cell_loop_step(struct cell_loop *l) {
    int most = SLOTS / l->per, cells = 0;
    if (most > MESSAGES) most = MESSAGES;
    for (int m = 0; m < most; m++)
        l->rx[m].msg_hdr = (struct msghdr){.msg_name = &l->names[m], .msg_namelen = sizeof l->names[m],
                                           .msg_iov = l->rx_iov + m * l->per, .msg_iovlen = (size_t)l->per,
                                           .msg_control = l->gro ? &l->rx_control[m] : NULL,
                                           .msg_controllen = l->gro ? sizeof l->rx_control[m] : 0};
    int got = recvmmsg(l->fd, l->rx, (unsigned)most, MSG_DONTWAIT, NULL);
    for (int m = 0; m < got; m++) {
        int size, last, count = split(l, m, &size, &last);
        for (int i = 0; i < count; i++) packet(l, l->slots[m * l->per + i], i < count - 1 ? size : last);
        cells += count;
    }
    if (l->learn) lay(l, l->learn);
    l->learn = 0;
    l->cells_in += (uint64_t)cells;
    flush(l);
    return cells;
}

void cell_loop_counters(const struct cell_loop *l, uint64_t out[3]) {
    out[0] = l->cells_in;
    out[1] = l->cells_out;
    out[2] = l->dropped;
}
