/* Traffic for the benchmarks: makes cells ahead of time, sends them, receives what comes out, times bare AEAD.
 * Called from Python through ctypes or MicroPython's ffi. All functions return 0 or a count; -1 with errno on failure. */
#define _GNU_SOURCE
#include "pump.h"
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { HEADER = 24, TAG = 16, RELAY = 1, MESSAGES = 32 };

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* `count` forward cells of `size` bytes, end to end at `a`, counters from `first`: one true layer under `key`, whose
 * plaintext ends in RELAY; what is in it is for the next hop and means nothing to this one. */
void pump_forward(uint8_t *a, uint32_t count, uint32_t size, uint32_t first, const uint8_t *key, uint64_t cid,
                  const uint8_t *obf) {
    for (uint32_t i = 0; i < count; i++, a += size) {
        uint8_t nonce[12] = {0}, ad[9] = {0};
        uint64_t number = first + i;
        memcpy(nonce + 4, &number, 8);
        memcpy(ad, &number, 8);
        memset(a + HEADER, 0, size - HEADER - TAG);
        a[size - TAG - 1] = RELAY;
        /* What the next hop would open must look random: it holds the next mask nonce. */
        crypto_stream_chacha20_ietf_xor(a + HEADER, a + HEADER, size - HEADER - TAG - 1, nonce, obf);
        crypto_aead_chacha20poly1305_ietf_encrypt(a + HEADER, NULL, a + HEADER, size - HEADER - TAG, ad, 9, NULL, nonce, key);
        memcpy(a, &cid, 8);
        memcpy(a + 8, &number, 8);
        memset(a + 16, 0, 8);
        crypto_stream_chacha20_ietf_xor(a, a, HEADER, a + size - 12, obf);
    }
}

/* The same backward: `size` bytes as the next hop sends them, of origin `origin`, under its link MAC key. */
void pump_backward(uint8_t *a, uint32_t count, uint32_t size, uint32_t first, uint32_t origin, const uint8_t *mac,
                   uint64_t cid, const uint8_t *obf) {
    for (uint32_t i = 0; i < count; i++, a += size) {
        uint64_t number = (first + i) | (uint64_t)origin << 61;
        uint8_t nonce[12] = {0};
        memcpy(nonce, &number, 8);
        memcpy(a, &cid, 8);
        memcpy(a + 8, &number, 8);
        crypto_shorthash(a + 16, a, 16, mac);
        crypto_stream_chacha20_ietf(a + HEADER, size - HEADER, nonce, obf);
        crypto_stream_chacha20_ietf_xor(a, a, HEADER, a + size - 12, obf);
    }
}

/* Sends without waiting up to `count` datagrams of `size` bytes from `a` as one message. Returns how many went. */
int pump_send(int fd, const struct sockaddr_in6 *to, const uint8_t *a, uint32_t count, uint32_t size) {
    struct iovec iov = {(void *)a, (size_t)count * size};
    struct msghdr h = {.msg_name = (void *)to, .msg_namelen = sizeof *to, .msg_iov = &iov, .msg_iovlen = 1};
    union {
        char room[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control;
    if (count > 1) {
        memset(&control, 0, sizeof control);
        h.msg_control = &control;
        h.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        uint16_t segment = (uint16_t)size;
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
    }
    if (sendmsg(fd, &h, MSG_DONTWAIT) < 0) return errno == EAGAIN || errno == ENOBUFS ? 0 : -1;
    return (int)count;
}

/* Takes what waits at a sink. Datagrams of `size` bytes count; with `obf`, those whose header says `cid` under it. */
int pump_drain(int fd, uint32_t size, const uint8_t *obf, uint64_t cid, struct pump_result *r) {
    static uint8_t buffers[MESSAGES][65536];
    static struct mmsghdr messages[MESSAGES];
    static struct iovec iov[MESSAGES];
    static char controls[MESSAGES][64] __attribute__((aligned(8)));
    for (int m = 0; m < MESSAGES; m++) {
        iov[m] = (struct iovec){buffers[m], sizeof buffers[m]};
        messages[m].msg_hdr = (struct msghdr){.msg_iov = &iov[m], .msg_iovlen = 1, .msg_control = controls[m],
                                              .msg_controllen = sizeof controls[m]};
    }
    int got = recvmmsg(fd, messages, MESSAGES, MSG_DONTWAIT, NULL), fresh = 0;
    for (int m = 0; m < got; m++) {
        uint32_t total = messages[m].msg_len, each = total;
        struct cmsghdr *c = messages[m].msg_hdr.msg_controllen ? CMSG_FIRSTHDR(&messages[m].msg_hdr) : NULL;
        if (c && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) memcpy(&each, CMSG_DATA(c), sizeof each);
        for (uint32_t at = 0; at < total; at += each) {
            uint32_t n = total - at < each ? total - at : each;
            uint8_t *a = buffers[m] + at, head[HEADER];
            if (n != size) {
                r->other++;
                continue;
            }
            if (obf) {
                crypto_stream_chacha20_ietf_xor(head, a, HEADER, a + n - 12, obf);
                if (memcmp(head, &cid, 8)) {
                    r->bad++;
                    continue;
                }
            }
            fresh++;
        }
    }
    r->received += (uint64_t)fresh;
    return fresh;
}

/* Sends `count` datagrams of `size` bytes from `a`, `run` a message, never more than `window` under way, and counts what
 * arrives at `sink` with `out` bytes. What is silent for 200 ms is lost. */
int pump_run(int fd, const struct sockaddr_in6 *to, const uint8_t *a, uint32_t count, uint32_t size, uint32_t run,
             uint32_t window, int sink, uint32_t out, const uint8_t *obf, uint64_t cid, struct pump_result *r) {
    double start = seconds(CLOCK_MONOTONIC), heard = start;
    uint64_t base = r->received + r->lost, sent = 0;
    while (r->received + r->lost - base < count) {
        if (r->received + r->lost - base > sent) r->lost = sent + base - r->received; /* it was late, not lost */
        uint64_t under_way = sent - (r->received + r->lost - base);
        if (sent < count && under_way + run <= window) {
            uint32_t n = count - sent < run ? (uint32_t)(count - sent) : run;
            int k = pump_send(fd, to, a + sent * size, n, size);
            if (k < 0) return -1;
            sent += (uint64_t)k;
            heard = seconds(CLOCK_MONOTONIC);
        }
        if (pump_drain(sink, out, obf, cid, r)) {
            heard = seconds(CLOCK_MONOTONIC);
        } else if (sent == count || under_way + run > window) {
            struct pollfd wait = {.fd = sink, .events = POLLIN};
            poll(&wait, 1, 20);
            if (seconds(CLOCK_MONOTONIC) - heard > 0.2) r->lost += sent - (r->received + r->lost - base);
        }
    }
    r->sent += sent;
    r->seconds += seconds(CLOCK_MONOTONIC) - start;
    return 0;
}

/* CPU nanoseconds of one AEAD call on a cell of `size` bytes whose layer is sealed or opened, in place, as a relay does
 * it: the mean over `rounds` turns through 128 slots. Sets seal and open. */
int pump_aead(uint32_t size, uint32_t rounds, double *seal, double *open) {
    static uint8_t slots[128][2048];
    uint8_t key[32], nonce[12] = {0}, ad[9] = {0};
    if (size > sizeof slots[0]) return -1;
    randombytes_buf(key, sizeof key);
    double sealing = 0, opening = 0;
    for (uint32_t r = 0; r < rounds; r++) {
        double t = seconds(CLOCK_THREAD_CPUTIME_ID);
        for (int i = 0; i < 128; i++)
            crypto_aead_chacha20poly1305_ietf_encrypt(slots[i] + HEADER, NULL, slots[i] + HEADER, size - HEADER - TAG, ad,
                                                      9, NULL, nonce, key);
        double u = seconds(CLOCK_THREAD_CPUTIME_ID);
        for (int i = 0; i < 128; i++)
            if (crypto_aead_chacha20poly1305_ietf_decrypt(slots[i] + HEADER, NULL, NULL, slots[i] + HEADER, size - HEADER, ad,
                                                          9, nonce, key))
                return -1;
        opening += seconds(CLOCK_THREAD_CPUTIME_ID) - u;
        sealing += u - t;
    }
    *seal = sealing * 1e9 / rounds / 128;
    *open = opening * 1e9 / rounds / 128;
    return 0;
}

int pump_init(void) { return sodium_init() < 0 ? -1 : 0; }
