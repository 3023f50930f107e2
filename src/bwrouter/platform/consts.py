"""Numbers of the Linux ABI that differ by CPU. MIPS kept IRIX's; everybody else shares asm-generic's."""

import socket

# Compiled into the interpreter on both runtimes, so it holds under qemu-user and in a jail without /proc.
MIPS = socket.SOCK_DGRAM == 1

AF_UNIX = 1
AF_INET = 2
AF_INET6 = 10
SOCK_STREAM = 2 if MIPS else 1
SOCK_DGRAM = 1 if MIPS else 2
SOL_SOCKET = 0xFFFF if MIPS else 1
SO_REUSEADDR = 0x0004 if MIPS else 2
SO_SNDBUF = 0x1001 if MIPS else 7
SO_RCVBUF = 0x1002 if MIPS else 8
SO_REUSEPORT = 0x0200 if MIPS else 15
SO_RCVBUFFORCE = 33
SCM_RIGHTS = 1
IPPROTO_IP = 0
IPPROTO_IPV6 = 41
IP_TOS = 1
IP_MTU_DISCOVER = 10
IP_PMTUDISC_PROBE = 3
IPV6_V6ONLY = 26
IPV6_TCLASS = 67
IPV6_MTU_DISCOVER = 23
MSG_DONTWAIT = 0x40
MAP_PRIVATE = 2
MAP_ANONYMOUS = 0x800 if MIPS else 0x20
O_RDWR = 2
O_NONBLOCK = 0x80 if MIPS else 0x800
O_CLOEXEC = 0x80000
F_SETFL = 4
EAGAIN = 11
EINVAL = 22
EIO = 5
EOPNOTSUPP = 122 if MIPS else 95
TUNSETIFF = 0x800454CA if MIPS else 0x400454CA
IFF_TUN_NO_PI = 0x1001
IFF_NAPI = 0x10
SIOCOUTQ = 0x7472 if MIPS else 0x5411
POLLIN = 1
