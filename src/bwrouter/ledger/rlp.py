"""Recursive Length Prefix (Ethereum yellow paper, appendix B), strict: every item has exactly one accepted encoding."""


class RlpError(ValueError):
    """Bytes that are no canonical RLP."""


def encode(item):
    """The RLP of bytes, of a non-negative integer (big-endian, no leading zero) or of a list or tuple of items."""
    if isinstance(item, (list, tuple)):
        body = b"".join([encode(part) for part in item])
        return _prefix(len(body), 0xC0) + body
    if isinstance(item, int):
        item = to_bytes(item)
    item = bytes(item)
    if len(item) == 1 and item[0] < 0x80:
        return item
    return _prefix(len(item), 0x80) + item


def to_bytes(number):
    """`number` >= 0 as the shortest big-endian bytes; 0 is empty."""
    if number < 0:
        raise RlpError("RLP has no negative integers: %d" % number)
    size, rest = 0, number
    while rest:
        size += 1
        rest >>= 8
    return number.to_bytes(size, "big")


def decode(data):
    """Bytes or nested lists of bytes. Raises RlpError for anything but one whole canonical item."""
    data = bytes(data)
    item, end = _item(data, 0, len(data), 0)
    if end != len(data):
        raise RlpError("%d bytes follow the item" % (len(data) - end))
    return item


def _prefix(size, base):
    if size < 56:
        return bytes([base + size])
    length = to_bytes(size)
    return bytes([base + 55 + len(length)]) + length


def _item(data, start, limit, depth):
    if start >= limit:
        raise RlpError("an item is missing")
    if depth > 8:
        raise RlpError("nested too deep")
    first = data[start]
    if first < 0x80:
        return data[start : start + 1], start + 1
    base = 0xC0 if first >= 0xC0 else 0x80
    size = first - base
    start += 1
    if size > 55:
        width = size - 55
        if width > limit - start:
            raise RlpError("a length is cut off")
        if data[start] == 0:
            raise RlpError("a length has a leading zero")
        size = int.from_bytes(data[start : start + width], "big")
        start += width
        if size < 56:
            raise RlpError("a short item has a long length")
    end = start + size
    if end > limit:
        raise RlpError("an item is cut off")
    if base == 0x80:
        if size == 1 and data[start] < 0x80:
            raise RlpError("a single byte has a prefix")
        return data[start:end], end
    items = []
    while start < end:
        item, start = _item(data, start, end, depth + 1)
        items.append(item)
    return items, end
