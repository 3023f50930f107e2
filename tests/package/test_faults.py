"""Bad input to the service as procd runs it: what is wrong stands in the log and for `bwrouter status`, and nothing spins."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.parts import free_port, until
from tests.package.router import ROOT

MICROPYTHON = Path(os.environ.get("MICROPYTHON") or ROOT / "build/micropython/native/micropython")


class Service:
    """One process of the service on MicroPython, with --service, in `folder`; `prefix` starts it."""

    def __init__(self, folder: Path, name: str, text: str, lib: Path = ROOT / "src", prefix: tuple[str, ...] = ()) -> None:
        self.run_dir, self.name = folder / "run", name
        self.run_dir.mkdir(parents=True, exist_ok=True)
        (self.run_dir / "config.json").write_text(text)
        self.log = folder / f"{name}.log"
        self.command = [str(MICROPYTHON), "-m", "bwrouter"]
        self.config = ["--config", str(self.run_dir / "config.json")]
        self.environment = {**os.environ, "MICROPYPATH": f"{lib}:.frozen"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *self.command, name, "--service", *self.config], env=self.environment, stdout=log, stderr=log
            )

    def fault(self) -> str:
        path = self.run_dir / f"fault-{self.name}.txt"
        return path.read_text() if path.exists() else ""

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *words, *self.config]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30, check=False)

    def says(self, words: str) -> None:
        """The fault and the log say it, once, and the process waits rather than ending at once."""
        until(words, lambda: words in self.fault(), 10)
        time.sleep(1.5)
        assert self.process.poll() is None, self.log.read_text()
        log = self.log.read_text()
        assert log.count(words) == 1 and f"{self.name}: error: " in log, log

    def stop(self) -> float:
        """SIGTERM; seconds until it was gone."""
        start = time.monotonic()
        self.process.terminate()
        self.process.wait(15)
        return time.monotonic() - start


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    started: list[Service] = []

    def start(name: str, text: str | dict[str, Any], **options: Any) -> Service:
        if isinstance(text, dict):
            paths = {"run_dir": str(tmp_path / "run"), "state_dir": str(tmp_path / "state")}
            text = json.dumps({"wan": "lo", "listen_port": free_port(), **paths, **text})
        started.append(Service(tmp_path, name, text, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("name", ["agent", "relay"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"wan": ', "is not JSON"),
        ('{"wan": "lo", "gateways": [{"url": "http://x"}]', "is not JSON"),
        ("[]", "must hold one JSON object"),
        ('{"uplinc_kbps": 1}', "unknown setting 'uplinc_kbps'"),
        ('{"listen_port": 0}', "setting listen_port: 0 is not allowed; it wants a whole number from 1 to 65535"),
    ],
)
def test_corrupt_settings(name: str, text: str, said: str, service: Any) -> None:
    one = service(name, text)
    one.says(said)
    shown = one.cli("status")
    assert shown.returncode == 2 and said in shown.stderr
    assert one.stop() < 2


def test_a_port_that_is_taken(service: Any) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.bind(("::", 0))
        one = service("relay", {"listen_port": other.getsockname()[1]})
        one.says("cannot be bound: Address already in use")
        shown = one.cli("status")
        assert shown.returncode == 1 and "relay: UDP port" in shown.stderr
        assert "cannot be bound" in json.loads(one.cli("status", "--json").stdout)["faults"]["relay"]


def test_a_fault_of_the_relay_is_in_the_agents_status(service: Any, tmp_path: Path) -> None:
    agent = service("agent", {})
    (tmp_path / "run/fault-relay.txt").write_text("UDP port 51900 on :: cannot be bound\n")

    def faults() -> Any:
        path = tmp_path / "run/status.json"
        return path.exists() and json.loads(path.read_text()).get("faults")

    assert until("faults in status", faults) == {"relay": "UDP port 51900 on :: cannot be bound"}
    assert agent.fault() == "" and agent.stop() < 5


@pytest.mark.parametrize("form", ["sources", "package"])
@pytest.mark.parametrize("name", ["agent", "relay"])
def test_no_libsodium(name: str, form: str, service: Any, tmp_path: Path) -> None:
    """In the package sodium.py shares a file with what tells of the fault."""
    lib = tmp_path / "lib"
    if form == "sources":
        shutil.copytree(ROOT / "src/bwrouter", lib / "bwrouter", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        command = [sys.executable, str(ROOT / "package/shrink.py"), str(ROOT / "src"), "bwrouter", str(lib)]
        subprocess.run(command, check=True)
    changed = 0
    for source in lib.rglob("*.py"):
        text = source.read_text()
        less = re.sub(r"['\"]libsodium.so.26['\"], ['\"]libsodium.so.23['\"]", "'libsodium.so.0',", text)
        source.write_text(less)
        changed += less != text
    assert changed == 1
    one = service(name, {}, lib=lib)
    one.says("no shared library found, tried: libsodium.so.0: install libsodium")
    check = one.cli("check")
    assert check.returncode == 1 and "libsodium: no shared library found" in check.stdout


def test_a_wan_that_does_not_exist(service: Any, tmp_path: Path) -> None:
    one = service("agent", {"wan": "nosuch0"})

    def rate() -> Any:
        path = tmp_path / "run/status.json"
        return path.exists() and json.loads(path.read_text())["rate"]

    assert until("status", rate)["allowed_kbps"] <= 64
    assert "wan: interface nosuch0 (setting wan) does not exist" in one.cli("check").stdout
    assert one.process.poll() is None and one.fault() == ""


def test_missing_parts_are_named_by_check(service: Any) -> None:
    one = service("agent", {"exit": True, "shaper": True, "exit_tun": "bwnone0"})
    until("keys", (one.run_dir.parent / "state/wallet.key").exists)
    one.environment["PATH"] = "/nonexistent"
    said = json.loads(one.cli("check", "--json").stdout)
    assert "install tc-tiny" in said["tc"] and "install nftables" in said["nft"] and "install ip-tiny" in said["ip"]
    assert said["keys"] == said["settings"] == said["libsodium"] == "ok"


FLASH = """
mount -t tmpfs -o size=16k flash "$0" && {before}
shift; exec "$@"
"""


def flash(folder: Path, before: str) -> tuple[str, ...]:
    """A command's prefix: in a mount namespace of its own, `folder` is a file system of 16 KiB after `before`."""
    folder.mkdir(parents=True, exist_ok=True)
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", FLASH.format(before=before), str(folder), "-")


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "said"),
    [
        ('dd if=/dev/zero of="$0/full" bs=1k 2>/dev/null || true', "No space left on device, errno 28"),
        ('mount -o remount,ro "$0"', "Read-only file system, errno 30"),
    ],
)
def test_keys_that_cannot_be_written(before: str, said: str, service: Any, tmp_path: Path) -> None:
    one = service("agent", {}, prefix=flash(tmp_path / "state", before))
    one.says(said)
    assert "cannot write " + str(tmp_path / "state/identity.key.tmp") in one.fault()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("before", ['dd if=/dev/zero of="$0/full" bs=1k 2>/dev/null || true', 'mount -o remount,ro "$0"'])
def test_with_its_keys_it_runs_on_a_full_or_read_only_flash(before: str, service: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for i, name in enumerate(("identity", "static", "obf", "wallet")):
        (keys / f"{name}.key").write_text(bytes([i + 1] * 32).hex() + "\n")
    one = service("agent", {}, prefix=flash(tmp_path / "state", f'cp {keys}/*.key "$0" && {before}'))
    until("status", (tmp_path / "run/status.json").exists)
    time.sleep(2)
    assert one.process.poll() is None and one.fault() == "", one.log.read_text()
    assert one.stop() < 5
