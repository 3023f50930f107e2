"""Constants that package/constants.py writes where they are used."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def constants():
    spec = importlib.util.spec_from_file_location("constants", ROOT / "package/constants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIZES = """
from micropython import const
_A = const(4)
UNIT = _A * 16384  # said in the module itself, too
HALF = UNIT // 2
NAME = "text"
count = 3
LIMIT = 7
if NAME:
    LIMIT = 8
SEEN = 1
"""
USER = """
from .wire import sizes as S
from .wire.sizes import UNIT
from .other import S as T
HALF = 5
def f(UNIT, n=S.UNIT):
    return UNIT + n + S.HALF + HALF + T.UNIT
def g():
    S.SEEN = 2
    return S.LIMIT, S.NAME, S.count, S.SEEN, UNIT
"""


def test_what_is_constant_and_what_is_not(constants):
    sources = {"p/wire/sizes.py": SIZES, "p/user.py": USER, "p/wire/__init__.py": "", "p/__init__.py": ""}
    out = constants.inlined(sources)
    assert "def f(UNIT, n=65536):" in out["p/user.py"]  # a parameter of that name stays one
    assert "return UNIT + n + 32768 + 5 + T.UNIT" in out["p/user.py"]  # and so does another module's
    assert "return (S.LIMIT, S.NAME, S.count, S.SEEN, UNIT)" in out["p/user.py"]  # bound twice, no integer, changed
    assert "HALF" not in out["p/wire/sizes.py"] and "HALF = 5" not in out["p/user.py"]  # nobody asks for these now
    assert "UNIT = 4 * 16384" in out["p/wire/sizes.py"]  # the import wants it
    kept = constants.inlined(sources, keep=True)["p/wire/sizes.py"]
    assert "HALF = 65536 // 2" in kept and "LIMIT = 8" in kept


@pytest.mark.slow
def test_the_unit_tests_hold_for_what_is_packed(constants, tmp_path):
    for path, text in constants.package(ROOT / "src", "bwrouter", keep=True).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert not re.search(r"\bS\.UNIT\b", "".join(p.read_text() for p in tmp_path.rglob("*.py")))
    command = [sys.executable, "-m", "pytest", "-q", "-k", "micropython", "tests/unit"]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ, ROUTER_SOURCE=str(tmp_path)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    ran = re.search(r"micropython: (\d+) ok, 0 not ok", done.stdout)
    assert ran and int(ran[1]) > 200, done.stdout[-3000:]
