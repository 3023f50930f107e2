"""tests/halves.py: what fails in company runs once more alone, what fails alone fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import halves

pytestmark = pytest.mark.slow

HERE = Path(__file__).parents[1]
# Passes from its second run on.
SHY = "from pathlib import Path\ndef test_shy():\n    seen = Path(__file__ + '.seen')\n    known = seen.exists()\n    seen.touch()\n    assert known\n"
GOOD, BAD = "def test_good():\n    pass\n", "def test_bad():\n    assert False\n"
ALONE = "import pytest\n@pytest.mark.alone\ndef test_alone():\n    assert {}\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Inside the checkout: names of tests are relative to it."""
    path = halves.ROOT / "build/tmp" / f"halves-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


def code(folder: Path, monkeypatch: pytest.MonkeyPatch, services: str, others: str, alone: bool = True) -> int:
    for name, text in (("services", services), ("others", others), ("alone", ALONE.format(alone))):
        (folder / name).mkdir()
        shutil.copy(HERE / "conftest.py", folder / name)
        (folder / name / f"test_{name}.py").write_text(text)
    monkeypatch.setattr(halves, "SERVICES", (str(folder / "services"),))
    monkeypatch.setattr(halves, "OTHERS", (str(folder / "others"), str(folder / "alone"), "-m"))
    monkeypatch.setattr(halves, "LOG", halves.ROOT / "build/log/test-halves.txt")
    monkeypatch.setattr(halves, "FAILED", folder / "failed.txt")
    return halves.main()


@pytest.mark.parametrize(
    ("services", "others", "alone", "expected"),
    [(GOOD, GOOD, True, 0), (SHY, SHY, True, 0), (GOOD, BAD, True, 1), (BAD, GOOD, True, 1), (GOOD, GOOD, False, 1)],
)
def test_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, services: str, others: str, alone: bool, expected: int
) -> None:
    assert code(folder, monkeypatch, services, others, alone) == expected


def test_it_names_what_failed_beside_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert code(folder, monkeypatch, GOOD, SHY) == 0
    said = capfd.readouterr().out
    assert "failed beside others and run once more, alone: " in said and "test_others.py::test_shy" in said


def test_a_broken_half_gets_no_second_hearing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code(folder, monkeypatch, "import nothing_of_the_kind\n", GOOD) not in (0, 1)
