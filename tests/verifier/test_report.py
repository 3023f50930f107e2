"""What a verifier says of itself: report, screen, plots; and the journal that it all comes from."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bwverifier import display, evidence, habits, plots, report
from bwverifier.cli import app
from bwverifier.duty import pack
from bwverifier.journal import Audit, Journal, Record, Root, Task
from bwverifier.probe import SLOW, Measurement

RELAY = b"\x5a" * 32


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


def fill(journal):
    m = Measurement(RELAY, bytes(32), reason=SLOW, kbps=20_000, latency_ms=31, loss_bps=12)
    body = evidence.canonical({"why": "slow: 20000 of 40000 kbit/s direct, the best of 2"})
    for epoch in (7, 8):
        journal.add(Audit(relay=RELAY, epoch=epoch, place=1, report=f"{pack(m):064x}", salt=bytes(32), state="judged",
                          evidence=body))  # fmt: skip
        for kind, kbps in (("burst", 20_000), ("covert", -1)):
            journal.note(Record(relay=RELAY, epoch=epoch, kind=kind, time=1_800_000_000, reason=SLOW, kbps=kbps,
                                why="words", body=kind.encode()))  # fmt: skip
    journal.seal(Root(epoch=7, root=b"r" * 32, signature=bytes(65), posted=True))


def test_a_report_says_why(journal, tmp_path):
    fill(journal)
    found = report.gather(tmp_path / "journal.sqlite", 20)
    assert [a["epoch"] for a in found] == [8, 7]
    assert found[1]["root"] == (b"r" * 32).hex() and not found[0]["root"]
    a = found[0]
    assert (a["reason"], a["kbps"], a["latency_ms"], a["loss_bps"]) == ("slow", 20_000, 31, 12)
    assert a["why"].startswith("slow: 20000 of 40000") and [m["kind"] for m in a["measurements"]] == ["burst", "covert"]
    assert len(report.rows(found)) == 6
    assert report.gather(tmp_path / "journal.sqlite", 20, "5b") == []
    with pytest.raises(FileNotFoundError, match="no journal"):
        report.gather(tmp_path / "none.sqlite", 1)


def test_the_command_reports_and_names_what_is_wrong(journal, tmp_path):
    fill(journal)
    config = tmp_path / "v.json"
    config.write_text(json.dumps({"gateway": {"url": "http://h:1", "key": "ab" * 32}, "rpc_url": "http://h:2"}))
    said = CliRunner().invoke(app, ["report", "--config", str(config), "--json", "--relay", "5A"])
    assert said.exit_code == 0 and len(json.loads(said.stdout)) == 2
    assert CliRunner().invoke(app, ["report", "--config", str(tmp_path / "nothing")]).exit_code == 2
    config.write_text(config.read_text().replace('"rpc_url"', '"rpc"'))
    assert CliRunner().invoke(app, ["run", "--config", str(config)]).exit_code == 2


def test_a_restart_finds_its_tasks_and_signs_nothing_twice(journal, tmp_path):
    first = Task(epoch=3, relay=RELAY, kind="burst", at=100, done=False)
    assert journal.plan(first)
    again = Journal(tmp_path / "journal.sqlite")
    assert not again.plan(Task(epoch=3, relay=RELAY, kind="burst", at=200, done=False))
    assert again.due(3, 99) is None and again.due(4, 200) is None
    found = again.due(3, 100)
    assert found.at == 100
    again.finish(found)
    assert journal.due(3, 500) is None
    fill(journal)
    assert journal.unsealed(9) == [8]
    one = journal.seal(Root(epoch=8, root=b"1" * 32, signature=bytes(65), posted=False))
    two = again.seal(Root(epoch=8, root=b"2" * 32, signature=bytes(65), posted=False))
    assert one.root == two.root == b"1" * 32
    journal.posted(8)
    assert journal.unsealed(9) == []
    again.close()


def test_the_screen_shows_the_epoch():
    status = {
        "address": "0xA", "epoch": 9, "chain_time": 1000, "doing": "burst of 5a5a", "error": "no node",
        "commit_until": 1100, "epoch_ends": 1300, "relays": 3, "purse": {"stock_units": 160},
        "tasks": [{"relay": RELAY.hex(), "kind": "burst", "at": 1050, "done": False}],
        "events": [(1_800_000_000.0, "epoch 9: [bold]on the committee")],
    }  # fmt: skip
    console = Console(width=120, record=True, file=open(os.devnull, "w"))
    console.print(display.screen(status, 600))
    text = console.export_text()
    for part in ("epoch 9", "100 s to commit", "in 50 s", "10.0 MiB", "delayed: no node", "[bold]on the committee"):
        assert part in text


def test_plots_are_drawings(tmp_path):
    made = plots.write(tmp_path, 400, 0.02, 1)
    assert len(made) == 3
    for path in made:
        drawn = ET.parse(path).getroot()
        assert drawn.tag.endswith("svg") and len(drawn.findall("{*}path")) >= 9
    assert habits.mean_bytes("web") > habits.mean_bytes("short") > 50_000
