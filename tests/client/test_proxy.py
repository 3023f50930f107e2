"""The proxy's two protocols as other people's clients speak them, on loopback."""

from __future__ import annotations

import asyncio
import struct

import pytest_asyncio

from bwclient import proxy


@pytest_asyncio.fixture
async def ports():
    async def answer(reader, writer):
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        writer.close()

    target = await asyncio.start_server(answer, "127.0.0.1", 0)
    socks = await asyncio.start_server(lambda r, w: proxy._guarded(proxy._socks, r, w), "127.0.0.1", 0)
    http = await asyncio.start_server(lambda r, w: proxy._guarded(proxy._http, r, w), "127.0.0.1", 0)
    servers = (target, socks, http)
    yield tuple(s.sockets[0].getsockname()[1] for s in servers)
    for s in servers:
        s.close()


async def said(port: int, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.05)
    data = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return data


async def test_socks5_by_address_and_by_name(ports):
    target, socks, _ = ports
    for where in (b"\x01\x7f\x00\x00\x01", b"\x03\x09localhost"):
        data = await said(socks, b"\x05\x01\x00", b"\x05\x01\x00" + where + struct.pack(">H", target), b"hello\n")
        assert data[:2] == b"\x05\x00" and data[2:4] == b"\x05\x00" and data[12:] == b"you said hello\n"


async def test_socks5_refuses_in_its_own_words(ports):
    target, socks, _ = ports
    assert await said(socks, b"\x05\x01\x02") == b"\x05\xff", "a password is asked of nobody"
    bind = await said(socks, b"\x05\x01\x00", b"\x05\x02\x00\x01\x7f\x00\x00\x01" + struct.pack(">H", target))
    assert bind[3] == 7
    closed = await said(socks, b"\x05\x01\x00", b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x01")
    assert closed[3] == 5
    unknown = await said(socks, b"\x05\x01\x00", b"\x05\x01\x00\x03\x0cname.invalid\x00\x50")
    assert unknown[3] in (1, 4)
    assert await said(socks, b"\x04\x01\x00") in (b"\x05\xff", b"")


async def test_http_connect(ports):
    target, _, http = ports
    request = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % target
    assert (await said(http, request, b"hello\n")).endswith(b"\r\n\r\nyou said hello\n")
    assert (await said(http, b"GET http://x/ HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
    assert (await said(http, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
    assert (await said(http, b"CONNECT\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
