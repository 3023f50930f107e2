"""UPnP Internet Gateway Device: find the modem's WANIPConnection service (SSDP, UPnP Device Architecture 1.1) and ask
it to forward a port (SOAP, WANIPConnection:1). The texts; those that go over the network are in reach.py.

There is no XML parser in MicroPython, and none is needed: what is looked for are single elements by their names.
"""

GROUP = "239.255.255.250"
PORT = 1900
SERVICES = ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
NAME = "bwrouter"
ONLY_PERMANENT = 725  # this device knows no leases
CONFLICT = 718  # the port is somebody else's
BODY_MOST = 65536  # bytes of a description or an answer


class Malformed(ValueError):
    """A device's answer that cannot be used; the text says which part."""


def search(target):
    """An SSDP search for devices or services of a type."""
    lines = ("M-SEARCH * HTTP/1.1", "HOST: 239.255.255.250:1900", 'MAN: "ssdp:discover"', "MX: 1", "ST: " + target)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


TARGETS = ("urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:device:InternetGatewayDevice:2")


def location(data, host):
    """The description's URL in an answer to a search; empty when there is none, or when it is not at `host`: a device
    may speak for itself only."""
    try:
        lines = data.decode().split("\r\n")
    except (UnicodeError, ValueError):
        return ""
    if not lines[0].startswith("HTTP/1.1 200"):
        return ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "location":
            url = value.strip()
            return url if url[: len(host) + 8] in ("http://" + host + ":", "http://" + host + "/") else ""
    return ""


def between(text, tag, start=0):
    """(content, end) of the first element `tag` from `start` on; (None, start) when there is none."""
    opening = text.find("<" + tag + ">", start)
    if opening < 0:
        return None, start
    at = opening + len(tag) + 2
    end = text.find("</" + tag + ">", at)
    return (text[at:end].strip(), end) if end >= 0 else (None, start)


def service(description, url):
    """(service type, control URL) of the first service in SERVICES that the description at `url` has. Raises
    Malformed."""
    host = "/".join(url.split("/")[:3])
    found = {}
    at = 0
    while True:
        block, at = between(description, "service", at)
        if block is None:
            break
        kind, control = between(block, "serviceType")[0], between(block, "controlURL")[0]
        if kind and control:
            found[kind.replace("urn:schemas-upnp-org:service:", "")] = control
    for name in SERVICES:
        if name in found:
            control = found[name]
            if control.startswith("http://"):
                if not control.startswith(host + "/"):
                    raise Malformed("its control URL is at another host")
                return name, control
            return name, host + (control if control[:1] == "/" else "/" + control)
    raise Malformed("the device has no WAN connection service")


def call(kind, action, arguments=()):
    """(headers, body) of a SOAP call; `arguments`: pairs of name and value, in the order of the service."""
    urn = "urn:schemas-upnp-org:service:" + kind
    inner = "".join(["<%s>%s</%s>" % (name, value, name) for name, value in arguments])
    body = (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%s xmlns:u="%s">%s</u:%s></s:Body>'
        "</s:Envelope>\r\n" % (action, urn, inner, action)
    )
    return {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": '"%s#%s"' % (urn, action)}, body


def add(kind, external, internal, client, seconds):
    """AddPortMapping: UDP, from any host."""
    return call(
        kind,
        "AddPortMapping",
        (
            ("NewRemoteHost", ""),
            ("NewExternalPort", external),
            ("NewProtocol", "UDP"),
            ("NewInternalPort", internal),
            ("NewInternalClient", client),
            ("NewEnabled", 1),
            ("NewPortMappingDescription", NAME),
            ("NewLeaseDuration", seconds),
        ),
    )


def delete(kind, external):
    return call(
        kind, "DeletePortMapping", (("NewRemoteHost", ""), ("NewExternalPort", external), ("NewProtocol", "UDP"))
    )


def fault(text):
    """(code, description) of a SOAP fault; (0, "") when it is none."""
    code = between(text, "errorCode")[0]
    if code is None or not code.isdigit():
        return (0, "") if "Fault>" not in text else (-1, "a fault without a code")
    return int(code), between(text, "errorDescription")[0] or ""
