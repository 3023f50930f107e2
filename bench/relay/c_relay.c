/* The C loop as a process: c_relay PORT < preset. Runs until it is killed. */
#include "cell_loop.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    struct preset preset;
    if (argc != 2 || fread(&preset, sizeof preset, 1, stdin) != 1) {
        fprintf(stderr, "usage: c_relay PORT < preset (%zu bytes)\n", sizeof preset);
        return 2;
    }
    int fd = socket(AF_INET6, SOCK_DGRAM, 0), off = 0, room = 425984;
    struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(argv[1]))};
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (bind(fd, (struct sockaddr *)&own, sizeof own)) {
        perror("bind");
        return 1;
    }
    struct cell_loop *loop = cell_loop_new(fd, &preset, 1);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    puts("ready");
    fflush(stdout);
    while (poll(&wait, 1, -1) >= 0) cell_loop_step(loop);
    return 1;
}
