"""The operating system behind its narrow interface, on the runtime that runs this."""

import binascii
import json
import struct

from harness import raises

from bwrouter.platform import arena, clock, config, ffi, files, http, mmsg, net, sodium, strict

ALLOWED = ("sodium_init", "crypto_stream_chacha20_ietf", "crypto_shorthash", "crypto_aead_chacha20poly1305_ietf",
           "crypto_scalarmult_curve25519", "crypto_sign_ed25519", "crypto_generichash", "crypto_auth_hmacsha256",
           "crypto_hash_sha256", "crypto_pwhash")  # fmt: skip


def test_symbols_are_within_the_minimal_libsodium():
    for name in sodium.SYMBOLS:
        assert name.startswith(ALLOWED), name
    raises(OSError, ffi.func, sodium.LIB, "i", "no_such_symbol_anywhere", "")


def test_rfc_8439():
    key = bytes(range(0x80, 0xA0))
    nonce = bytes([7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47])
    ad = bytes([0x50, 0x51, 0x52, 0x53, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7])
    text = (b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
            b"sunscreen would be it.")  # fmt: skip
    sealed = sodium.aead_seal(key, nonce, ad, text)
    assert sealed[:8] == b"\xd3\x1a\x8d\x34\x64\x8e\x60\xdb"
    assert sealed[-16:] == b"\x1a\xe1\x0b\x59\x4f\x09\xe2\x6a\x7e\x90\x2e\xcb\xd0\x60\x06\x91"
    assert sodium.aead_open(key, nonce, ad, sealed) == text
    for at in (0, 50, len(sealed) - 1):
        bad = bytearray(sealed)
        bad[at] ^= 1
        raises(sodium.CryptoError, sodium.aead_open, key, nonce, ad, bytes(bad))
    raises(sodium.CryptoError, sodium.aead_open, key, nonce, ad, b"short")
    raises(ValueError, sodium.aead_seal, key[:31], nonce, ad, text)


def test_siphash_and_x25519_vectors():
    # SipHash-2-4 paper, appendix A; RFC 7748, section 6.1
    assert sodium.shorthash(bytes(range(16)), bytes(range(15))) == b"\xe5\x45\xbe\x49\x61\xca\x29\xa1"
    a = binascii.unhexlify("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    assert sodium.x25519_public(a)[:8] == b"\x85\x20\xf0\x09\x89\x30\xa7\x54"
    raises(sodium.CryptoError, sodium.x25519, a, bytes(32))


def test_arena_is_low_and_views_agree():
    a = arena.take(5000)
    assert 0 < a and a + 8192 <= 1 << 30
    h = ffi.le16(a, 8)
    h[0] = 0x1234
    h[3] = 0xBEEF
    assert ffi.peek(a, 8) == b"\x34\x12\0\0\0\0\xef\xbe"
    ffi.poke(a, struct.pack("<H", 777))
    assert h[0] == 777
    b = ffi.u8(a, 16)
    b[15] = 9
    assert h[7] == 0x0900
    w = ffi.u32(a + 16, 2)
    w[1] = 5
    assert ffi.peek(a + 16, 8) == struct.pack("II", 0, 5)
    p = arena.Pool(64, 3)
    taken = [p.take(), p.take(), p.take()]
    assert p.take() == 0 and taken[1] - taken[0] == 64
    ffi.poke(taken[1], b"secret")
    p.give(taken[1])
    assert p.take() == taken[1] and ffi.peek(taken[1], 6) == bytes(6)


def exchange(gro, gso, sizes):
    """Send datagrams of `sizes`, all in one batch; returns what came, in order, and how many messages it took."""
    a = net.udp_socket(0, "::1")
    b = net.udp_socket(0, "::1")
    try:
        tx = mmsg.Sender(a, 64, gso=gso)
        rx = mmsg.Receiver(b, 256, gro=gro)
        base = arena.take(64 * mmsg.SLOT)
        name = arena.take(64)
        ffi.poke(name, net.pack_addr("::1", net.local_port(b)))
        for i in range(len(sizes)):
            ffi.poke(base + i * mmsg.SLOT, bytes([i]) * sizes[i])
            tx.put(base + i * mmsg.SLOT, sizes[i], name)
        tx.flush()
        assert tx.refused == 0
        poller = net.Poller([a, b])
        out = []
        taken = 0
        while poller.wait(100):
            assert poller.ready(1) and not poller.ready(0)
            messages = rx.receive(64)
            taken += messages
            for m in range(messages):
                count = rx.cells(m)
                size = rx.size
                last = rx.last
                for j in range(count):
                    out.append(ffi.peek(rx.base + (m * rx.per + j) * mmsg.SLOT, size if j < count - 1 else last))
                assert net.unpack_addr(ffi.peek(rx.names + m * mmsg.NAME, 28)) == (net.ip_bytes("::1"), net.local_port(a))
            rx.done()
        return out, taken
    finally:
        net.close(a)
        net.close(b)


def test_batches_over_loopback():
    for gso in (False, True):
        for gro in (False, True):
            for sizes in ([100, 101, 102], [1443] * 30, [50] * 40, [1443] * 20 + [700] + [90] * 10, [1472] * 3, [41]):
                out, taken = exchange(gro, gso, sizes)
                assert [len(x) for x in out] == sizes, (gso, gro, sizes)
                for i in range(len(out)):
                    assert out[i] == bytes([i]) * sizes[i], (gso, gro, i)


def test_a_run_is_one_message_where_the_kernel_can():
    out, taken = exchange(True, True, [1443] * 30)
    assert len(out) == 30 and taken == 1
    out, taken = exchange(False, True, [1443] * 30)
    assert len(out) == 30 and taken == 30


def test_a_taken_port_is_an_error():
    a = net.udp_socket(0, "::1")
    try:
        raises(net.NetError, net.udp_socket, net.local_port(a), "::1")
    finally:
        net.close(a)


def test_addresses_in_text():
    assert net.unpack_addr(net.pack_addr("198.18.0.9", 51900)) == (b"\xc6\x12\x00\x09", 51900)
    assert net.ip_text(net.ip_bytes("2001:2::1")) == "2001:2::1"
    for bad in ("", "1.2.3", "1.2.3.4.5", "::g", "host"):
        raises(ValueError, net.ip_bytes, bad)


def test_unix_datagrams_carry_descriptors():
    import os

    folder = "/tmp/bwrouter-test-%d" % (ffi.addr(bytearray(1)) & 0xFFFFFF)
    files.make_dirs(folder)
    a = net.UnixDatagram(folder + "/a")
    b = net.UnixDatagram(folder + "/b")
    try:
        assert b.recv() == (None, -1)
        assert a.send(folder + "/b", b"plain") and b.recv() == (b"plain", -1)
        assert a.send(folder + "/b", b"with fd", a.fd)
        data, fd = b.recv()
        assert data == b"with fd" and fd >= 0 and fd != a.fd
        net.close(fd)
        assert not a.send(folder + "/nobody", b"x")
    finally:
        a.close()
        b.close()
        os.rmdir(folder)


def test_files():
    import os

    path = "/tmp/bwrouter-test-file-%d" % (ffi.addr(bytearray(1)) & 0xFFFFFF)
    assert files.read(path) is None
    files.write_atomic(path, b"one")
    files.write_atomic(path, b"two")
    assert files.read(path) == b"two" and os.stat(path)[0] & 0o777 == 0o600
    os.remove(path)
    raises(OSError, files.write_atomic, "/no/such/folder/file", b"")


def test_settings():
    s = config.settings({"listen_port": 1000, "exit": True})
    assert s["listen_port"] == 1000 and s["exit"] is True and s["region"] == 1
    for name, value in (("listen_port", 0), ("listen_port", 70000), ("listen_port", "x"), ("listen_port", True),
                        ("exit", 1), ("nonsense", 1), ("log_level", "loud"), ("gateways", {})):  # fmt: skip
        e = raises(config.ConfigError, config.settings, {name: value})
        assert name in str(e) and repr(value) in str(e) or name == "nonsense"
    assert "65535" in str(raises(config.ConfigError, config.settings, {"listen_port": 0}))
    raises(config.ConfigError, config.load, "/no/such/file")


def test_json_that_was_cut_short():
    for text in ('{"a": 1}', ' {"a": {"b": [1, {}]}} \n', "[]", "[[1], {}]", "null", '"x"', "7"):
        assert strict.loads(text) == json.loads(text), text
    for text in ('{"a": 1', '{"a": ', '{"a": 1, ', '{"a": {"b": 1}', '{"a": [1]', "[1, 2", "[[1]", "{", "[", "", "x", "{} {}"):
        raises(ValueError, strict.loads, text)


def test_reasons():
    assert ffi.reason(2) == "No such file or directory, errno 2"


def test_canonical_json():
    assert http.canonical({"b": [1, "x"], "a": {"d": True, "c": None}}) == '{"a":{"c":null,"d":true},"b":[1,"x"]}'


def test_a_time_zone_with_its_summer_time_from_a_file():
    import os
    import time

    if os.getenv("TZ"):
        return
    files.make_dirs("build/tmp")
    name = "build/tmp/TZ-%d" % clock.us()
    with open(name, "w") as f:
        f.write("CET-1CEST,M3.5.0,M10.5.0/3\n")
    clock.zone(name)
    try:
        # 2026-03-29 00:59:59 and 01:00:00 UTC: the hour from 2 to 3 does not exist.
        before, after = time.localtime(1774745999), time.localtime(1774746000)
        assert (before[3], before[4], after[3], after[4]) == (1, 59, 3, 0)
    finally:
        os.unsetenv("TZ")
        if hasattr(time, "tzset"):
            time.tzset()
        os.remove(name)
