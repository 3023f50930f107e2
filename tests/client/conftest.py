"""One pool for all lab tests of this folder; each test finds it as the first one did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.stage import Stage, stage


@pytest.fixture(scope="package")
def pool() -> Iterator[Stage]:
    with stage(seconds=600) as made:
        yield made


@pytest.fixture
def lab(pool: Stage) -> Iterator[Stage]:
    """The pool; whatever the test leaves running or changed is ended and undone, so that the next one can pass."""
    before = list(pool.pool.processes.started)
    yield pool
    pool.tidy(before)
