"""`make bench [ONLY=relay,contracts]`: runs the benchmarks one after the other and prints one table.

What each printed last goes to bench/results.json, an array with one object a line; where ONLY leaves a benchmark out,
that of an earlier run stays. A benchmark that fails is a row that says so. `--table` runs nothing: it writes the table
in bench/results.json between two markers of README.md. The last line is one JSON object; exit code 1: a goal was
missed or a benchmark failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.goals import BENCHES
from bench.suite.table import FAILED, MISSED, as_markdown, as_text, rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results.json"
README = ROOT / "README.md"
LOGS = ROOT / "build" / "bench" / "log"  # what each prints, while it runs
BEGIN, END = "<!-- make bench-table: begin -->", "<!-- make bench-table: end -->"
TARGETS = {name: f"bench-{name}" for name in BENCHES} | {"run": "run", "soak": "soak"}
# Settings of single benchmarks that change what a figure means: kept beside it.
SETTINGS = ("CASES", "REPEATS", "BENCH_ROUNDS", "BENCH_KILLS", "BENCH_BATCHES", "BENCH_SINGLES", "BENCH_LEAVES", "ARCH",
            "MINUTES", "ROUTERS", "BUYERS", "SEED")  # fmt: skip
LONGEST_S = 7200.0


def machine() -> dict[str, Any]:
    """What a figure depends on and this machine does not hide."""
    cpu = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gb": round(memory), "kernel": platform.release(),
            "load": round(os.getloadavg()[0], 1)}  # fmt: skip


def commit(root: Path = ROOT) -> str:
    """The commit that is measured, with + when files other than the results differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results.json")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "") or "unknown"


def last_object(text: str) -> dict[str, Any]:
    """The JSON object of the last line that is one. Empty when there is none."""
    for line in reversed(text.strip().splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
    return {}


def bench(name: str, command: list[str], longest_s: float = LONGEST_S) -> dict[str, Any]:
    """One benchmark as a line of results.json. It never raises for what the benchmark does."""
    begun = time.monotonic()
    out: dict[str, Any] = {
        "bench": name, "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(),
        "machine": machine(), "settings": {k: os.environ[k] for k in SETTINGS if os.environ.get(k)},
    }  # fmt: skip
    log = LOGS / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        child = subprocess.Popen(command, cwd=ROOT, stdout=file, start_new_session=True)
    try:
        child.wait(timeout=longest_s)
        text = log.read_text(errors="replace")
        out["result"] = last_object(text)
        if not out["result"]:
            said = text.strip().splitlines() or ["no output"]
            out["error"] = f"{' '.join(command)} ended with {child.returncode}: {said[-1][:200]}"
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        out |= {"result": {}, "error": f"took longer than {longest_s:.0f} s"}
    except BaseException:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise
    return out | {"exit": child.returncode, "seconds": round(time.monotonic() - begun, 1)}


def load() -> dict[str, dict[str, Any]]:
    """Earlier runs by name. Raises SystemExit that names a file that is no such array."""
    if not RESULTS.exists():
        return {}
    try:
        return {run["bench"]: run for run in json.loads(RESULTS.read_text()) if run["bench"] in BENCHES}
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"bench: {RESULTS.relative_to(ROOT)} is damaged: remove it, or take it from git") from None


def save(runs: dict[str, dict[str, Any]]) -> None:
    ordered = [runs[name] for name in BENCHES if name in runs]
    draft = RESULTS.with_suffix(".tmp")
    draft.write_text("[\n" + ",\n".join(json.dumps(run) for run in ordered) + "\n]\n")
    draft.rename(RESULTS)


def put_table(readme: str, table: str) -> str:
    """README's text with the table between the markers; a section at its end where it has none."""
    if BEGIN not in readme or END not in readme:
        readme = readme.rstrip() + f"\n\n## Figures\n\n{BEGIN}\n{END}\n"
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _stop(number: int, _frame: object) -> None:
    """An end like any other, so that the benchmark that runs is ended, too: it has a session of its own."""
    raise SystemExit(128 + number)


def chosen(only: str) -> list[str]:
    names = [n.removeprefix("bench-") for n in only.replace(",", " ").split()] or list(BENCHES)
    for name in names:
        if name not in BENCHES:
            raise SystemExit(f"bench: ONLY={name}: there is no such benchmark; there are {', '.join(BENCHES)}")
    return names


def main(argv: list[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="make bench", description=__doc__)
    cli.add_argument("--only", default="", help="names, by comma")
    cli.add_argument("--table", action="store_true", help="write README.md's table from bench/results.json")
    options = cli.parse_args(argv)
    names, runs = chosen(options.only), load()
    if options.table:
        if not runs:
            raise SystemExit("bench: there is no bench/results.json: run make bench")
        README.write_text(put_table(README.read_text(), as_markdown(rows(runs), runs)))
        return 0
    signal.signal(signal.SIGTERM, _stop)
    for name in names:
        print(f"bench: {name} ({names.index(name) + 1} of {len(names)})", file=sys.stderr, flush=True)
        runs[name] = bench(name, ["make", TARGETS[name]])
        save(runs)
    found = rows({n: runs[n] for n in names})
    shown = [r for r in found if r.bench in names]
    print(as_text(shown))
    bad = [r for r in shown if r.verdict in (MISSED, FAILED)]
    print(json.dumps({
        "benches": names, "figures": len(shown),
        "missed": [f"{r.bench}: {r.figure}" for r in bad if r.verdict == MISSED],
        "failed": sorted({r.bench for r in bad if r.verdict == FAILED}),
        "seconds": round(sum(runs[n]["seconds"] for n in names), 1),
    }))  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
