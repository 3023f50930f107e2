"""The benchmark of the shaper stops what it has started, also when a scene fails half way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.shaper import line, plan
from qemu.guest import GuestError

pytestmark = [pytest.mark.slow, pytest.mark.root]


def test_a_guest_that_fails_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The scene is never handed out then: nobody else could stop what it started."""
    seen: list[str] = []

    class Failing:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> None:
            seen.append("started")

        def run(self, command: str) -> str:
            raise GuestError(f"it has no {command.split()[0]}")

        def close(self) -> None:
            seen.append("stopped")

    monkeypatch.setattr(line, "Guest", Failing)
    with pytest.raises(GuestError, match="it has no ip"):
        line.Scene(tmp_path, 2000, "cake")
    assert seen == ["started", "stopped"]


@pytest.mark.parametrize("mbps", plan.UPLINKS)
def test_a_circuit_has_tickets_for_all_that_its_buyer_sends(mbps: int) -> None:
    """At 300 Mbit/s the last household met a circuit whose 32 tickets were used up."""
    kinds = list(plan.KINDS)
    found = plan.parts(mbps, kinds)
    assert [k for part in found for k in part] == kinds
    for part in found:
        seconds = plan.SETTLE + sum(plan.KINDS[k] + 5 for k in part)
        assert seconds * mbps * plan.MORE * 1e6 / 8 < plan.PAID_FOR
