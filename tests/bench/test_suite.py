"""`make bench`: what becomes of a benchmark that succeeds, misses, fails, says nothing or never ends; the table of it all."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import goals
from bench.suite import __main__ as suite
from bench.suite.table import FAILED, MISSED, NOT_RUN, PASS, as_markdown, as_text, rows

ROOT = Path(__file__).parents[2]
# Benchmarks with constants of their own: file, name of the constant, key of a figure (or a dict's name and no key).
KEPT_APART = (
    ("bench/audit.py", "GOAL_ERROR", "audit", "worst_error_pct"),
    ("bench/audit.py", "GOAL_SHARE", "audit", "audit_share_pct"),
    ("bench/audit.py", "GOAL_INFLATION", "audit", "inflation_30pct_liars"),
    ("bench/audit.py", "GOAL_CAUGHT", "audit", "catch_probability"),
    ("bench/guest.py", "GOALS", "guest", ""),
    ("bench/client/__main__.py", "GOALS", "client", ""),
)


def run(name, script, longest_s=20.0):
    return suite.bench(name, ["sh", "-c", script], longest_s)


def verdicts(runs):
    return {(r.bench, r.figure): r.verdict for r in rows(runs)}


def test_the_last_json_line_is_the_result_whatever_comes_before_and_after():
    found = run("luci", "echo '{\"poll_cpu_ms\": 99}'; echo table; echo '{\"poll_cpu_ms\": 4.2}'; echo bye; exit 1")
    assert found["result"] == {"poll_cpu_ms": 4.2}
    assert found["machine"]["cores"] >= 1 and found["seconds"] >= 0 and found["exit"] == 1
    assert verdicts({"luci": found})["luci", "CPU of a poll of the owner's page"] == PASS


def test_a_missed_goal_a_failure_and_a_bench_that_was_not_run_are_rows():
    missed = run("luci", "echo '{\"poll_cpu_ms\": 5.1}'")
    assert verdicts({"luci": missed})["luci", "CPU of a poll of the owner's page"] == MISSED
    for script in ("exit 3", "echo no json here", "echo '{\"other\": 1}'", "echo '[1]'", "echo '{\"poll_cpu_ms\": \"5\"}'"):
        failed = run("luci", script)
        assert verdicts({"luci": failed})["luci", "CPU of a poll of the owner's page"] == FAILED, script
    assert {v for (b, _), v in verdicts({"luci": missed}).items() if b != "luci"} == {NOT_RUN}


def test_a_bench_that_never_ends_is_ended_with_its_children():
    begun = time.monotonic()
    found = run("luci", "sleep 60 & sleep 61", 0.5)
    assert time.monotonic() - begun < 10
    assert "longer than" in found["error"] and found["result"] == {}


def test_a_peer_and_a_goal_may_be_figures_of_the_same_run():
    runs = {
        "relay": run("relay", "echo '{\"relay_ms_per_mb\": 4, \"tor_ms_per_mb\": 8, \"relay_rss_kb\": 7000}'"),
        "client": run("client", "echo '{\"setup_ms\": 420.0, \"setup_goal_ms\": 410.0, \"leaked_packets\": 0}'"),
    }
    found = {(r.bench, r.figure): r for r in rows(runs)}
    tor = found["relay", "CPU of a hop, MicroPython, beside Tor"]
    assert (tor.peer, tor.ratio, tor.verdict) == ("Tor 8 ms/MB", "0.50", PASS)
    setup = found["client", "set-up of 3 hops, 40 ms links"]
    assert (setup.goal, setup.verdict) == ("<= 410 ms", MISSED)
    assert found["client", "packets outside the tunnel"].verdict == PASS
    assert found["relay", "memory of a relay"].verdict == MISSED
    assert "Tor 8 ms/MB" in as_text(rows(runs))


def test_results_are_an_array_with_one_object_a_line_and_keep_what_was_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(suite, "commit", lambda: "abc")
    first = {"luci": run("luci", "echo '{\"poll_cpu_ms\": 1}'"), "mint": run("mint", "echo '{}'")}
    suite.save(first)
    lines = suite.RESULTS.read_text().splitlines()
    assert lines[0] == "[" and lines[-1] == "]" and len(lines) == 4
    assert [json.loads(x.rstrip(","))["bench"] for x in lines[1:-1]] == ["mint", "luci"]
    assert suite.load() == first
    suite.RESULTS.write_text("[{")
    with pytest.raises(SystemExit, match="results.json is damaged"):
        suite.load()


def test_the_readme_gets_the_table_once_and_nothing_else_changes():
    readme = "# x\n\nText.\n"
    once = suite.put_table(readme, "| a |")
    assert once.startswith("# x\n\nText.\n\n## Figures\n") and "| a |" in once
    twice = suite.put_table(once, "| b |")
    assert twice == once.replace("| a |", "| b |")


def test_an_unknown_name_is_refused():
    with pytest.raises(SystemExit, match="ONLY=speed: there is no such benchmark"):
        suite.chosen("relay,speed")
    assert suite.chosen("bench-relay, mint") == ["relay", "mint"]


def test_every_goal_stands_in_one_place():
    for file, constant, bench, key in KEPT_APART:
        tree = ast.parse((ROOT / file).read_text())
        values = [
            ast.literal_eval(n.value)
            for n in tree.body
            if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == constant and not isinstance(n.value, ast.Call)
        ]
        for value in values:
            known = goals.limits(bench)
            own = value if isinstance(value, dict) else {key: value}
            assert {k: own[k] for k in own if k in known} == {k: known[k] for k in own if k in known}, file
    makefile = (ROOT / "Makefile").read_text()
    for target in suite.TARGETS.values():
        assert f"\n{target}:" in makefile, target


def test_readme_shows_what_the_results_say():
    if suite.BEGIN not in suite.README.read_text() or not suite.RESULTS.exists():
        pytest.skip("README.md has no table yet: make bench-table")
    runs = suite.load()
    text = suite.README.read_text()
    assert text == suite.put_table(text, as_markdown(rows(runs), runs)), "run make bench-table"


def test_a_suite_that_is_stopped_stops_its_benchmark(tmp_path):
    """The benchmark has a session of its own, which no signal to the suite reaches by itself."""
    told = tmp_path / "told"
    script = (
        "from bench.suite import __main__ as s; from pathlib import Path; "
        f"s.TARGETS = {{n: {str(told)!r} for n in s.TARGETS}}; s.RESULTS = Path({str(tmp_path / 'results')!r}); "
        f"s.LOGS = Path({str(tmp_path)!r}); "
        "real = s.bench; "
        "s.bench = lambda name, command: real(name, ['sh', '-c', 'echo $$ >' + command[1] + '; exec sleep 60']); "
        "s.main(['--only', 'luci'])"
    )
    suite_ = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while not (told.exists() and told.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.05)
    child = int(told.read_text())
    suite_.send_signal(signal.SIGTERM)
    assert suite_.wait(20) == 128 + signal.SIGTERM
    until = time.monotonic() + 5
    while alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(child)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_results_of_earlier_benchmarks_are_no_change_of_what_is_measured(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "bench").mkdir()
    for name in ("bench/results.json", "relay.py"):
        (tmp_path / name).write_text("[]\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    assert (clean := suite.commit(tmp_path)) not in ("", "unknown") and not clean.endswith("+")
    (tmp_path / "bench" / "results.json").write_text("[1]\n")
    assert suite.commit(tmp_path) == clean
    (tmp_path / "relay.py").write_text("1\n")
    assert suite.commit(tmp_path) == clean + "+"
