"""Runs in the guest, under the router's own MicroPython: cells through the real relay and through the C loop.

The guest's clock counts instructions (QEMU's -icount): what stands between two readings is a cost that repeats,
whatever the machine under it does. Prints one JSON object.

    inside.py BATCHES NANOSECONDS_PER_INSTRUCTION
"""
# mypy: ignore-errors
# MicroPython has no typing.

import json
import os
import struct
import sys

from bwrouter.platform import arena, config, ffi, mmsg, net, process
from bwrouter.relay import circuit as C
from bwrouter.relay.relay import Relay
from bwrouter.wire import cell
from bwrouter.wire import sizes as S

PUMP = ffi.load(("/srv/libpump.so",))
FORWARD = ffi.func(PUMP, "v", "pump_forward", "PIIIPQP")
BACKWARD = ffi.func(PUMP, "v", "pump_backward", "PIIIIPQP")
SEND = ffi.func(PUMP, "i", "pump_send", "iPPII")
NEW = ffi.func(PUMP, "P", "cell_loop_new", "iPi")
STEP = ffi.func(PUMP, "i", "cell_loop_step", "P")
AEAD = ffi.func(PUMP, "i", "pump_aead", "IIPP")
CLOCK = ffi.func(ffi.LIBC, "i", "clock_gettime", "iP")

INNER = S.INNER_MTU
FULL = INNER + S.overhead(3)  # of three hops, on the client's link
LESS = FULL - S.LAYER  # and on the next
# Cells of one system call of the sender, of one batch that waits for the hop, and batches before the clock counts: the
# relay learns the size of the cells, and whether they come in runs.
RUNS = (("", 32, 64, 4), ("_single", 1, 18, 20))
ORIGIN = 3
NEXT_ORIGIN = 5

_now = bytearray(16)
_at = ffi.addr(_now)


def nanoseconds():
    CLOCK(1, _at)
    seconds, rest = struct.unpack("<qi", _now[:12])
    return seconds * 1000000000 + rest


class Neighbours:
    """The two ends of the hop's links: sockets, keys, ids, and cells made ahead of time."""

    def __init__(self, hop_fd):
        self.hop = net.pack_addr("::1", net.local_port(hop_fd))
        self.prev, self.next = net.udp_socket(0, "::1"), net.udp_socket(0, "::1")
        for fd in (hop_fd, self.prev, self.next):
            net.buffers(fd, 425984, 425984)
        keys = [os.urandom(32) for _ in range(5)]
        self.forward, self.backward, self.prev_obf, self.next_obf, self.obf = keys
        self.prev_mac, self.next_mac = os.urandom(16), os.urandom(16)
        self.own, self.back, self.to_prev, self.to_next = [cell.make_cid(os.urandom(8)) for _ in range(4)]
        self.prev_name = net.pack_addr("::1", net.local_port(self.prev))
        self.next_name = net.pack_addr("::1", net.local_port(self.next))
        self.numbers = [0, 0]
        self.cells = arena.take(64 * FULL)
        self.sinks = (mmsg.Receiver(self.next, 256), mmsg.Receiver(self.prev, 256))

    def preset(self):
        """struct preset of bench/relay/cell_loop.h."""
        return (
            self.forward + self.backward + self.prev_obf + self.next_obf + self.obf + self.prev_mac + self.next_mac
            + self.prev_name + self.next_name + self.own + self.back + self.to_prev + self.to_next
            + struct.pack("<QQ", 1 << 62, ORIGIN)
        )  # fmt: skip

    def enter(self, table):
        """The same circuit in a relay's table."""
        c = table.add(ORIGIN)
        for at, value in ((C.K_F, self.forward), (C.K_B, self.backward), (C.P_OBF, self.prev_obf),
                          (C.N_OBF, self.next_obf), (C.N_MAC_B, self.next_mac), (C.P_MAC_B, self.prev_mac),
                          (C.P_ADDR, self.prev_name), (C.N_ADDR, self.next_name)):  # fmt: skip
            ffi.poke(c.k + at, value)
        C.set_prev(c, self.to_prev)
        C.set_next(c, self.to_next)
        self.own = ffi.peek(c.k + C.OWN_CID, 8)
        self.back = table.new_cid(table.backward, c, C.NEXT_CID)
        c.next = C.NEXT_READY
        return c

    def send(self, backward, count, run):
        """`count` fresh cells into the hop's socket, `run` of them a system call."""
        number = self.numbers[backward]
        self.numbers[backward] = number + count
        if backward:
            cid = int.from_bytes(self.back, "little")
            BACKWARD(self.cells, count, LESS, number, NEXT_ORIGIN, self.next_mac, cid, self.obf)
        else:
            FORWARD(self.cells, count, FULL, number, self.forward, int.from_bytes(self.own, "little"), self.obf)
        size = LESS if backward else FULL
        for i in range(0, count, run):
            if SEND(self.next if backward else self.prev, self.hop, self.cells + i * size, run, size) != run:
                raise OSError("the neighbour could not send")

    def arrived(self, backward):
        """How many cells of the right size came out of the hop."""
        sink = self.sinks[backward]
        size = FULL if backward else LESS
        count = 0
        while True:
            messages = sink.receive(64)
            if not messages:
                return count
            for m in range(messages):
                n = sink.cells(m)
                if sink.size == size and sink.last == size:
                    count += n
            sink.done()


class CLoop:
    """bench/relay/cell_loop.c."""

    def __init__(self):
        self.fd = net.udp_socket(0, "::")
        self.ends = Neighbours(self.fd)
        self.loop = NEW(self.fd, self.ends.preset(), 1)

    def prepare(self):
        pass

    def work(self, count):
        while count > 0:
            count -= STEP(self.loop)


class RouterRelay:
    """The relay as `bwrouter relay` runs it: its own turns, with poll, pacer, queue and tick."""

    def __init__(self):
        os.mkdir("/tmp/run")
        given = {"listen_port": 51900, "run_dir": "/tmp/run", "max_circuits": 256, "floor_kbps": 64}
        self.relay = Relay(config.settings(given), "bench")
        self.relay.signals = process.Signals()
        self.ends = Neighbours(self.relay.fd)
        hello = {"static": os.urandom(32).hex(), "obf": self.ends.obf.hex(), "gateway_keys": []}
        self.relay.on_hello(hello, -1)
        self.circuit = self.ends.enter(self.relay.table)

    def prepare(self):
        self.circuit.left = 1 << 29
        self.relay.on_rate({"kbps": 10000000}, -1)
        self.relay.pacer.tokens = 1 << 20

    def work(self, count):
        loop, turn = self.relay.loop, self.relay.turn
        target = (loop.cells_in + count) & 0x3FFFFFFF
        while loop.cells_in != target:
            turn(0)


def measure(subject, backward, run, batch, warm, batches):
    """Median nanoseconds of a cell. Raises OSError when a cell was lost."""
    ends = subject.ends
    found = []
    for turn in range(batches + warm):
        subject.prepare()
        ends.send(backward, batch, run)
        before = nanoseconds()
        subject.work(batch)
        used = nanoseconds() - before
        arrived = ends.arrived(backward)
        if arrived != batch:
            raise OSError(f"of {batch} cells {arrived} arrived")
        if turn >= warm:
            found.append(used)
    found.sort()
    return found[len(found) // 2] / batch


def main(batches, per_instruction):
    out = {}
    both = arena.take(4096)
    if AEAD(FULL, 2, both, both + 8):
        raise OSError("bare AEAD")
    seal, opening = struct.unpack("dd", ffi.peek(both, 16))
    out["aead_insns_per_cell"] = opening / per_instruction
    out["aead_seal_insns_per_cell"] = seal / per_instruction
    for name, make in (("c_loop", CLoop), ("relay", RouterRelay)):
        subject = make()
        for suffix, run, batch, warm in RUNS:
            for backward in (0, 1):
                key = name + ("_backward" if backward else "") + suffix
                out[key + "_insns_per_cell"] = measure(subject, backward, run, batch, warm, batches) / per_instruction
    print(json.dumps(out))


main(int(sys.argv[1]), int(sys.argv[2]))
