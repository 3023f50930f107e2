#ifndef PUMP_H
#define PUMP_H
#include <netinet/in.h>
#include <stdint.h>

struct pump_result {
    uint64_t sent, received, lost; /* datagrams */
    uint64_t bad, other;           /* of the right size but not ours, of another size */
    double seconds;
};

int pump_init(void);
void pump_forward(uint8_t *a, uint32_t count, uint32_t size, uint32_t first, const uint8_t *key, uint64_t cid,
                  const uint8_t *obf);
void pump_backward(uint8_t *a, uint32_t count, uint32_t size, uint32_t first, uint32_t origin, const uint8_t *mac,
                   uint64_t cid, const uint8_t *obf);
int pump_send(int fd, const struct sockaddr_in6 *to, const uint8_t *a, uint32_t count, uint32_t size);
int pump_drain(int fd, uint32_t size, const uint8_t *obf, uint64_t cid, struct pump_result *r);
int pump_run(int fd, const struct sockaddr_in6 *to, const uint8_t *a, uint32_t count, uint32_t size, uint32_t run,
             uint32_t window, int sink, uint32_t out, const uint8_t *obf, uint64_t cid, struct pump_result *r);
int pump_aead(uint32_t size, uint32_t rounds, double *seal, double *open);
#endif
