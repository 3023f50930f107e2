"""`bwrouter check`: what must be there before this router can share."""

import json
import os

from ..platform import clock
from . import most, settings_of


def check(words, options):
    """Each thing that must be there, with what is wrong or `ok`; exit code 1 when something is wrong."""
    most(words, 0)
    settings = settings_of(options)
    found = [("settings", ""), ("libsodium", attempt(_sodium))]
    if found[1][1] == "":
        from ..agent.agent import check_settings

        check_settings(settings)
        found.append(("keys", attempt(_keys, settings["state_dir"])))
    found.append(("requests", attempt(_requests)))
    found.append(("state_dir", attempt(_writable, settings["state_dir"])))
    found.append(("clock", "" if clock.is_set() else "the time of day is not set yet: is NTP reachable?"))
    counter = "/sys/class/net/" + settings["wan"] + "/statistics/tx_bytes"
    found.append(("wan", attempt(_there, counter, "interface " + settings["wan"] + " (setting wan) does not exist")))
    found.append(("gateways", "" if settings["gateways"] else "none is set: nothing can be earned"))
    commands = [("tc", "tc -V", "tc-tiny or tc-full, and kmod-sched")] if settings["shaper"] else []
    if settings["exit"]:
        found.append(("tun", attempt(_there, "/dev/net/tun", "/dev/net/tun is missing: install kmod-tun")))
        commands += [("nft", "nft --version", "nftables"), ("ip", "ip -V", "ip-tiny")]
    for name, command, package in commands:
        missing = os.system(command + " >/dev/null 2>&1")
        found.append((name, "`%s` does not work: install %s" % (command, package) if missing else ""))
    if options["json"]:
        print(json.dumps({name: wrong or "ok" for name, wrong in found}))
    else:
        for name, wrong in found:
            print(name + ": " + (wrong or "ok"))
    return 1 if any([wrong for _, wrong in found]) else 0


def attempt(test, *arguments):
    """What `test` raises, in words; empty when it passes."""
    try:
        test(*arguments)
    except Exception as error:  # whatever is wrong is what the owner asks for
        return str(error) or "fails"
    return ""


def _keys(state_dir):
    from ..agent import keys

    keys.load(state_dir)


def _sodium():
    from ..platform import sodium

    sodium.blake2b(b"")


def _requests():
    from ..platform import http

    http.canonical({})


def _writable(folder):
    from ..platform import files

    files.write_atomic(folder + "/.check", b"bwrouter check\n")
    files.remove(folder + "/.check")


def _there(path, wrong):
    try:
        os.stat(path)
    except OSError:
        raise OSError(wrong)
