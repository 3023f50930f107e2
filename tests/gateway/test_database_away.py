"""A ledger whose database goes away: callers are told to come again, and the process lives on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from tests.gateway.cluster import cluster
from tests.gateway.postgres import postgres

pytestmark = pytest.mark.slow


def test_a_database_that_is_away_is_no_failure_of_the_gateway(tmp_path: Path) -> None:
    account = "0x" + "11" * 20
    with postgres() as url, cluster(tmp_path, url, 1) as (rig,):
        assert rig.http.get(f"{rig.url}/v1/accounts/{account}/1", timeout=20).status_code == 200
        with psycopg.connect(url.replace("+psycopg", "")) as c:
            row = c.execute("show data_directory").fetchone()
        assert row
        os.kill(int(Path(row[0], "postmaster.pid").read_text().splitlines()[0]), signal.SIGINT)
        deadline, answers = time.monotonic() + 10, []
        while not answers or answers[-1].status_code == 200:
            assert time.monotonic() < deadline
            answers.append(rig.http.get(f"{rig.url}/v1/accounts/{account}/1", timeout=20))
            time.sleep(0.1)
        for _ in range(5):
            answers.append(rig.http.get(f"{rig.url}/v1/accounts/{account}/1", timeout=20))
        problems = [a for a in answers if a.status_code != 200]
        assert {(a.status_code, a.json()["code"]) for a in problems} == {(503, "ledger")}
        assert problems[0].headers["content-type"] == "application/problem+json"
        assert rig.process is not None and rig.process.poll() is None
