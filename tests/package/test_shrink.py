"""What package/shrink.py makes of sources: less, and the same effect."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package.router import ROOT

sys.path.insert(0, str(ROOT / "package"))
import bundle
import shrink
import trim

NET = """
import os as _os
import json
WORD = [4]
_count = 3
def close(fd):
    return "net.close %s %d" % (fd, _count)
def send(settings, fd=WORD[0], wait=0):
    return [fd for fd in range(fd)], settings, wait, json.dumps(settings), _os.sep
"""
FILES = """
import json
from . import net
from .net import send as put
_count = 5
def close(net):
    return "files.close %s" % net
def read(x):
    from . import late
    close = net.close(_count)
    return close, put({"x": x}, wait=2), late.VALUE()
class File:
    close = "in the class"
    both = close + "!"
    def __init__(self, path):
        self._path = path
        try:
            raise ValueError(path)
        except ValueError as net:
            self._why = str(net)
    def said(self):
        return close(self._path), self._why, [net for net in (1, 2)], (lambda close: close)(7), (lambda x: close(x))(8)
    def gone(self):
        return 1
def never():
    return File
"""
LATE = """
from . import files as F
def VALUE():
    return F.File("late").said(), F.put(1)
"""
ONE = """
from .base import files, net
_count = 1
def main():
    return files.read(1), files.File("p").both, files.File("q").said(), net.close(_count), [net.send(c) for c in (1, 2)]
"""
TWO = """
from .base import net
from .base.files import File
def main():
    def inner(a, b=net.WORD):
        net = a
        return net, b, File(a).said()
    return inner(1), net.close(2)
"""
SOLO = """
def both():
    from . import one, two
    return one.main(), two.main()
"""
PARTS = {"": "p/common.py", "one": "p/one.py", "two": "p/two.py"}


def sources() -> dict[str, str]:
    base = {"p/base/__init__.py": "", "p/base/net.py": NET, "p/base/files.py": FILES, "p/base/late.py": LATE}
    return {"p/__init__.py": "", "p/one.py": ONE, "p/two.py": TWO, "p/solo.py": SOLO, **base}


def made(texts: dict[str, str]) -> dict[str, str]:
    """Bundled, and with short names."""
    out = bundle.bundled({path: ast.parse(text) for path, text in texts.items()}, PARTS)
    trees = {path: ast.parse(ast.unparse(ast.fix_missing_locations(tree))) for path, tree in out.items()}
    trim.shortened(trees)
    for path in PARTS.values():
        trim.ordered(trees[path])
    return {path: ast.unparse(ast.fix_missing_locations(tree)) for path, tree in trees.items()}


def said(folder: Path, texts: dict[str, str], code: str) -> str:
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_a_bundle_does_what_its_modules_do(tmp_path: Path) -> None:
    texts = sources()
    code = "from p import solo; print(solo.both())"
    before, after = said(tmp_path / "a", texts, code), said(tmp_path / "b", made(texts), code)
    assert "net.close 5 3" in before and "files.close late" in before
    assert after == before
    there = sorted(str(p.relative_to(tmp_path / "b")) for p in (tmp_path / "b").rglob("*.py"))
    assert there == ["p/__init__.py", "p/common.py", "p/one.py", "p/solo.py", "p/two.py"]


@pytest.mark.parametrize(
    ("path", "more", "what"),
    [
        ("p/one.py", "KEPT = [files]", "the module files as a value"),
        ("p/one.py", "def f():\n    global _count\n    _count = 2", "global _count"),
        ("p/one.py", "def f():\n    net.WORD = 2", "changes WORD of p/base/net.py"),
        ("p/one.py", "X = net.nothing", "p/base/net.py does not make nothing"),
    ],
)
def test_what_cannot_be_bundled_is_refused(path: str, more: str, what: str) -> None:
    texts = sources()
    texts[path] += more
    with pytest.raises(bundle.BundleError, match=what):
        made(texts)


def test_a_module_that_two_of_three_load_is_refused() -> None:
    texts = sources() | {"p/three.py": "X = 1", "p/two.py": "X = 2", "p/one.py": "from .base import net"}
    texts["p/two.py"] = "from .base import net"
    with pytest.raises(bundle.BundleError, match="share what a third does not"):
        bundle.bundled({path: ast.parse(text) for path, text in texts.items()}, {**PARTS, "three": "p/three.py"})


def test_what_is_for_cpython_goes_and_what_it_alone_asked_for() -> None:
    facts = "\n".join(f"if {fact}:\n    mark({i})" for i, fact in enumerate(trim.FACTS))
    text = (
        "try:\n    import ffi as f\n    def a():\n        return f\nexcept ImportError:\n    def a():\n        return only()\n"
        "try:\n    from pyroute2 import X\nexcept ImportError:\n    X = None\n"
        "def only():\n    return 1\n"
        "if not hasattr(gc, 'mem_alloc'):\n    b = 1\nelse:\n    b = 2\n"
        "def mark(i):\n    return i if sys.implementation.name != 'micropython' else a() and X and b\n"
    )
    trees = {"p/m.py": ast.parse(text + facts)}
    trim.trimmed(trees)
    out = ast.unparse(trees["p/m.py"])
    assert "only" not in out and "pyroute2" not in out and "X = None" in out and "b = 2" in out and "b = 1" not in out
    assert [f"mark({i})" in out for i in range(len(trim.FACTS))] == list(trim.FACTS.values())
    with pytest.raises(trim.TrimError, match="no source asks for"):
        trim.trimmed({"p/m.py": ast.parse(text)})


def test_no_name_of_the_package_is_lost(tmp_path: Path) -> None:
    """Of the real one: every name is made somewhere, and what is asked of a bundle is in it."""
    texts = shrink.package(ROOT / "src", "bwrouter")
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821,F823", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    trees = {path: ast.parse(text) for path, text in texts.items()}
    tops = {path: {name for n in bundle.scope([tree]) for name in bundle.own(n)} for path, tree in trees.items()}
    asked = 0
    for path, tree in trees.items():
        homes = dict[str, str]()
        for n in ast.walk(tree):
            for alias in n.names if isinstance(n, ast.ImportFrom) else []:
                where = f"{(n.module or '').replace('.', '/')}/{alias.name}.py" if isinstance(n, ast.ImportFrom) else ""
                if where in shrink.PARTS.values():
                    homes[alias.asname or alias.name] = where
        for n in ast.walk(tree):
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in homes:
                asked += 1
                assert n.attr in tops[homes[n.value.id]], f"{path}: {n.attr}"
    assert asked > 100


def test_a_script_loses_its_comments_alone() -> None:
    text = "#!/bin/sh /etc/rc.common\n# what it does\nA=1 # kept\n\t# and why\nb() {\n\techo \"# no comment\"\n}\n"
    assert shrink.shell(text) == "#!/bin/sh /etc/rc.common\nA=1 # kept\nb() {\n\techo \"# no comment\"\n}\n"
