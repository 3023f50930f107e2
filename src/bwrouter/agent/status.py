"""run_dir/status.json: written by the agent once a second, read by `bwrouter status` and LuCI: raw numbers."""

import json

from ..platform import files

STALE_S = 5


def path(run_dir):
    return run_dir + "/status.json"


def write(run_dir, status):
    """Replace the file; RAM, so it is not synced. Raises OSError."""
    files.write_atomic(path(run_dir), json.dumps(status).encode(), 0o644, False)


def remove(run_dir):
    files.remove(path(run_dir))


def read(run_dir):
    """The last status, or None when there is none or it is damaged."""
    text = files.read(path(run_dir))
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _verdict(verdict):
    """What the household lost in the last day, in words."""
    if verdict["lost_pct"] is None:
        return "has sent nothing yet"
    words = "lost %.2f %% of what it sent" % verdict["lost_pct"]
    return words + (" and %.1f ms" % verdict["added_ms"] if verdict["added_ms"] is not None else "")


def _reach(reach):
    """How buyers reach this router, in words."""
    where = "%s port %d" % (reach["address"], reach["port"])
    words = {
        "public-v4": "directly, at " + where,
        "public-v6": "directly, at " + where,
        "anchor": "through another router (anchor %s) at %s, because the provider gives no public address"
        % (reach.get("anchor", "")[:16], where),
        "mapped": "through the modem, which forwards %s (%s)" % (where, reach["by"]),
    }
    return words.get(reach["state"]) or "not at all: " + (reach["error"] or "no public address is known")


def lines(status, now):
    """The status in words, a list of lines. `now`: unix seconds."""
    rate, tickets, stake = status["rate"], status["tickets"], status["stake"]
    chain = stake["chain"] or {}
    out = [
        "relay     %s (%s, %s)" % (status["relay_id"], status["version"], status["runtime"]),
        "wallet    %s, payout %s, region %d" % (status["wallet"], status["payout"], status["region"]),
        "rate      %d kbit/s of at most %d (%s), household %s kbit/s"
        % (
            rate["allowed_kbps"],
            rate["limit_kbps"],
            rate["reason"],
            "?" if rate["household_kbps"] is None else rate["household_kbps"],
        ),
        "line      %s kbit/s (%s%s)%s%s"
        % (
            rate["uplink_kbps"],
            rate["uplink_sure"],
            ", measured %d" % rate["uplink_measured_kbps"] if rate["uplink_measured_kbps"] else "",
            ", queue %.1f ms" % (rate["delay_queue_us"] / 1000) if rate["delay_queue_us"] >= 0 else "",
            ", paused" if rate["paused_until"] else "",
        ),
        "household " + _verdict(rate["verdict"]),
        "stake     %s wei, %s" % (chain.get("stake", "?"), stake["error"] or chain.get("state", "not known yet")),
        "tickets   %d held, %d units not redeemed yet, %d redeemed since the start"
        % (tickets["held"], tickets["unredeemed_units"], tickets["redeemed_units"]),
    ]
    free = status.get("free")
    if free:
        out.append("free      %s wei of BWT in the wallet, proved at block %d" % (free["wei"], free["block"]))
    if status.get("reach"):
        out.append("reach     " + _reach(status["reach"]))
    relay = status["relay"]
    if relay is None:
        out.append("cells     the relay has not been heard")
    else:
        out.append(
            "cells     %d circuits, %d cells in, %d out, %d sessions"
            % (relay["circuits"], relay["cells_in"], relay["cells_out"], relay["sessions"])
        )
    for gateway in status["gateways"]:
        good = "published" if gateway["published_until"] > now else "reachable"
        out.append("gateway   %s: %s" % (gateway["url"], gateway["error"] or good))
    earnings = status["earnings"]
    if earnings:
        out.append(
            "earnings  %s wei in all, %s claimed, balance %s"
            % (earnings.get("cumulative_wei"), earnings.get("claimed_wei"), earnings.get("balance_wei"))
        )
    short = status.get("shortfall")
    if short:
        out.append(
            "root      epoch %d holds %s wei, the gateway's receipt says %s (%s): see `bwrouter challenge`"
            % (short["epoch"], short["posted_wei"], short["promised_wei"], short["code"])
        )
    for error in status.get("receipt_errors", ()):
        out.append("receipt   %s: %s (%s)" % (error["gateway"], error["text"], error["code"]))
    if status["exit"]["enabled"]:
        out.append("exit      %s: %s" % (status["exit"]["tun"], status["exit"]["error"] or "open"))
    age = now - status["time"]
    if age > STALE_S:
        out.insert(0, "the agent is not running: this is %d s old" % age)
    return out
