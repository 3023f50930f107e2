"""Command lines, exit codes and the status in words."""

import json

from harness import raises

from bwrouter import cli
from bwrouter.agent import status
from bwrouter.platform import clock, files

BASE = __file__[: __file__.rfind("/tests/")] + "/build/tmp/unit-cli"


def config(name, **settings):
    files.make_dirs(BASE)
    settings.setdefault("run_dir", BASE + "/run-" + name)
    settings.setdefault("state_dir", BASE + "/state-" + name)
    path = BASE + "/" + name + ".json"
    files.write_atomic(path, json.dumps(settings).encode())
    return path


def sample(**changes):
    out = {
        "time": clock.unix(), "relay_id": "ab" * 32, "version": "1", "runtime": "x", "wallet": "0xw", "payout": "0xp",
        "region": 1, "rate": {"allowed_kbps": 5, "limit_kbps": 9, "reason": "cap", "household_kbps": None},
        "stake": {"chain": None, "error": "", "tx": ""}, "relay": None, "earnings": None, "exit": {"enabled": False},
        "tickets": {"held": 1, "unredeemed_units": 2, "redeemed_units": 3},
        "gateways": [{"url": "http://g", "error": "", "published_until": 0}],
    }  # fmt: skip
    out.update(changes)
    return out


def test_parse():
    words, options = cli.parse(["keys", "show", "--json", "--config", "f"])
    assert words == ["keys", "show"] and options["json"] and options["config"] == "f"
    assert cli.parse(["status", "--config=g"])[1]["config"] == "g"
    for line in (["--config"], ["status", "--jso"]):
        raises(cli.Usage, cli.parse, line)


def test_exit_codes():
    assert cli.main(["version"]) == 0
    assert cli.main(["--help"]) == 0
    for line in ([], ["frobnicate"], ["keys"], ["status", "--wrong"]):
        assert cli.main(line) == 2, line
    assert cli.main(["status", "--config", BASE + "/none.json"]) == 2
    assert cli.main(["agent", "--config", config("low", uplink_kbps=-1)]) == 2
    assert cli.main(["agent", "--config", config("unknown", uplinc_kbps=1000)]) == 2
    assert cli.main(["agent", "--config", config("stake", stake_wei="1e18")]) == 2
    assert cli.main(["agent", "--config", config("payout", payout="0x12")]) == 2
    assert cli.main(["agent", "--config", config("gateway", gateways=[{"url": "http://x", "key": "12"}])]) == 2
    assert cli.main(["check", "--config", config("deny", exit_deny=["private"])]) == 2


def test_keys_and_status_commands():
    path = config("keys")
    assert cli.main(["keys", "init", "--config", path, "--json"]) == 0
    assert cli.main(["keys", "show", "--config", path]) == 0
    assert cli.main(["keys", "show", "--config", config("nokeys")]) == 1
    assert cli.main(["status", "--config", path]) == 1
    files.make_dirs(BASE + "/run-keys")
    status.write(BASE + "/run-keys", sample())
    assert cli.main(["status", "--config", path]) == 0
    status.write(BASE + "/run-keys", sample(time=clock.unix() - 60))
    assert cli.main(["status", "--config", path, "--json"]) == 1
    status.remove(BASE + "/run-keys")
    assert status.read(BASE + "/run-keys") is None


def test_status_in_words():
    text = "\n".join(status.lines(sample(), clock.unix()))
    assert "5 kbit/s of at most 9 (cap)" in text and "not known yet" in text and "has not been heard" in text
    assert "not running" in status.lines(sample(time=clock.unix() - 100), clock.unix())[0]
    relay = {"circuits": 1, "cells_in": 2, "cells_out": 3, "sessions": 4}
    stake = {"chain": {"stake": "7", "state": "active"}, "error": ""}
    text = "\n".join(status.lines(sample(relay=relay, stake=stake), 0))
    assert "7 wei, active" in text and "1 circuits, 2 cells in" in text
