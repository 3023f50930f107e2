"""The router behind the page: ubus with the app's own rights, its plugin, UCI, and a real agent and relay.

What stands for something of OpenWrt here is small and named: `ubus` for ubusd, rpcd and uhttpd (rights are those of
luci-app/'s ACL file), plugin.mjs for the ucode interpreter (the plugin's file is the real one), uci_file.py for libuci,
tests/package/standin for what the init script needs (files/etc/init.d/bwrouter itself is real), and `service` for procd.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.agent.parts import MICROPYTHON, ROOT, AgentProcess
from tests.browser.uci_file import UciFile
from tests.package.router import Router as InitScript

APP = ROOT / "luci-app"
ACL: dict[str, Any] = json.loads((APP / "root/usr/share/rpcd/acl.d/luci-app-bwrouter.json").read_text())["luci-app-bwrouter"]
OK, INVALID, NO_METHOD, NOT_FOUND, NO_DATA, DENIED = 0, 2, 3, 4, 5, 6
# What the relay is started anew for; the agent is for any change (files/etc/init.d/bwrouter: start_relay).
RELAY_OPTIONS = ("listen_port", "max_circuits", "workers", "floor_kbps", "mark_le", "log_level")


class Plugin:
    """luci.bwrouter under Node.js."""

    def __init__(self, folder: Path, run_dir: Path, init: Path) -> None:
        order = folder / "bwrouter-order"
        text = (APP / "root/usr/libexec/bwrouter-order").read_text()
        order.write_text(text.replace("/usr/bin/bwrouter", str(folder / "bwrouter")))
        order.chmod(0o755)
        moved = {
            "/var/run/bwrouter": str(run_dir),
            "/var/run/bwrouter-luci": str(folder / "orders"),
            "/usr/libexec/bwrouter-order": str(order),
            "/etc/init.d/bwrouter": str(init),
        }
        file = APP / "root/usr/share/rpcd/ucode/bwrouter.uc"
        command = ["node", str(ROOT / "tests/browser/plugin.mjs"), str(file), json.dumps(moved)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()
        self.serial = 0

    def call(self, method: str, args: dict[str, Any]) -> tuple[int, Any]:
        assert self.process.stdin and self.process.stdout
        with self.lock:
            self.serial += 1
            self.process.stdin.write(json.dumps({"id": self.serial, "method": method, "args": args}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        return answer.get("failed", OK), answer.get("result")

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


class Router:
    """`readonly` takes the write half of the rights away. `calls`: (object, method) of all that was asked."""

    def __init__(self, folder: Path, url: str, fixed: dict[str, Any]) -> None:
        self.folder = folder
        self.agent = AgentProcess(folder / "a", [])
        self.fixed = {**fixed, "wan": "lo", "run_dir": str(self.agent.run_dir), "state_dir": str(self.agent.state_dir)}
        self.uci_path = folder / "bwrouter.uci"
        self.uci_path.write_text((ROOT / "files/etc/config/bwrouter").read_text())
        self.staged: UciFile | None = None
        self.relay: subprocess.Popen[bytes] | None = None
        self.running: dict[str, Any] | None = None
        self.readonly = False
        self.calls: list[tuple[str, str]] = []
        self.orders: list[str] = []
        self.lock = threading.RLock()
        self.agent.run_dir.mkdir(parents=True)
        self.config_path = self.agent.config = self.agent.run_dir / "config.json"
        self._scripts(url)
        self.init = InitScript(folder / "init-root")
        self.plugin = Plugin(folder, self.agent.run_dir, folder / "init")

    def _scripts(self, url: str) -> None:
        """`bwrouter` on the router's PATH, and an init script that tells this object."""
        command = self.folder / "bwrouter"
        command.write_text(
            f"#!/bin/sh\nexport MICROPYPATH='{ROOT}/src:.frozen'\n"
            f'exec \'{MICROPYTHON}\' -m bwrouter "$@" --config \'{self.config_path}\'\n'
        )
        init = self.folder / "init"
        init.write_text(
            f"#!{sys.executable}\nimport sys, urllib.request\n"
            f"urllib.request.urlopen('{url}/-/init/' + sys.argv[1], timeout=60)\n"
        )
        for script in (command, init):
            script.chmod(0o755)

    # -- procd -----------------------------------------------------------------------

    def uci(self) -> UciFile:
        return UciFile(self.uci_path)

    def service(self, action: str) -> None:
        with self.lock:
            self.orders.append(action)
            if action == "stop":
                self.stop()
            elif action in ("start", "restart", "reload"):
                if action == "restart":
                    self.stop()
                self._start()

    def config(self) -> dict[str, Any] | None:
        """config.json as the init script makes it of the UCI file, with `fixed` over it; None where it refuses."""
        self.init.write("etc/config/bwrouter", self.uci_path.read_text())
        (self.init.root / "var/run/bwrouter/config.json").unlink(missing_ok=True)
        self.init.service("start")
        fault = self.agent.run_dir / "fault-service.txt"
        fault.unlink(missing_ok=True)
        text = self.init.read("var/run/bwrouter/config.json")
        if not text:
            fault.write_text(self.init.read("var/run/bwrouter/fault-service.txt"))
            return None
        return {**json.loads(text), **self.fixed}

    def _start(self) -> None:
        uci = self.uci()
        if (uci.get("main") or {}).get("enabled") != "1":
            self.stop()
            return
        wanted = self.config()
        before, self.running = self.running, wanted
        if wanted is None:
            self.stop()
            return
        if before != wanted:
            self._stop_agent()
            self.config_path.write_text(json.dumps(wanted))
            self.agent.process = self._run("agent", self.agent.log)
        if self.relay is None or any((before or {}).get(o) != wanted.get(o) for o in RELAY_OPTIONS):
            self._stop_relay()
            self.relay = self._run("relay", self.folder / "relay.log")

    def _run(self, name: str, path: Path) -> subprocess.Popen[bytes]:
        """A process as procd starts it."""
        command = [str(MICROPYTHON), "-m", "bwrouter", name, "--service", "--config", str(self.config_path)]
        with path.open("ab") as log:
            env = {**os.environ, "MICROPYPATH": f"{ROOT}/src:.frozen"}
            return subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def _stop_agent(self) -> None:
        if self.agent.process is not None:
            self.agent.stop()
            self.agent.process = None

    def _stop_relay(self) -> None:
        if self.relay is not None:
            self.relay.terminate()
            self.relay.wait(10)
            self.relay = None

    def stop(self) -> None:
        with self.lock:
            self._stop_agent()
            self._stop_relay()
            self.running = None

    def close(self) -> None:
        self.stop()
        self.plugin.close()

    # -- ubus ------------------------------------------------------------------------

    def allowed(self, scope: str, name: str, right: str = "") -> bool:
        """Whether a right is in the app's ACL: of `ubus` (object, method), `uci` (package, read or write), `file`."""
        halves = ["read"] if self.readonly else ["read", "write"]
        if scope == "uci":
            return right in halves and name in ACL[right].get("uci", [])
        return any(right in ACL[half].get(scope, {}).get(name, []) for half in halves)

    def ubus(self, name: str, method: str, args: dict[str, Any]) -> list[Any]:
        """[status] or [status, answer]."""
        self.calls.append((name, method))
        with self.lock:
            if name == "uci":
                return self._uci(method, args)
        if (name, method) == ("session", "access"):
            return [OK, {"access": self.allowed(args["scope"], args["object"], args["function"])}]
        if name == "file" and method == "exec":
            return self._exec([args["command"], *args.get("params", [])])
        if name != "luci.bwrouter":
            return [NOT_FOUND]
        if not self.allowed("ubus", name, method):
            return [DENIED]
        code, answer = self.plugin.call(method, args)
        return [code] if code else [code, answer]

    def _exec(self, words: list[str]) -> list[Any]:
        if not self.allowed("file", " ".join(words), "exec"):
            return [DENIED]
        assert words == ["/sbin/logread", "-e", "bwrouter"]
        text = self.agent.log.read_text() if self.agent.log.exists() else ""
        return [OK, {"code": 0, "stdout": "".join(f"{line}\n" for line in text.splitlines() if "bwrouter" in line)}]

    def _uci(self, method: str, args: dict[str, Any]) -> list[Any]:
        if method in ("apply", "confirm", "changes"):  # rights of LuCI's own base, not of the app
            return self._apply(method)
        if not self.allowed("uci", args.get("config", ""), "read" if method == "get" else "write"):
            return [DENIED]
        if method == "get":
            uci = self.staged or self.uci()
            return [OK, {"values": {s[".name"]: {**s, ".index": i} for i, s in enumerate(uci.sections)}}]
        uci = self.staged = self.staged or self.uci()
        if method == "add":
            return [OK, {"section": uci.add(args["type"], args.get("values") or {})}]
        if method == "set":
            return [OK if uci.set(args["section"], args["values"]) else NOT_FOUND]
        if method == "delete":
            return [OK if uci.delete(args["section"], args.get("options")) else NOT_FOUND]
        return [NO_METHOD]

    def _apply(self, method: str) -> list[Any]:
        if method == "changes":
            return [OK, {"changes": {}}]
        if method == "confirm":
            return [OK]
        if self.readonly:
            return [DENIED]
        if self.staged is None:
            return [NO_DATA]
        self.staged.commit()
        self.staged = None
        if self.running is not None or (self.uci().get("main") or {}).get("enabled") == "1":
            self.service("reload")
        return [OK]


def wait_running(router: Router, seconds: float = 20) -> dict[str, Any]:
    """The first status of a running agent that has heard its relay."""
    deadline = time.monotonic() + seconds
    while not ((status := router.agent.status()) and status["relay"]):
        assert time.monotonic() < deadline, router.agent.log.read_text()[-2000:]
        time.sleep(0.1)
    return status
