"""The dual-runtime runner itself: what goes wrong under MicroPython alone must fail the run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ROOT / "tests" / "unit"


def run(folder: Path, source: str, **environment: str) -> subprocess.CompletedProcess:
    """Run pytest on one unit test file in a project of its own."""
    unit = folder / "tests" / "unit"
    unit.mkdir(parents=True)
    for name in ("conftest.py", "harness.py", "run_mp.py"):
        shutil.copy(OURS / name, unit)
    (unit / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    binary = ROOT / "build" / "micropython" / "native" / "micropython"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests/unit"]
    merged = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "MICROPYTHON": str(binary),
        "PYTHONPATH": "tests/unit",
        **environment,
    }
    return subprocess.run(command, cwd=folder, env=merged, capture_output=True, text=True, timeout=60, check=False)


def test_both_runtimes_run(tmp_path):
    done = run(
        tmp_path, "import sys\ndef test_a():\n    assert sys.implementation.name in ('cpython', 'micropython')\n"
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('look'); assert sys.implementation.name == 'cpython'", "look"),
        ("if sys.implementation.name == 'micropython': sys.exit(0)", "ended with code 0 before"),
        ("import typing", "no module named 'typing'"),
    ],
)
def test_a_failure_under_micropython_alone_fails(tmp_path, body, said):
    done = run(tmp_path, f"import sys\ndef test_a():\n    {body}\ndef test_b():\n    pass\n")
    assert done.returncode == 1 and said in done.stdout, done.stdout
    assert "test_a[micropython]" in done.stdout and "FAILED tests/unit/test_it.py::test_a -" not in done.stdout


def test_a_file_that_does_not_load_fails(tmp_path):
    done = run(tmp_path, "import dataclasses\ndef test_a():\n    pass\n")
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout, done.stdout


def test_no_interpreter_fails(tmp_path):
    done = run(tmp_path, "def test_a():\n    pass\n", MICROPYTHON=str(tmp_path / "none"))
    assert done.returncode == 1 and "make micropython" in done.stdout, done.stdout


def test_fixtures_are_refused(tmp_path):
    done = run(tmp_path, "def test_a(tmp_path):\n    pass\n")
    assert done.returncode != 0 and "without fixtures" in done.stdout, done.stdout
