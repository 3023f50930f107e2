"""The router's own descriptor (protocol section 5), the part that the relay signs."""

from ..platform import config, net
from ..wire import address, descriptor
from . import policy

LIFETIME_S = 7200  # a descriptor is good for so long ...
REFRESH_S = 3600  # ... and is replaced after so long


def own_descriptor(keys, settings, until, anchor=None):
    """213 bytes, valid until unix second `until`. `anchor`: address and port of who is spoken to for us, where we can't
    be reached ourselves. Raises ValueError when no address is set or one is malformed."""
    port = settings["listen_port"]
    port4 = settings.get("mapped_port") or port  # where the modem forwards another one (reach.py)
    workers = config.workers(settings)
    if anchor is not None:
        v4, port4, v6, workers = net.ip_bytes(anchor[0]), anchor[1], bytes(16), 1
    else:
        v4, v6 = addresses(settings)
    made = descriptor.Descriptor(
        keys.relay,
        keys.static_public,
        keys.obf,
        v4,
        port4 if any(v4) else 0,
        v6,
        port if any(v6) else 0,
        settings["region"],
        descriptor.flags(settings["exit"], workers) | (descriptor.ANCHORED if anchor is not None else 0),
        settings["rate_kbps"],
        policy.digest(settings) if settings["exit"] else bytes(16),
        until,
    )
    return made.sign(keys.identity)


def fill(settings):
    """Put the WAN's own addresses where the owner set no public ones, if they are public."""
    for public, wan in (("public_v4", "wan_v4"), ("public_v6", "wan_v6")):
        if not settings[public] and settings[wan] and not address.refused(net.ip_bytes(settings[wan])):
            settings[public] = settings[wan]


def addresses(settings):
    """(4 bytes, 16 bytes) of the router's public addresses, zero for none. Raises ValueError that names the setting."""
    v4 = net.ip_bytes(settings["public_v4"]) if settings["public_v4"] else bytes(4)
    v6 = net.ip_bytes(settings["public_v6"]) if settings["public_v6"] else bytes(16)
    if len(v4) != 4:
        raise ValueError("setting public_v4: %r is no IPv4 address" % settings["public_v4"])
    if len(v6) != 16:
        raise ValueError("setting public_v6: %r is no IPv6 address" % settings["public_v6"])
    if not any(v4) and not any(v6):
        wan = settings.get("wan_v4") or "unknown"
        raise ValueError(
            "neither public_v4 nor public_v6 is set, and the WAN's own address (%s) is not public: nobody could reach"
            " this relay" % wan
        )
    return v4, v6
