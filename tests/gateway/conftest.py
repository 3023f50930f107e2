"""Gateways for tests: `rig` is shared by a module, `fresh_rig` belongs to one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.rig import ROOT, Rig


@pytest.fixture(scope="session", autouse=True)
def contracts() -> None:
    if not (ROOT / "build" / "contracts" / "Settlement.json").exists():
        pytest.fail("build/contracts is missing: run make setup", pytrace=False)


def _run(folder: Path, **changes: object) -> Iterator[Rig]:
    rig = Rig(folder, **changes).start()
    try:
        yield rig
    finally:
        if rig.process is not None and rig.process.poll() is None:
            assert rig.stop() == 0, rig.log.read_text()[-3000:]


@pytest.fixture(scope="module")
def database_url() -> str:
    """Modules that run on both databases override this by `both_databases`."""
    return ""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Rig]:
    yield from _run(tmp_path_factory.mktemp("gateway"), database_url=database_url)


@pytest.fixture
def fresh_rig(tmp_path: Path) -> Iterator[Rig]:
    yield from _run(tmp_path)
