"""LuCI's translations: a .po file as the .lmo that LuCI reads, in the form that luci-base's po2lmo writes.

The texts come first, each padded to four bytes; then an index of (hash of the key, plural forms, offset, length),
sorted by hash, all big-endian; then the index's offset. A key is msgid, `msgctxt \\1 msgid`, or `msgid \\2 number` for
a plural form.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

_WORD = re.compile(r'^(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d+)\])? "(.*)"\s*$')
_MORE = re.compile(r'^"(.*)"\s*$')


@dataclass
class Message:
    context: str | None = None
    id: str = ""
    plural: str = ""
    texts: dict[int, str] = field(default_factory=dict)


def messages(po: str) -> list[Message]:
    """The messages of a .po file, its header (with an empty id) among them."""
    found: list[Message] = []
    now, last = Message(), ("", 0)
    for line in po.splitlines():
        word, more = _WORD.match(line), _MORE.match(line)
        if word:
            kind, number, text = word[1], int(word[2] or 0), _plain(word[3])
            if kind in ("msgctxt", "msgid") and now.texts:
                now = Message()
            if kind == "msgid":
                found.append(now)
            last = kind, number
        elif more:
            text = _plain(more[1])
        else:
            continue
        match last:
            case "msgctxt", _:
                now.context = (now.context or "") + text
            case "msgid", _:
                now.id += text
            case "msgid_plural", _:
                now.plural += text
            case "msgstr", number:
                now.texts[number] = now.texts.get(number, "") + text
    return found


def lmo(po: str) -> bytes:
    """The .lmo of a .po file's text; empty when nothing is translated."""
    texts, index = b"", []
    for message in messages(po):
        if not message.id:
            rule = re.search(r"Plural-Forms: (.*?)\\n", message.texts.get(0, ""), re.I)
            pairs = [(0, 0, rule[1])] if rule else []
        else:
            pairs = _pairs(message)
        for key, forms, text in pairs:
            raw = text.encode()
            index.append((key, forms, len(texts), len(raw)))
            texts += raw + bytes(-len(raw) % 4)
    if not texts:
        return b""
    index.sort(key=lambda entry: entry[0])
    return texts + b"".join(struct.pack(">4I", *entry) for entry in index) + struct.pack(">I", len(texts))


def _pairs(message: Message) -> list[tuple[int, int, str]]:
    """(hash of the key, number of forms, text) of each translated form that is not the key itself."""
    found = []
    for number, text in sorted(message.texts.items()):
        key = (message.context + "\1" if message.context else "") + message.id
        if message.plural:
            key += f"\2{number}"
        if text and sfh(key.encode()) != sfh(text.encode()):
            found.append((sfh(key.encode()), max(message.texts) + 1, text))
    return found


def _plain(text: str) -> str:
    # po2lmo takes off the backslash of these two alone; LuCI's JavaScript knows what to do with the rest.
    return re.sub(r'\\(["\\])', r"\1", text)


def sfh(data: bytes) -> int:
    """Paul Hsieh's SuperFastHash, seeded with the length; 32 bits."""
    mask = 0xFFFFFFFF
    if not data:
        return 0
    value = len(data)
    whole = len(data) & ~3
    for low, high in struct.iter_unpack("<2H", data[:whole]):
        value = (value + low) & mask
        value = ((value << 16) ^ (high << 11) ^ value) & mask
        value = (value + (value >> 11)) & mask
    rest = data[whole:]
    if len(rest) == 3:
        value = (value + struct.unpack_from("<H", rest)[0]) & mask
        value ^= (value << 16) & mask
        value ^= (struct.unpack_from("<b", rest, 2)[0] << 18) & mask
        value = (value + (value >> 11)) & mask
    elif len(rest) == 2:
        value = (value + struct.unpack_from("<H", rest)[0]) & mask
        value ^= (value << 11) & mask
        value = (value + (value >> 17)) & mask
    elif len(rest) == 1:
        value = (value + struct.unpack_from("<b", rest)[0]) & mask
        value ^= (value << 10) & mask
        value = (value + (value >> 1)) & mask
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value ^= (value << left) & mask
        value = (value + (value >> right)) & mask
    return value
