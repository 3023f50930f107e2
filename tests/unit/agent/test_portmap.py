"""PCP, NAT-PMP and UPnP: datagrams of the RFCs, and a modem that says something else."""

import struct

from harness import raises

from bwrouter.agent import portmap, upnp

NONCE = bytes(range(12))
CLIENT = b"\xc0\xa8\x3c\x02"
MAPPED = b"\0" * 10 + b"\xff\xff"


def pcp(port=51900, external=40000, result=0, nonce=NONCE, version=2, opcode=0x81, address=MAPPED + b"\xcb\x00\x72\x01"):
    head = struct.pack(">BBBBII", version, opcode, 0, result, 3600, 7) + bytes(12)
    return head + nonce + struct.pack(">BBHHH", 17, 0, 0, port, external) + address


def test_pcp_request():
    data = portmap.pcp_map(CLIENT, NONCE, 51900, 51900, 3600)
    assert len(data) == 60 and data[:8] == b"\x02\x01\x00\x00\x00\x00\x0e\x10"  # RFC 6887, figure 2
    assert data[8:24] == MAPPED + CLIENT and data[24:36] == NONCE and data[36:40] == b"\x11\0\0\0"
    assert data[40:44] == b"\xca\xbc\xca\xbc" and data[44:60] == MAPPED + bytes(4)


def test_pcp_answer():
    assert portmap.pcp_answer(pcp(), NONCE, 51900) == (3600, 40000, b"\xcb\x00\x72\x01")
    # What is not the answer to our question is nobody's.
    assert portmap.pcp_answer(pcp(nonce=bytes(12)), NONCE, 51900) is None
    assert portmap.pcp_answer(pcp(port=51901), NONCE, 51900) is None
    assert portmap.pcp_answer(pcp(opcode=0x80), NONCE, 51900) is None
    assert portmap.pcp_answer(pcp(opcode=1), NONCE, 51900) is None
    assert portmap.pcp_answer(pcp(address=bytes(16)), NONCE, 51900) is None
    for size in range(60):
        assert portmap.pcp_answer(pcp()[:size], NONCE, 51900) is None
    assert "not allowed" in str(raises(portmap.Refused, portmap.pcp_answer, pcp(result=2), NONCE, 51900))
    assert "code 99" in str(raises(portmap.Refused, portmap.pcp_answer, pcp(result=99), NONCE, 51900))
    assert "NAT-PMP only" in str(raises(portmap.Refused, portmap.pcp_answer, b"\x00\x81\x00\x01\x00\x00\x00\x07", NONCE, 51900))


def test_nat_pmp():
    assert portmap.pmp_address() == b"\0\0"
    assert portmap.pmp_map(51900, 40000, 3600) == b"\x00\x01\x00\x00\xca\xbc\x9c\x40\x00\x00\x0e\x10"
    assert portmap.pmp_map(51900, 40000, 0) == b"\x00\x01\x00\x00\xca\xbc\x00\x00\x00\x00\x00\x00"
    address = b"\x00\x80\x00\x00\x00\x00\x00\x01\xcb\x00\x72\x01"
    assert portmap.pmp_answer(address, 0) == b"\xcb\x00\x72\x01"
    assert portmap.pmp_answer(address, 1) is None and portmap.pmp_answer(address[:11], 0) is None
    body = portmap.pmp_answer(b"\x00\x81\x00\x00\x00\x00\x00\x01\xca\xbc\x9c\x40\x00\x00\x00\x78", 1)
    assert portmap.pmp_mapping(body, 51900) == (120, 40000) and portmap.pmp_mapping(body, 1) is None
    assert "no resources" in str(raises(portmap.Refused, portmap.pmp_answer, b"\x00\x81\x00\x04\x00\x00\x00\x01", 1))


def test_ssdp_answers_speak_for_themselves_only():
    good = b"HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: http://192.168.60.1:5000/rootDesc.xml\r\n\r\n"
    assert upnp.location(good, "192.168.60.1") == "http://192.168.60.1:5000/rootDesc.xml"
    assert upnp.location(good, "192.168.60.10") == "" and upnp.location(good, "192.168.60") == ""
    for bad in (
        b"", b"\xff\xfe", b"HTTP/1.1 404 x\r\nLOCATION: http://192.168.60.1/\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLOCATION: https://192.168.60.1/\r\n",
        b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.60.1@evil/\r\n",
    ):  # fmt: skip
        assert upnp.location(bad, "192.168.60.1") == ""


def test_description():
    one = "<service><serviceType>urn:schemas-upnp-org:service:%s</serviceType><controlURL>%s</controlURL></service>"
    url = "http://10.0.0.1:5000/rootDesc.xml"
    text = "<root>" + one % ("Layer3Forwarding:1", "/l3") + one % ("WANIPConnection:1", "/ctl/IPConn") + "</root>"
    assert upnp.service(text, url) == ("WANIPConnection:1", "http://10.0.0.1:5000/ctl/IPConn")
    assert upnp.service(text + one % ("WANIPConnection:2", "c2"), url) == ("WANIPConnection:2", "http://10.0.0.1:5000/c2")
    assert "another host" in str(raises(upnp.Malformed, upnp.service, one % ("WANIPConnection:1", "http://10.0.0.2:5000/x"), url))
    for text in ("", "<service>", "<service></service>", one % ("x", "/y"), "<service><serviceType>a</service>"):
        assert "no WAN" in str(raises(upnp.Malformed, upnp.service, text, url))


def test_calls_and_faults():
    headers, body = upnp.add("WANIPConnection:1", 40000, 51900, "192.168.60.2", 3600)
    assert headers["SOAPAction"] == '"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping"'
    order = ["NewRemoteHost", "NewExternalPort", "NewProtocol", "NewInternalPort", "NewInternalClient", "NewEnabled",
             "NewPortMappingDescription", "NewLeaseDuration"]  # fmt: skip
    places = [body.find("<" + name + ">") for name in order]
    assert places == sorted(places) and places[0] > 0
    assert upnp.between(body, "NewLeaseDuration")[0] == "3600" and upnp.between(body, "NewRemoteHost")[0] == ""
    fault = "<s:Fault><errorCode>725</errorCode><errorDescription>OnlyPermanent</errorDescription></s:Fault>"
    assert upnp.fault(fault) == (725, "OnlyPermanent") and upnp.fault("<ok/>") == (0, "")
    assert upnp.fault("<s:Fault>") == (-1, "a fault without a code")
