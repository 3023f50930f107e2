"""Datagrams of PCP (RFC 6887) and NAT-PMP (RFC 6886), by which a modem is asked to forward a UDP port. No I/O."""

import struct

PORT = 5351
UDP = 17
_MAP = 1
_MAPPED4 = b"\0" * 10 + b"\xff\xff"
_NAT_PMP_UDP = 1
# RFC 6887, section 7.4, and RFC 6886, section 3.5
_PCP = {2: "not allowed", 3: "malformed", 7: "no network", 8: "no resources", 10: "quota", 11: "no such port"}
_PMP = {1: "wrong version", 2: "not allowed", 3: "no network", 4: "no resources", 5: "not supported"}


class Refused(ValueError):
    """The modem answered, and its answer is no; the text has its reason."""


def pcp_map(client, nonce, internal, external, seconds):
    """A MAP request for UDP port `internal` of `client` (4 bytes), preferably as `external`.

    `nonce`: 12 bytes, the same for each renewal. `seconds` 0 deletes the mapping.
    """
    head = struct.pack(">BBHI", 2, _MAP, 0, seconds) + _MAPPED4 + client
    body = nonce + struct.pack(">BBHHH", UDP, 0, 0, internal, external) + _MAPPED4 + bytes(4)
    return head + body


def pcp_answer(data, nonce, internal):
    """(seconds, external port, external address of 4 bytes), None for another's. Raises Refused."""
    if len(data) >= 4 and data[0] == 0:
        raise Refused("it speaks NAT-PMP only")
    if len(data) < 24 or data[0] != 2 or data[1] != 0x80 | _MAP:
        return None
    if data[3]:
        raise Refused(_PCP.get(data[3], "code %d" % data[3]))
    if len(data) < 60 or data[24:36] != nonce or data[36] != UDP:
        return None
    seconds = struct.unpack_from(">I", data, 4)[0]
    port, external = struct.unpack_from(">HH", data, 40)
    if port != internal or data[44:56] != _MAPPED4:
        return None
    return seconds, external, data[56:60]


def pmp_address():
    """A request for the external address."""
    return b"\0\0"


def pmp_map(internal, external, seconds):
    """A request to forward UDP port `external` to our `internal`. `seconds` 0 deletes the mapping."""
    return struct.pack(">BBHHHI", 0, _NAT_PMP_UDP, 0, internal, external if seconds else 0, seconds)


def pmp_answer(data, opcode):
    """What follows the head of an answer to `opcode` (0: the address), None for another's. Raises Refused."""
    if len(data) < 8 or data[0] or data[1] != 0x80 | opcode:
        return None
    code = struct.unpack_from(">H", data, 2)[0]
    if code:
        raise Refused(_PMP.get(code, "code %d" % code))
    size = 12 if opcode == 0 else 16
    return data[8:size] if len(data) >= size else None


def pmp_mapping(body, internal):
    """(seconds, external port) of a mapping's answer, None for another port's."""
    port, external, seconds = struct.unpack(">HHI", body)
    return (seconds, external) if port == internal else None
