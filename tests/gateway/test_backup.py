"""A backup restores keys, ledger and chain, into either database; what is damaged or in the way is refused."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bwgateway.mint import UNIT_WEI
from tests.gateway.postgres import postgres
from tests.gateway.rig import Relay, Rig

pytestmark = pytest.mark.slow
NET_WEI = UNIT_WEI * 9 // 10


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with postgres() as found:
        yield found


def run(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    rig.write_config()
    return subprocess.run(
        rig.command(*arguments), env=rig.environment, capture_output=True, text=True, check=False
    )


def told(rig: Rig, *arguments: str) -> Any:
    done = run(rig, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_restored_gateway_goes_on(tmp_path: Path, url: str) -> None:
    """From SQLite into SQLite and into PostgreSQL."""
    rig = Rig(tmp_path / "first", epoch_seconds=6).start()
    relay, wallet = Relay(rig).register(), rig.wallet()
    tickets = wallet.buy(1, 64, 3)
    relay.open(*tickets[:2])
    relay.redeem((tickets[0].id, 40, tickets[0].preimage(40)))
    rig.until(lambda: relay.earnings()["balance_wei"] == str(40 * NET_WEI), 40, "claim")
    relay.redeem((tickets[0].id, 50, tickets[0].preimage(50)))
    assert rig.stop() == 0
    file = tmp_path / "backup.tar.gz"
    report = told(rig, "backup", str(file))
    assert report["rows"]["tickets"] == 2 and report["rows"]["accounts"] == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and report["bytes"] == file.stat().st_size

    for choice in ("accept", "refuse"):
        if url and choice == "refuse":
            continue  # the database is one
        other = Rig(tmp_path / choice, epoch_seconds=6, database_url=url)
        restored = told(other, "restore", str(file), "--old-tickets", choice)
        assert restored["old_tickets"] == {"accept": "accepted", "refuse": "refused"}[choice]
        other.start()
        try:
            back = again(relay, other)
            assert back.earnings()["units"] == 50 and back.earnings()["balance_wei"] == str(40 * NET_WEI)
            assert back.redeem((tickets[1].id, 64, tickets[1].top))[0]["ok"]  # opened before the backup
            code = back.open(tickets[2])[0].get("code")
            assert code == (None if choice == "accept" else "expired")
            other.until(lambda back=back: back.earnings()["balance_wei"] == str(114 * NET_WEI), 60, "claim")
        finally:
            assert other.stop() == 0


def again(relay: Relay, rig: Rig) -> Relay:
    """The same relay, at another gateway."""
    twin = Relay(rig)
    twin.identity, twin.id, twin.owner, twin.payout = relay.identity, relay.id, relay.owner, relay.payout
    return twin


def test_a_backup_while_the_gateway_runs(tmp_path: Path) -> None:
    rig = Rig(tmp_path).start()
    try:
        relay, wallet = Relay(rig).register(), rig.wallet()
        relay.open(*wallet.buy(1, 64, 2))
        file = tmp_path / "b.tar.gz"
        assert told(rig, "backup", str(file))["rows"]["tickets"] == 2
        exists = run(rig, "backup", str(file))
        assert exists.returncode == 2 and "exists" in exists.stderr
        nowhere = run(rig, "backup", str(tmp_path / "no" / "b"))
        assert nowhere.returncode == 2 and "no folder" in nowhere.stderr
    finally:
        rig.stop()


def test_what_is_in_the_way_or_damaged(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "first")
    nothing = run(rig, "backup", str(tmp_path / "x"))
    assert nothing.returncode == 2 and "nothing to back up" in nothing.stderr
    rig.start()
    assert rig.stop() == 0
    file = tmp_path / "backup.tar.gz"
    told(rig, "backup", str(file))
    other = Rig(tmp_path / "other")
    unsaid = run(other, "restore", str(file))
    assert unsaid.returncode == 2 and "--old-tickets" in unsaid.stderr
    occupied = run(rig, "restore", str(file), "--old-tickets", "refuse")
    assert occupied.returncode == 2 and "gateway.key" in occupied.stderr

    def rewrite(change: Any) -> Path:
        bad = tmp_path / f"bad{len(list(tmp_path.iterdir()))}.tar.gz"
        with tarfile.open(file) as old, tarfile.open(bad, "w:gz") as new:
            for entry in old:
                content = change(entry.name, old.extractfile(entry).read())  # type: ignore[union-attr]
                if content is not None:
                    entry.size = len(content)
                    new.addfile(entry, io.BytesIO(content))
        return bad

    def manifest(**values: Any) -> Any:
        return lambda name, c: json.dumps(json.loads(c) | values).encode() if name == "manifest.json" else c

    raw = file.read_bytes()
    (tmp_path / "torn").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "text").write_text("not a tar")
    for bad, words in (
        (rewrite(lambda name, c: c + b" " if name == "files/mint.seed" else c), "files/mint.seed: is damaged"),
        (rewrite(lambda name, c: None if name == "tables/tickets.jsonl" else c), "not whole"),
        (rewrite(manifest(format=9)), "format 9"),
        (rewrite(manifest(revision="9999")), "use a newer one"),
        (tmp_path / "torn", "can't be read"),
        (tmp_path / "text", "can't be read"),
        (tmp_path / "none", "can't be read"),
    ):
        refused = run(other, "restore", str(bad), "--old-tickets", "refuse")
        assert refused.returncode == 2 and words in refused.stderr, (words, refused.stderr)
        assert sorted(p.name for p in other.state.iterdir() if p.name != "gateway.db") == []
    assert told(other, "restore", str(file), "--old-tickets", "refuse")["rows"]["counters"] >= 0
