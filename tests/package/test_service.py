"""The init script under stand-ins for rc.common, procd, uci and netifd: a UCI file goes in, exact calls and JSON come out.

Each folder of golden/ is a case: `uci` and, for netifd's answers, `network` go in; `calls` and `config.json` must come
out. `GOLDEN=write` writes them anew: read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from bwrouter.agent.agent import check_settings
from bwrouter.platform import config
from tests.package.router import ROOT, Router

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(p.name for p in GOLDEN.iterdir())
SHIPPED = (ROOT / "files/etc/config/bwrouter").read_text()
KEY = "ab" * 32


def router(folder: Path, uci: str, network: str = "", **options: bool) -> Router:
    made = Router(folder, **options)
    made.write("etc/config/bwrouter", uci)
    made.write("tmp/network", network)
    return made


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, tmp_path: Path) -> None:
    folder = GOLDEN / case
    given = {name: (folder / name).read_text() for name in ("uci", "network") if (folder / name).exists()}
    made = router(tmp_path, **given, jail="nojail" not in case, user="nouser" not in case)
    calls, said = made.service("start")
    calls = re.sub(r"=[0-9a-f]{32}  -\]", "=MD5]", calls)  # of config.json, which names the root's path
    text = made.read("var/run/bwrouter/config.json").replace(str(made.root), "")
    pretty = json.dumps(json.loads(text), indent=1) + "\n" if text else ""
    if os.environ.get("GOLDEN") == "write":
        (folder / "calls").write_text(calls)
        if pretty:
            (folder / "config.json").write_text(pretty)
    assert calls == (folder / "calls").read_text(), said
    wanted = folder / "config.json"
    assert pretty == (wanted.read_text() if wanted.exists() else "")
    if text:
        check_settings(config.settings(json.loads(text)))


def test_as_shipped_nothing_happens(tmp_path: Path) -> None:
    made = router(tmp_path, SHIPPED)
    calls, said = made.service("start")
    assert "open_instance" not in calls and "logger" not in calls and said == ""
    assert not (made.root / "var/run/bwrouter").exists() and not (made.root / "etc/bwrouter").exists()
    assert "set_config_changed" not in calls and "add_interface_trigger" not in calls
    assert made.service("stop")[0] == "kill\n"


def test_every_option_is_documented_with_the_programs_default() -> None:
    script = (ROOT / "files/etc/init.d/bwrouter").read_text()
    rules = {word.split(":")[0] for word in " ".join(re.findall(r"^[A-Z]+='(.*?)'$", script, re.M | re.S)).split()}
    documented = dict(re.findall(r"^\t#?(?:option|list) (\w+) '(.*)'$", SHIPPED, re.M))
    assert rules == set(documented) - {"url", "key"}, rules ^ set(documented)
    for name, (kind, default, *_) in config.SETTINGS.items():
        if name not in documented or kind is list:
            continue
        shown = documented[name]
        if name == "wan":
            continue  # UCI's is netifd's name, the programs' is the device
        assert shown == (str(int(default)) if kind is bool else str(default)), name
    # What UCI does not set is made by the init script itself.
    made = {"wan_v4", "wan_v6", "lan_prefixes", "gateways", "run_dir", "state_dir"}
    assert set(config.SETTINGS) - set(documented) == made


def test_every_commented_option_works(tmp_path: Path) -> None:
    """The shipped file with all its comments taken off is a configuration that the programs take."""
    lines = [re.sub(r"^(\s*)#(\s*(?:option|list|config) )", r"\1\2", line) for line in SHIPPED.splitlines()]
    text = "\n".join(line for line in lines if not line.endswith(" ''")).replace("enabled '0'", "enabled '1'")
    made = router(tmp_path, text)
    calls, said = made.service("start")
    assert calls.count("[open_instance]") == 2, said
    settings = config.settings(json.loads(made.read("var/run/bwrouter/config.json")))
    assert settings["hours"] == ["mon-fri 22:00-06:00", "sat-sun 06:00-24:00"] and len(settings["gateways"]) == 1
    check_settings(settings)


def test_a_changed_cap_does_not_restart_the_relay(tmp_path: Path) -> None:
    uci = "config bwrouter 'main'\n\toption enabled '1'\n\toption cap_kbps '%d'\n\toption listen_port '%d'\n"

    def instances(cap: int, port: int) -> tuple[str, str]:
        made.write("etc/config/bwrouter", uci % (cap, port))
        agent, _, relay = made.service("reload")[0].partition("[open_instance] [relay]\n")
        return agent, relay.partition("[close_instance]")[0]

    made = router(tmp_path, uci % (0, 51900))
    once, again, other, port = instances(1000, 51900), instances(1000, 51900), instances(2000, 51900), instances(2000, 51901)
    assert once == again and other[0] != once[0] and other[1] == once[1] and port[1] != once[1]
    assert json.loads(made.read("var/run/bwrouter/config.json"))["cap_kbps"] == 2000


def test_the_firewall_is_told_when_the_port_changes(tmp_path: Path) -> None:
    uci = "config bwrouter 'main'\n\toption enabled '%d'\n\toption listen_port '%d'\n"
    made = router(tmp_path, uci % (1, 51900))
    assert "[set_config_changed] [firewall]" in made.service("start")[0]
    assert "[set_config_changed] [firewall]" not in made.service("reload")[0]
    made.write("etc/config/bwrouter", uci % (1, 51901))
    assert "[set_config_changed] [firewall]" in made.service("reload")[0]
    made.write("etc/config/bwrouter", uci % (0, 51901))
    calls = made.service("reload")[0]
    assert "[set_config_changed] [firewall]" in calls and "open_instance" not in calls
    assert "[set_config_changed] [firewall]" not in made.service("stop")[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("option cap_kbps '-1'", "option cap_kbps=-1 is not of type range(0,10000000)"),
        ("option share_pct '0'", "option share_pct=0 is not of type range(1,100)"),
        ("option listen_port '70000'", "option listen_port=70000 is not of type port"),
        ("option public_v4 'here'", "option public_v4=here is not of type ip4addr"),
        ("option exit 'perhaps'", "option exit=perhaps is not of type bool"),
        ("option workers '99'", "option workers=99 is not of type"),
        ("list lan_prefix 'home'", "option lan_prefix=home is not of type list(cidr)"),
        ("option unclosed 'quote", "Parse error"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_runs(line: str, said: str, tmp_path: Path) -> None:
    made = router(tmp_path, f"config bwrouter 'main'\n\toption enabled '1'\n\t{line}\n")
    calls, errors = made.service("start")
    assert "open_instance" not in calls
    assert said in made.read("var/run/bwrouter/fault-service.txt"), errors
    assert "[-t bwrouter -p daemon.err service: /etc/config/bwrouter: " in calls and said in calls
    # Mended, it starts, and the fault is gone.
    made.write("etc/config/bwrouter", "config bwrouter 'main'\n\toption enabled '1'\n")
    assert made.service("reload")[0].count("[open_instance]") == 2
    assert made.read("var/run/bwrouter/fault-service.txt") == ""


def test_a_wrong_value_of_a_disabled_service_is_nobodys_business(tmp_path: Path) -> None:
    made = router(tmp_path, "config bwrouter 'main'\n\toption enabled '0'\n\toption cap_kbps '-1'\n")
    calls, said = made.service("start")
    assert "logger" not in calls and said == ""


def test_shell_syntax() -> None:
    for path in ("etc/init.d/bwrouter", "etc/uci-defaults/80_bwrouter", "usr/bin/bwrouter"):
        subprocess.run(["busybox", "ash", "-n", str(ROOT / "files" / path)], check=True, timeout=10)
