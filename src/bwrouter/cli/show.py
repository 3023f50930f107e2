"""What the agent says in run_dir/status.json, for the owner: status, caps, verdicts; and the version."""

import json

from .. import __version__
from ..agent import faults, rate
from ..agent import status as state
from ..platform import clock
from . import most, say, settings_of


def version(words, options):
    most(words, 0)
    print(json.dumps({"version": __version__}) if options["json"] else __version__)


def status(words, options):
    """Exit code 1 when the agent is not running or a process has given up."""
    most(words, 0)
    run_dir = settings_of(options)["run_dir"]
    got = state.read(run_dir)
    found = faults.read(run_dir)
    if options["json"]:
        print(json.dumps(got if got is not None else {"faults": found} if found else None))
    for name in sorted(found):
        say(name + ": " + found[name])
    if got is None:
        say("no status in " + run_dir + ": the agent is not running")
        return 1
    if not options["json"]:
        for line in state.lines(got, clock.unix()):
            print(line)
    return 1 if found or clock.unix() - got["time"] > state.STALE_S else 0


def caps(words, options):
    """The caps of the settings, and what they come to now."""
    most(words, 0)
    settings = settings_of(options)
    got = state.read(settings["run_dir"])
    now = got["rate"] if got else None
    limit, why = rate.limit_kbps(settings)
    if options["json"]:
        shown = {name: settings[name] for name in _CAPS}
        shown.update({"limit_kbps": limit, "limit_reason": why, "rate": now})
        print(json.dumps(shown))
        return 0
    for name in _CAPS:
        value = settings[name]
        print("%-15s %s" % (name, ", ".join(value) if isinstance(value, list) else value))
    print("%-15s %d kbit/s by %s" % ("most", limit, why))
    if now:
        print("%-15s %d kbit/s, %s" % ("now", now["allowed_kbps"], now["reason"]))
    return 0


_CAPS = (
    "uplink_kbps", "reserve_pct", "cap_kbps", "share_pct", "quota_day_mb", "quota_month_mb", "billing_day", "hours",
)  # fmt: skip


def verdicts(words, options):
    most(words, 0)
    settings = settings_of(options)
    got = state.read(settings["run_dir"])
    if got is None:
        say("no status in " + settings["run_dir"] + ": the agent is not running")
        return 1
    found = got.get("verdicts") or []
    if options["json"]:
        print(json.dumps(found))
    elif not found:
        print("no verdicts: this router has not been audited since the agent started")
    for verdict in [] if options["json"] else found:
        print(" ".join([name + "=" + str(verdict[name]) for name in sorted(verdict)]))
    return 0
