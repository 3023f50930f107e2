"""The router's settings: every tunable with unit, default, range and reason in one table.

An unknown key refuses to start.
"""

from . import strict

# name: (type, default, least, most, what it is)
SETTINGS = {
    "region": (int, 1, 1, 65535, "region number whose tokens buy this router's capacity"),
    "rate_kbps": (int, 10000, 64, 10000000, "rate that the router claims on chain, kbit/s"),
    "listen_port": (int, 51900, 1, 65535, "UDP port of the relay"),
    "workers": (str, "1", 1, 4, "relay processes, each with a port of its own from listen_port on; auto: one a core"),
    "public_v4": (str, "", 0, 15, "own public IPv4 address; empty: none"),
    "public_v6": (str, "", 0, 45, "own public IPv6 address; empty: none"),
    "wan_v4": (str, "", 0, 15, "the WAN's IPv4 address; stands in for an empty public_v4 if it is a public one"),
    "wan_v6": (str, "", 0, 45, "the WAN's IPv6 address; likewise"),
    "wan": (str, "wan", 1, 15, "network interface towards the internet"),
    "lan_prefixes": (list, [], 0, 64, "prefixes of the home's own networks: never relayed to"),
    "uplink_kbps": (int, 10000, 0, 10000000, "upstream rate of the line, kbit/s, at least 64; 0: learn it"),
    "reserve_pct": (int, 5, 0, 90, "share of the uplink that is never used, %"),
    "cap_kbps": (int, 0, 0, 10000000, "owner's cap, kbit/s; 0: none"),
    "share_pct": (int, 100, 1, 100, "share of what is idle that is given, %"),
    "quota_day_mb": (int, 0, 0, 1000000000, "most to relay a day, MB of 10^6 bytes with headers; 0: no quota"),
    "quota_month_mb": (int, 0, 0, 1000000000, "most to relay a billing month, MB; 0: no quota"),
    "billing_day": (int, 1, 1, 28, "day on which the provider's month begins"),
    "hours": (list, [], 0, 64, 'hours of sharing, local time, e.g. "mon-fri 22:00-06:00"; empty: always'),
    "shaper": (bool, False, 0, 1, "whether to set an HTB qdisc on the WAN, household first"),
    "anchor": (bool, True, 0, 1, "whether routers behind a provider's NAT may be reached through this one"),
    "mark_le": (bool, True, 0, 1, "whether relayed packets are marked LE (RFC 8622)"),
    "floor_kbps": (int, 64, 8, 10000, "rate when nothing is known about the household, kbit/s"),
    "gateways": (list, [], 0, 16, "gateways: {url, key}; key is the gateway's Ed25519 key in hex"),
    "ca_file": (str, "", 0, 200, "certificates (PEM) that gateways' are checked by; empty: the system's"),
    "stake_wei": (str, "0", 1, 78, "stake to hold, in wei of BWT"),
    "payout": (str, "", 0, 42, "payout account; empty: the router's own wallet"),
    "exit": (bool, False, 0, 1, "whether traffic may leave to the internet here"),
    "exit_tun": (str, "bwexit0", 1, 15, "name of the exit's TUN device"),
    "exit_allow": (list, [], 0, 256, "destinations allowed: CIDR or CIDR:port; empty: all but the refused"),
    "exit_deny": (list, [], 0, 256, "destinations refused beside private ranges and port 25"),
    "run_dir": (str, "/var/run/bwrouter", 1, 90, "sockets and status (RAM)"),
    "state_dir": (str, "/etc/bwrouter", 1, 200, "keys and unredeemed tickets (flash)"),
    "max_circuits": (int, 256, 1, 4096, "circuits at a time; each takes under 1 KiB"),
    "log_level": (str, "info", 1, 10, "debug, info, warning or error"),
}


WORKERS_MAX = 16  # the descriptor has four bits for it


class ConfigError(ValueError):
    """A setting is wrong; the text names the setting, the value and what is allowed. Programs exit 2 on it."""


def _range(name):
    kind, default, least, most, what = SETTINGS[name]
    if kind is bool:
        return "true or false"
    if kind is int:
        return "a whole number from " + str(least) + " to " + str(most)
    if kind is str:
        return "text of " + str(least) + " to " + str(most) + " characters"
    return "a list of " + str(least) + " to " + str(most) + " entries"


def check(name, value):
    """Raise ConfigError unless `value` is right for setting `name`."""
    if name not in SETTINGS:
        raise ConfigError("unknown setting " + repr(name) + "; known: " + ", ".join(sorted(SETTINGS)))
    kind, default, least, most, what = SETTINGS[name]
    size = value if kind is int else len(value) if isinstance(value, (str, list)) else 0
    # bool is an int in Python, but true is no number to an owner.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)) or not least <= size <= most:
        raise ConfigError(
            "setting " + name + ": " + repr(value) + " is not allowed; it wants " + _range(name) + " (" + what + ")"
        )


def settings(given):
    """All settings, defaults filled in, from a dict. Raises ConfigError."""
    out = {}
    for name in SETTINGS:
        out[name] = SETTINGS[name][1]
    for name in given:
        check(name, given[name])
        out[name] = given[name]
    if out["log_level"] not in ("debug", "info", "warning", "error"):
        raise ConfigError(
            "setting log_level: " + repr(out["log_level"]) + " is not allowed; it wants debug, info, warning or error"
        )
    if workers(out) > 1 and len(out["exit_tun"]) > 12:
        raise ConfigError(
            "setting exit_tun: " + repr(out["exit_tun"]) + " is not allowed; with several workers each has a device of "
            "its own, and the name must leave room for -15: at most 12 characters"
        )
    return out


def workers(settings):
    """How many relay processes the setting `workers` means here. Raises ConfigError."""
    text = settings["workers"]
    if text == "auto":
        from . import process

        return min(process.cores(), WORKERS_MAX, 65536 - settings["listen_port"])
    if not text.isdigit() or not 1 <= int(text) <= WORKERS_MAX:
        raise ConfigError(
            "setting workers: " + repr(text) + " is not allowed; it wants auto or a number from 1 to "
            + str(WORKERS_MAX)
        )  # fmt: skip
    if settings["listen_port"] + int(text) > 65536:
        raise ConfigError(
            "setting workers: " + text + " ports from listen_port " + str(settings["listen_port"]) + " on do not exist"
        )
    return int(text)


def relay_socket(run_dir, worker):
    """Path of the control socket of relay process `worker` (0 ..)."""
    return run_dir + "/relay" + (str(worker) if worker else "") + ".sock"


def load(path):
    """Settings from a JSON file. Raises ConfigError that names the file when it is missing or not a JSON object."""
    try:
        with open(path) as f:
            given = strict.loads(f.read())
    except OSError as e:
        raise ConfigError("config file " + path + " cannot be read: " + str(e))
    except ValueError as e:
        raise ConfigError("config file " + path + " is not JSON: " + str(e))
    if not isinstance(given, dict):
        raise ConfigError("config file " + path + " must hold one JSON object")
    return settings(given)
