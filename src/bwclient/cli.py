"""`bw`: the tunnel's commands. Those for money are in cli_money.py.

Exit codes: 0 good, 1 not, 2 a wrong setting or command line, which is named with what is allowed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_money
from . import settings as settings_module
from .files import read_json
from .show import WORDS, Fail, amount, emit, err, out, pairs, progress, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Private tunnel through the bwrouter network.")
Config = Annotated[str, typer.Option("--config", "-c", help="settings, a JSON file; else BW_CONFIG or the usual place")]
Json = Annotated[bool, typer.Option("--json", help="raw values, for programs")]
Hops = Annotated[int | None, typer.Option("--hops", min=1, max=5, help="relays between here and the internet")]
ExitRegion = Annotated[int | None, typer.Option("--exit-region", min=0, help="region of the exit; 0: any")]
Profile = Annotated[str | None, typer.Option("--profile", help="bulk (throughput) or interactive (latency)")]
Pad = Annotated[str | None, typer.Option("--pad", help="none, buckets (sizes) or constant (sizes and times)")]
Priority = Annotated[int | None, typer.Option("--priority", help="1, 2 or 4 units paid for each; served first")]


def load(config: str, **options: Any) -> settings_module.Settings:
    """The settings with the command's options; ends the command when they are wrong."""
    try:
        return settings_module.load(config or settings_module.default_file(), options)
    except settings_module.SettingsError as e:
        raise Fail(str(e), 2) from e


def _root(what: str) -> None:
    if os.geteuid() != 0:
        raise Fail(f"bw {what} changes the machine's routes: run it as root, or use `bw proxy`, which needs no root")


def _running(s: settings_module.Settings) -> dict[str, Any]:
    """The last status; its state is `crashed` when its process is gone without having said so."""
    status = read_json(Path(s.run_dir) / "status.json")
    if status and status.get("state") not in ("down", "failed", "lost") and not _alive(int(status["pid"])):
        status["state"] = "crashed"
    return status


def _alive(pid: int) -> bool:
    try:
        return b"bwclient" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@app.command(short_help="this machine through the tunnel (root)")
def up(
    config: Config = "", hops: Hops = None, exit_region: ExitRegion = None, profile: Profile = None, pad: Pad = None,
    priority: Priority = None, detach: Annotated[bool, typer.Option("--detach", help="return once it is up")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send this machine's traffic through the tunnel until interrupted (root)."""
    s = load(config, hops=hops, exit_region=exit_region, profile=profile, padding=pad, priority=priority)
    _root("up")
    _run(s, detach, as_json)


@app.command(short_help="a router's whole LAN through the tunnel (root)")
def lan(
    interface: Annotated[str, typer.Argument(help="the LAN's interface, br-lan say")], config: Config = "",
    hops: Hops = None, exit_region: ExitRegion = None, profile: Profile = None, pad: Pad = None,
    priority: Priority = None, detach: Annotated[bool, typer.Option("--detach")] = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Send a router's whole LAN, and the router itself, through the tunnel (root)."""
    if not Path("/sys/class/net", interface).exists():
        there = ", ".join(sorted(p.name for p in Path("/sys/class/net").iterdir()))
        raise Fail(f"there is no interface {interface}; there are {there}", 2)
    s = load(
        config, hops=hops, exit_region=exit_region, profile=profile, padding=pad, priority=priority, lan=interface
    )
    _root("lan")
    _run(s, detach, as_json)


def _run(s: settings_module.Settings, detach: bool, as_json: bool) -> None:
    from .up import Up

    if detach:
        return _detach(s, as_json)
    raise typer.Exit(Up(s, say_json if as_json else None).run())


def say_json(state: str, reason: str) -> None:
    """Each state as one line of JSON."""
    print(json.dumps({"state": state, "reason": reason}), flush=True)


def _detach(s: settings_module.Settings, as_json: bool) -> None:
    """The same command in the background; returns once it is up."""
    words = [w for w in sys.argv[1:] if w not in ("--detach", "--json")]
    log = Path(s.run_dir) / "client.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as to:
        child = subprocess.Popen(
            [sys.executable, "-m", "bwclient", *words], start_new_session=True, stdin=subprocess.DEVNULL, stdout=to,
            stderr=to,
        )  # fmt: skip
    with progress("Starting", None, as_json) as move:
        while True:
            status = read_json(Path(s.run_dir) / "status.json")
            if status.get("pid") == child.pid:
                built = [h["ready"] for h in status.get("hops", [])]
                hop = f", hop {sum(built) + 1} of {len(built)}" if status["state"] == "building" and built else ""
                move(None, WORDS.get(status["state"], status["state"]) + hop)
                if status["state"] == "up":
                    break
            if child.poll() is not None:
                raise Fail(f"the tunnel did not come up: {status.get('reason', '')} (log: {log})")
            time.sleep(0.1)
    if not emit(status, as_json):
        out.print(f"up through {len(status['hops'])} hops after {status['setup_ms']:.0f} ms of set-up")


@app.command(short_help="end the tunnel and restore the network (root)")
def down(config: Config = "", as_json: Json = False) -> None:
    """End the tunnel, settle, and restore the network exactly; after a crash too (root)."""
    from .killswitch import SwitchError
    from .machine import restore
    from .resolver import ResolverError

    s = load(config)
    _root("down")
    status = _running(s)
    pid = int(status.get("pid", 0))
    if pid and _alive(pid) and status["state"] not in ("down", "failed", "lost"):
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 20
        while _alive(pid):
            if time.monotonic() > end:
                raise Fail(f"the client (pid {pid}) does not end; kill -9 {pid}, then `bw down` again")
            time.sleep(0.05)
    try:
        done = restore(s)
    except (SwitchError, ResolverError, OSError) as e:
        raise Fail(str(e)) from e
    if not emit({"ended": pid, "restored": done}, as_json):
        out.print("down" + (f"; restored what a crash left: {', '.join(done)}" if done else ""))


@app.command(short_help="how the tunnel stands; exit code 0 when it is up")
def status(config: Config = "", as_json: Json = False) -> None:
    """How the tunnel stands: 0 when it is up."""
    s = load(config)
    found = _running(s)
    if not found:
        emit({"state": "down", "reason": "the tunnel was not up yet"}, as_json)
        raise Fail(f"no status at {s.run_dir}/status.json: the tunnel was not up yet; `bw up` starts it")
    if not emit(found, as_json):
        pairs(
            [
                ("state", ": ".join(x for x in (WORDS.get(found["state"], found["state"]), found["reason"]) if x)),
                ("inside", f"{found.get('inner_v4', '-')}  {found.get('inner_v6', '')}"),
                ("moved", f"{found.get('inner_bytes_down', 0):,} B down, {found.get('inner_bytes_up', 0):,} B up"),
                ("paid", amount(sum(found.get("paid", {}).values())) + " over all hops and circuits"),
                ("re-routed", f"{found.get('reroutes', 0)} times"),
                ("leak protection", "closed" if found.get("protected") else "off"),
            ]
        )
    raise typer.Exit(0 if found["state"] in ("up", "moving", "rerouting", "new exit") else 1)


@app.command(short_help="the path in use and the spare one")
def paths(config: Config = "", as_json: Json = False) -> None:
    """The path in use and the spare one: hops, round trips, what each was paid."""
    s = load(config)
    found = _running(s)
    if not found.get("hops"):
        raise Fail("no path: the tunnel is not up; `bw up` starts it")
    steering = found.get("steering", {})
    document = {"hops": found["hops"], **steering}
    if emit(document, as_json):
        return
    rtt = steering.get("rtt_ms", [])
    rows = [
        (i + 1, h["id"][:8], h["address"], h["region"], "exit" if h["exit"] else "", rtt[i] if i < len(rtt) else "-",
         f"{h['used_units']}/{h['paid_units']}")
        for i, h in enumerate(found["hops"])
    ]  # fmt: skip
    table(["hop", "relay", "address", "region", "", "rtt ms", "used/paid"], rows)
    spare = steering.get("spare") or []
    out.print("spare: " + (" > ".join(r[:8] for r in spare) if spare else "none now"))


@app.command(short_help="the verified directory, with each relay's weight")
def relays(config: Config = "", as_json: Json = False) -> None:
    """The relays of the verified directory, with what is known of each and its weight."""
    from bwrouter.platform import net

    from .directory import DirectoryError
    from .path import weight
    from .relays import Relays

    s = load(config)
    known = Relays(s)
    try:
        known.refresh()
    except DirectoryError as e:
        raise Fail(f"{e}: is the gateway's url right, and is it reachable?") from e
    facts = known.facts()
    rows = []
    for d in sorted(known.listed, key=lambda d: -weight(d, facts[d.relay], s.profile)):
        k = facts[d.relay]
        rows.append(
            {
                "id": d.relay.hex(), "region": d.region, "exit": bool(d.exit), "rate_kbps": d.rate,
                "v4": f"{net.ip_text(d.v4)}:{d.port4}" if d.port4 else "",
                "v6": f"[{net.ip_text(d.v6)}]:{d.port6}" if d.port6 else "", "score": k.score,
                "audited_kbps": k.audited_kbps, "stake_bwt": k.stake_bwt, "owner": k.owner,
                "rtt_ms": round(k.rtt_ms, 1), "weight": round(weight(d, k, s.profile), 1),
            }
        )  # fmt: skip
    if emit({"relays": rows, "refused": known.refused}, as_json):
        return
    if not rows:
        raise Fail("the gateway lists no relay now" + (f"; refused: {known.refused}" if known.refused else ""))
    table(
        ["relay", "region", "address", "Mbit/s", "exit", "rtt ms", "weight"],
        [(r["id"][:12], r["region"], r["v4"] or r["v6"], r["rate_kbps"] / 1000, "exit" if r["exit"] else "",
          r["rtt_ms"] or "-", r["weight"]) for r in rows],
    )  # fmt: skip


@app.command(short_help="audit this machine's network as others see it")
def check(
    config: Config = "",
    stun: Annotated[str, typer.Option(help="HOST:PORT of a STUN server, which tells the address that it sees")] = "",
    download: Annotated[str, typer.Option(help="URL that is fetched for some seconds")] = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Audit this machine's network as it is now, and say in words what others see."""
    from .audit import audit, download_row, stun_row

    s = load(config)
    with progress("Looking at this machine's network", None, as_json) as move:
        rows = [stun_row(stun)] if stun else []
        rows += [download_row(download, move)] if download else []
        found = audit(s, _running(s), rows)
    if not emit(found, as_json):
        table(["what", "found", ""], [(r["what"], r["found"], "good" if r["ok"] else "BAD") for r in found["rows"]])
        out.print(found["verdict"], soft_wrap=not out.is_terminal)
    raise typer.Exit(0 if found["ok"] else 1)


@app.command(short_help="a tunnel for single programs; needs no root")
def proxy(
    config: Config = "", socks: Annotated[int, typer.Option(help="port of SOCKS5 on localhost")] = 1080,
    http: Annotated[int, typer.Option(help="port of HTTP CONNECT on localhost; 0: none")] = 8118,
    hops: Hops = None, exit_region: ExitRegion = None, profile: Profile = None, pad: Pad = None,
    priority: Priority = None, as_json: Json = False,
) -> None:  # fmt: skip
    """A tunnel for programs that are told to use it; needs no root and changes nothing on the machine."""
    from .proxy import serve

    s = load(config, hops=hops, exit_region=exit_region, profile=profile, padding=pad, priority=priority)
    raise typer.Exit(serve(s, socks, http, say_json if as_json else None))


cli_money.register(app, load)


def main() -> None:
    """The console entry."""
    try:
        app(prog_name="bw")
    except BrokenPipeError:
        sys.exit(1)
    except json.JSONDecodeError as e:
        err.print(f"an answer was not JSON: {e}", markup=False)
        sys.exit(1)
