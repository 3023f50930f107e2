"""Every size and code of docs/protocol.md, derived from each other so that they cannot disagree."""

VERSION = 1

# Section 1: packet on a link
CID = 8
COUNTER = 8
MAC = 8
HEADER = CID + COUNTER + MAC
TAG = 16
NONCE = 12
PACKET_MIN = HEADER + 1 + 16  # one layer with nothing but a command
PACKET_MAX = 1472
KEY = 32
LINK_KEY = 16

# Section 3: handshake
CREATE = 1
CREATED = 2
COOKIE = 3
REFUSED = 4
TAIL = 16
COOKIE_SIZE = 16
PAYLOAD1 = 60
PAYLOAD2 = 24
NOISE1 = 32 + PAYLOAD1 + TAG
NOISE2 = 32 + PAYLOAD2 + TAG
PAD_MAX = 255
CREATE_MIN = HEADER + 1 + COOKIE_SIZE + 2 + NOISE1 + TAIL
CREATED_MIN = HEADER + 1 + 2 + NOISE2 + TAIL
REFUSED_MIN = HEADER + 1 + 1 + TAIL
COOKIE_MIN = HEADER + 1 + COOKIE_SIZE + TAIL
CLOCK_SKEW = 600  # seconds
CREATE_MAX = CREATE_MIN + PAD_MAX

# Section 4: cells
COMMAND = 1
LAYER = COMMAND + TAG
COUNTER_LIMIT = 1 << 30
WINDOW_BITS = 1024
WINDOW = WINDOW_BITS - 16  # one word of the ring is always being cleared
HOPS_MAX = 5

RELAY = 0x01
DATA = 0x02
EXTEND = 0x03
EXTENDED = 0x04
PAY = 0x05
CREDIT = 0x06
PROVE = 0x07
PING = 0x08
PONG = 0x09
RESUME = 0x0A
DESTROY = 0x0B
PAD = 0x0C
ERROR = 0x0D
ANCHOR = 0x0E
INTRODUCE = 0x0F

E_SIGNATURE = 1
E_EXPIRED = 2
E_ADDRESS = 3
E_NO_ANSWER = 4
E_TABLE_FULL = 5
E_EXTENDED = 6
E_NO_EXIT = 7
E_TICKET = 8
E_UNPAID = 9
E_MALFORMED = 10
E_SHUTDOWN = 11
E_ANCHOR = 12
ERRORS = {
    E_SIGNATURE: "descriptor signature", E_EXPIRED: "descriptor expired", E_ADDRESS: "address refused",
    E_NO_ANSWER: "no answer", E_TABLE_FULL: "table full", E_EXTENDED: "already extended", E_NO_EXIT: "not an exit",
    E_TICKET: "ticket refused", E_UNPAID: "unpaid", E_MALFORMED: "malformed", E_SHUTDOWN: "shutting down",
    E_ANCHOR: "no anchor",
}  # fmt: skip


def overhead(hops):
    """Bytes that a cell adds to its payload on the first link, without UDP and IP."""
    return HEADER + hops * LAYER


# The largest inner packet: PPPoE's 1492 less IPv6 and UDP, less three hops, down to a multiple of 8.
INNER_MTU = (1492 - 40 - 8 - overhead(3)) & ~7

# Section 5: descriptor
DESCRIPTOR_RELAY_PART = 1 + 3 * KEY + 6 + 18 + 2 + 2 + 4 + 16 + 4 + 64
DESCRIPTOR = DESCRIPTOR_RELAY_PART + 1 + 8 + 64
WORKERS_MAX = 16  # ports of one descriptor: four bits of its flags
EXTEND_SIZE = DESCRIPTOR + LINK_KEY + NOISE1

# Section 6: payment
UNIT = 65536
GRACE_UNITS = 2
TICKET_UNITS = (1024, 64)
PAY_SHORT = 1 + 2 + 32
PAY_FULL = PAY_SHORT + 8 + 32 + 64 + 2
CREDIT_SIZE = 16
SERIALS_MAX = 32  # tickets of one circuit: the bits of a CREDIT

# Section 7: exit session
RESUME_FORWARD = 16 + 1 + 1 + 2
RESUME_BACKWARD = 16 + 4 + 16 + 2 + 2
INNER_V4 = b"\x0a\xd5"  # 10.213.0.0/16: session s of an exit has 10.213.(s >> 8).(s & 255); .0.1 is the exit itself
INNER_RANGE = 4096  # inner addresses of one worker, where there are several


def inner_range(worker, workers):
    """(first, last) number of the sessions of worker `worker` of `workers`; its addresses end in 0 and 1 are no
    session's."""
    if workers == 1:
        return 2, 65533
    return worker * INNER_RANGE + 2, (worker + 1) * INNER_RANGE - 3


INNER_V6 = b"\xfd\x62\x77\x72" + b"\0" * 10  # fd62:7772::/64, the last two bytes as in v4

# Section 10: bandwidth proofs
PROVE_START = 1
PROVE_ANSWER = 2
PROVE_CHUNK = 3
PROVE_CLOSE = 4
PROVE_BEGUN = 0
PROVE_BUSY = 1  # the household uses the line
PROVE_OCCUPIED = 2  # another proof is under way
PROVE_START_SIZE = 4 + 32
PROVE_ANSWER_SIZE = 8 + 16
PROVE_HEAD = 8
PROVE_PAYLOAD = INNER_MTU  # a chunk's cell is as long as an exit's full cell
PROVE_BYTES = PROVE_PAYLOAD - PROVE_HEAD
PROVE_STATEMENT = 4 + 16 + 24
PROVE_CLOSE_SIZE = PROVE_STATEMENT + 64
PROVE_LEAST_MS = 50
PROVE_MOST_MS = 30000
PROVE_SLOT_MS = 10
PROVE_CLOSING = 8  # proofs of a relay that wait for their signature

# Section 13: anchors
PLACE = 16 + 2  # an address (IPv4 mapped into IPv6) and a UDP port, as in a sockaddr_in6
ANCHOR_SIGNED = 32 + 32 + 4
ANCHOR_SIZE = ANCHOR_SIGNED + 64  # and, from a router that has been published, its descriptor
INTRODUCE_MAX = PLACE + CREATE_MAX
ANCHORS_MOST = 32  # routers that a relay is the anchor of
