"""LuCI's translations: the bytes that luci-base's own po2lmo gave for the same text."""

from __future__ import annotations

import importlib.util
import struct
from types import ModuleType

import pytest

from tests.package.router import ROOT

PO = r'''
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

msgctxt "verb"
msgid "share"
msgstr "teilen"

msgid "%d hour"
msgid_plural "%d hours"
msgstr[0] "%d Stunde"
msgstr[1] "%d Stunden"

# a comment
msgid "with \"quotes\" and \\ back\n"
"more"
msgstr "mit \"Anführung\" und \\ zurück\n"
"mehr"

msgid "same"
msgstr "same"

msgid "none"
msgstr ""

msgid "a"
msgstr "ä"
'''
# of po2lmo (luci-base, 2026), for PO
EXPECTED = (
    "6e706c7572616c733d323b20706c7572616c3d286e20213d2031293b7465696c656e00002564205374756e64650000002564205374756e64656e0000"
    "6d69742022416e66c3bc6872756e672220756e64205c207a7572c3bc636b5c6e6d656872c3a400000000000000000000000000000000001c115ea782"
    "0000000100000060000000023070cf22000000010000001c000000064d24d52b00000002000000300000000a576494c0000000010000003c00000024"
    "7bce097c00000002000000240000000900000064"
)


@pytest.fixture(scope="module")
def lmo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lmo", ROOT / "package/lmo.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["lmo"] = module
    spec.loader.exec_module(module)
    return module


def test_the_same_bytes_as_po2lmo(lmo: ModuleType) -> None:
    assert lmo.lmo(PO).hex() == EXPECTED


def test_nothing_translated_is_nothing(lmo: ModuleType) -> None:
    assert lmo.lmo('msgid "a"\nmsgstr ""\n') == b"" == lmo.lmo("")


def test_luci_finds_each_text(lmo: ModuleType) -> None:
    """The look-up of a reader: bisect the index by the key's hash."""
    raw = lmo.lmo(PO)
    start = struct.unpack(">I", raw[-4:])[0]
    index = {key: (at, size) for key, _, at, size in struct.iter_unpack(">4I", raw[start:-4])}
    assert list(index) == sorted(index)
    for key, text in (("verb\1share", "teilen"), ("%d hour\0021", "%d Stunden"), ("a", "ä")):
        at, size = index[lmo.sfh(key.encode())]
        assert raw[at : at + size].decode() == text
