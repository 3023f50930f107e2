"""Command lines, exit codes and the status in words."""

import json

from harness import raises

from bwrouter import cli
from bwrouter.agent import faults, keys, status
from bwrouter.cli import pause
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
        "region": 1, "rate": {
            "allowed_kbps": 5, "limit_kbps": 9, "reason": "cap", "household_kbps": None, "uplink_kbps": 40,
            "uplink_sure": "peak", "delay_queue_us": 1500, "uplink_measured_kbps": 39, "paused_until": 0,
            "verdict": {"lost_pct": 0.25, "added_ms": 1.5},
        },
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


def test_errors_in_words():
    assert cli.text_of(OSError("28")) == "No space left on device, errno 28"
    assert cli.text_of(OSError("key file x is missing")) == "key file x is missing"


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


def test_backup_and_restore():
    path, other = config("old"), config("new")
    phrase, file = BASE + "/phrase", BASE + "/keys.backup"
    files.write_atomic(phrase, b"correct horse battery staple\nsecond line\n")
    for name in ("old", "new"):
        status.remove(BASE + "/run-" + name)
        assert cli.main(["keys", "init", "--config", BASE + "/" + name + ".json"]) == 0
    with_phrase = ["--passphrase-file", phrase]
    assert cli.main(["keys", "backup", file, "--config", path] + with_phrase) == 0
    wanted = keys.secrets(BASE + "/state-old")
    assert cli.main(["keys", "restore", file, "--config", path] + with_phrase) == 0
    if keys.secrets(BASE + "/state-new") != wanted:
        assert cli.main(["keys", "restore", file, "--config", other] + with_phrase) == 1
        assert keys.secrets(BASE + "/state-new") != wanted
    assert cli.main(["keys", "restore", file, "--yes", "--config", other] + with_phrase) == 0
    assert keys.secrets(BASE + "/state-new") == wanted
    # New keys for the next run of this test.
    for name in keys.NAMES:
        files.remove(keys.path(BASE + "/state-new", name))
    for line in (["keys", "restore", BASE + "/none"], ["keys", "restore", phrase], ["keys", "backup", "/no/such/folder/f"]):
        assert cli.main(line + with_phrase + ["--config", path]) == 1, line
    files.write_atomic(phrase, b"short\n")
    assert cli.main(["keys", "backup", file, "--config", path] + with_phrase) == 1
    assert cli.main(["keys", "backup", "--config", path]) == 2
    files.make_dirs(BASE + "/run-old")
    status.write(BASE + "/run-old", sample())
    assert cli.main(["keys", "restore", file, "--config", path] + with_phrase) == 1
    status.remove(BASE + "/run-old")


def test_pause():
    path = config("pause")
    files.make_dirs(BASE + "/run-pause")
    for word, code in (("1h", 0), ("90m", 0), ("2d", 0), ("tomorrow", 0), ("off", 0), ("h", 2), ("0m", 2), ("40d", 2), ("-1h", 2)):
        assert cli.main(["pause", word, "--config", path]) == code, word
    assert pause.until("1h", 1000, None) == 4600 and pause.until("90m", 0, None) == 5400
    assert pause.until("tomorrow", 1000000, (2026, 11, 25, 23, 59, 30, 2)) == 1000030
    assert cli.main(["pause", "1h", "--config", path]) == 0
    assert 3590 < pause.standing(BASE + "/run-pause/pause.json") - clock.unix() <= 3600
    for text in (b"", b"{}", b"[]", b"x", b'{"until":"y"}', b'{"until":5}'):
        files.write_atomic(BASE + "/run-pause/pause.json", text)
        assert pause.standing(BASE + "/run-pause/pause.json") == 0, text
    assert cli.main(["pause", "off", "--config", path]) == 0
    assert cli.main(["pause", "--config", path]) == 0
    assert cli.main(["probe", "--config", path]) == 0 and files.read(BASE + "/run-pause/probe.json") == b"{}"
    assert cli.main(["probe", "x", "--config", path]) == 2


def test_faults_are_shown():
    path = config("faults")
    run_dir = BASE + "/run-faults"
    files.make_dirs(run_dir)
    faults.write(run_dir, "relay", "UDP port 51900 on :: cannot be bound")
    assert faults.read(run_dir) == {"relay": "UDP port 51900 on :: cannot be bound"}
    status.write(run_dir, sample())
    assert cli.main(["status", "--config", path]) == 1
    faults.clear(run_dir, "relay")
    assert cli.main(["status", "--config", path]) == 0
    assert cli.main(["verdicts", "--config", path]) == 0
    assert cli.main(["caps", "--json", "--config", path]) == 0
    status.remove(run_dir)
    assert cli.main(["verdicts", "--config", path]) == 1


def test_status_in_words():
    text = "\n".join(status.lines(sample(), clock.unix()))
    assert "5 kbit/s of at most 9 (cap)" in text and "not known yet" in text and "has not been heard" in text
    assert "not running" in status.lines(sample(time=clock.unix() - 100), clock.unix())[0]
    relay = {"circuits": 1, "cells_in": 2, "cells_out": 3, "sessions": 4}
    stake = {"chain": {"stake": "7", "state": "active"}, "error": ""}
    text = "\n".join(status.lines(sample(relay=relay, stake=stake), 0))
    assert "7 wei, active" in text and "1 circuits, 2 cells in" in text
