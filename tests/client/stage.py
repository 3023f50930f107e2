"""The whole pool with two exits and a buyer who has the command `bw`; used by the client's lab tests and its benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab import net, proc
from tests.lab.pool import Pool, Router, fresh_folder, read_json, write_json
from tests.lab.proc import RUN, Process, environment, wait_for
from tests.lab.run import only_one

SPARE_EXIT = {"dc2": 22}
FOLDER = RUN / "buyer"
CONFIG = FOLDER / "config.json"
DNSMASQ = (
    "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-", "--no-hosts",
    "--dhcp-leasefile=/dev/null",
)  # fmt: skip


class Stage:
    """A pool that runs, and what a test does with it."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.lab = pool, pool.lab
        self.buyer = pool.lab.nodes["buyer"]
        self.web = pool.lab.nodes["web"]
        self.resolv_conf = FOLDER / "resolv.conf"

    def write_config(self, **more: Any) -> None:
        """The buyer's settings, key and resolv.conf."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        if not self.resolv_conf.exists():
            self.resolv_conf.write_text("# the provider's\nnameserver 198.18.51.1\n")
        units = 24_576
        settings = self.pool.buyer_settings() | {
            "dns": [self.web.v4], "resolv_conf": str(self.resolv_conf), "stock_units": units,
            "spend_limit_units": 4 * units, "max_impact_pct": 100.0, **more,
        }  # fmt: skip
        write_json(CONFIG, settings)
        self.pool.save_wallet()

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "bwclient", *words]

    def bw(self, *words: str, code: int | None = 0, timeout: float = 60.0) -> Any:
        """A command of the buyer to its end: its JSON, or its text. `code`: the exit code that it must have."""
        argv = ["ip", "netns", "exec", self.buyer.ns, *self.argv(*words, "--config", str(CONFIG))]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=timeout, env=environment(), cwd=proc.ROOT
        )
        if code is not None:
            assert done.returncode == code, f"bw {words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if "--json" in words and done.stdout.strip() else done.stdout + done.stderr

    def up(self, *words: str) -> Process:
        """`bw up` in the foreground, or another command that brings a tunnel up, until it is up."""
        argv = self.argv(*(words or ("up",)), "--config", str(CONFIG))
        client = self.pool.processes.start("client", argv, self.buyer.ns)
        self.pool.wait("tunnel", lambda: self.status(client.pid).get("state") == "up", 40, by=client)
        return client

    def status(self, pid: int = 0) -> dict[str, Any]:
        found = read_json(FOLDER / "run" / "status.json")
        return found if not pid or found.get("pid") == pid else {}

    def forget(self, process: Process) -> None:
        """A process that was meant to end."""
        with contextlib.suppress(ValueError):
            self.pool.processes.started.remove(process)

    def wait(self, what: str, ready: Any, seconds: float = 20.0) -> float:
        return wait_for(what, ready, seconds)

    def router(self, place: int, status: dict[str, Any] | None = None) -> Router:
        """The router at a place of the path now in use; -1: the exit."""
        found = self.pool.by_id((status or self.status())["hops"][place]["id"])
        assert found
        return found

    def has_spare(self) -> bool:
        s = self.status()
        return s.get("state") == "up" and bool(s.get("steering", {}).get("spare"))

    def kill(self, router: Router) -> None:
        """kill -9 of its relay."""
        assert router.relay
        with contextlib.suppress(ProcessLookupError):
            os.kill(router.relay.pid, signal.SIGKILL)
        router.relay.popen.wait()
        self.forget(router.relay)

    def revive(self, router: Router) -> None:
        env = dict(x.split("=", 1) for x in self.pool.router_env())
        name = f"{router.node.name}-relay"
        router.relay = self.pool.processes.start(name, router.relay_command(), router.node.ns, env)

    def cut(self, router: Router, yes: bool) -> None:
        """The router's line loses every packet, or none."""
        rules = "table inet cut { chain a { type filter hook prerouting priority raw; iifname \"wan0\" drop; }; }\n"
        undo = "table inet cut\ndelete table inet cut\n"
        net.run_in(router.node.ns, ["nft", "-f", "-"], text=undo + (rules if yes else ""))

    def tidy(self, before: list[Process]) -> None:
        """End every process that is not of `before` nor a router's, open the switch, revive and reconnect routers."""
        routers = list(self.pool.routers.values())
        ours = {id(p) for p in [*before, *(x for r in routers for x in (r.agent, r.relay))]}
        for process in [p for p in self.pool.processes.started if id(p) not in ours]:
            process.stop(8)
            self.forget(process)
        self.bw("down", code=None)
        for router in routers:
            self.cut(router, False)
            if router.relay is None or not router.relay.alive():
                if router.relay is not None:
                    self.forget(router.relay)
                self.revive(router)

    def with_names(self, *argv: str) -> list[str]:
        """A command that sees the buyer's resolv.conf in the place of the machine's, as any program would."""
        bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bind, str(self.resolv_conf), *argv]

    def server(self, name: str, argv: list[str], said: str = "ready") -> Process:
        """A server in the web's namespace, once its log has the word."""
        process = self.pool.processes.start(name, argv, self.web.ns)
        self.pool.wait(name, lambda: said in process.tail(40), by=process)
        return process

    def names(self, name: str) -> Process:
        """A name server at the site, which knows one name."""
        argv = ["dnsmasq", *DNSMASQ, f"--address=/{name}/{self.web.v4}", f"--address=/{name}/{self.web.v6}"]
        return self.server("names", [*argv, "--no-resolv"], "started")

    def python(self, name: str, *argv: str) -> Process:
        """A module in the buyer's namespace."""
        return self.pool.python(name, self.buyer, *argv)


@contextmanager
def stage(
    line: net.Line | None = None, seconds: float = 280.0, size: int = 1 << 20, homes: int = 4
) -> Iterator[Stage]:
    """A pool up to its directory; everything is gone afterwards."""
    processes = proc.Processes()
    end = time.monotonic() + seconds
    with only_one():
        fresh_folder()
        with net.Lab(line, homes, more=SPARE_EXIT) as lab:
            pool = Pool(lab, processes, size, lambda: end - time.monotonic())
            try:
                pool.file = None
                start_web(pool, size)
                pool.start_gateway()
                pool.make_routers()
                pool.fund()
                pool.start_routers()
                pool.wait_listed()
                made = Stage(pool)
                made.write_config()
                yield made
            finally:
                processes.stop()
                if pool.file:
                    pool.file.path.unlink(missing_ok=True)


def start_web(pool: Pool, size: int) -> None:
    """Web server with a fresh file, and the echo server; no captures, which cost time."""
    from tests.lab import web

    pool.file = web.make_file(RUN / "web", size)
    servers = [
        pool.python("web", pool.lab.nodes["web"], "tests.lab.web", "--folder", str(RUN / "web")),
        pool.python("echo", pool.lab.nodes["web"], "tests.client.echo", "serve"),
    ]
    for server in servers:
        pool.wait(server.name, lambda server=server: "ready" in server.tail(), by=server)  # type: ignore[misc]


__all__ = ["CONFIG", "DNSMASQ", "FOLDER", "Path", "Stage", "stage"]
