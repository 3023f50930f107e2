"""Rules for src/bwrouter that hold whatever the code does: what MicroPython has, and which folder may import which."""

import ast
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUTER = ROOT / "src" / "bwrouter"
FILES = sorted(ROUTER.rglob("*.py"))

# Lower folders know nothing of higher ones (docs/architecture.md).
RANK = {"platform": 0, "ledger": 1, "wire": 2, "relay": 3, "agent": 4, "cli": 5}
# What both runtimes have. Only platform/ may import more: there the runtimes are told apart.
EVERYWHERE = {"array", "binascii", "collections", "errno", "gc", "hashlib", "io", "json", "math", "os", "random", "re"}
EVERYWHERE |= {"select", "struct", "sys", "time"}
# wire/ and ledger/ compute; they open, send, wait for and read nothing. Of os they may use urandom alone.
PURE = {"array", "binascii", "collections", "gc", "hashlib", "json", "math", "os", "struct"}
PURE_FROM_PLATFORM = {"sodium", "ffi", "arena", "consts"}
ABSENT_METHODS = set(
    "removeprefix removesuffix ljust rjust zfill expandtabs casefold swapcase title translate format_map isalnum"
    " isidentifier isprintable isascii bit_length bit_count as_integer_ratio".split()
)


def folder_of(path: Path) -> str:
    return path.relative_to(ROUTER).parts[0].removesuffix(".py")


def package_of(path: Path) -> list[str]:
    parts = ["bwrouter", *path.relative_to(ROUTER).with_suffix("").parts]
    return parts[:-1]


def imports(tree: ast.AST, package: list[str]):
    """Yield (line, absolute dotted name) for each import; `from x import y` yields x.y too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            dotted = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{dotted}.{alias.name}"


def faults(source: str, path: Path):
    """Yield every breach of the rules in one module, as text."""
    folder = folder_of(path)
    tree = ast.parse(source)
    for line, name in imports(tree, package_of(path)):
        parts = name.split(".")
        if parts[0] != "bwrouter":
            allowed = PURE if folder in ("wire", "ledger") else EVERYWHERE
            if folder != "platform" and parts[0] not in allowed:
                yield f"{line}: {folder}/ may not import {parts[0]}"
            continue
        if len(parts) < 2 or parts[1] not in RANK:
            continue
        if folder in RANK and RANK[parts[1]] > RANK[folder]:
            yield f"{line}: {folder}/ may not import {name}, which is above it"
        pure_part = len(parts) < 3 or parts[2] in PURE_FROM_PLATFORM
        if folder in ("wire", "ledger") and parts[1] == "platform" and not pure_part:
            yield f"{line}: {folder}/ does no I/O and may not import {name}"
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted in ("sys.implementation", "sys.platform") and folder != "platform":
                yield f"{line}: only platform/ may ask for {dotted}"
            if folder in ("wire", "ledger") and dotted.startswith("os.") and dotted != "os.urandom":
                yield f"{line}: {folder}/ does no I/O and may not use {dotted}"
            if node.attr in ABSENT_METHODS:
                yield f"{line}: MicroPython has no method {node.attr}"
        elif isinstance(node, ast.ExceptHandler) and folder != "platform":
            if node.type is not None and "ImportError" in ast.unparse(node.type):
                yield f"{line}: only platform/ may test what the runtime has"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.keywords:
            if node.func.attr in ("to_bytes", "from_bytes"):
                yield f"{line}: {node.func.attr} takes no keywords on MicroPython"
            if node.func.attr in ("dump", "dumps") and any(k.arg != "separators" for k in node.keywords):
                yield f"{line}: json.{node.func.attr} takes only separators on MicroPython"
        elif isinstance(node, ast.arguments) and node.posonlyargs:
            yield f"{node.posonlyargs[0].lineno}: MicroPython has no positional-only arguments"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROUTER)))
def test_module_keeps_the_rules(path):
    assert not list(faults(path.read_text(), path))


@pytest.mark.parametrize(
    ("where", "source", "fault"),
    [
        ("relay/x.py", "import typing", "may not import typing"),
        ("relay/x.py", "from ..agent import claim", "above it"),
        ("wire/x.py", "import bwrouter.relay.loop", "above it"),
        ("wire/x.py", "import socket", "may not import socket"),
        ("wire/x.py", "from ..platform import net", "does no I/O"),
        ("wire/x.py", "import os\nos.open('f', 0)", "does no I/O"),
        ("agent/x.py", "import sys\nif sys.implementation.name: pass", "only platform/"),
        ("cli.py", "try:\n    import json\nexcept ImportError:\n    pass", "only platform/"),
        ("agent/x.py", "(1).to_bytes(4, byteorder='big')", "no keywords"),
        ("agent/x.py", "'a'.zfill(3)", "no method zfill"),
        ("agent/x.py", "import json\njson.dumps({}, sort_keys=True)", "only separators"),
        ("agent/x.py", "def f(a, /): pass", "positional-only"),
    ],
)
def test_a_breach_is_found(where, source, fault):
    found = list(faults(source, ROUTER / where))
    assert len(found) == 1 and fault in found[0]


def test_every_module_compiles_under_micropython():
    binary = Path(os.environ.get("MICROPYTHON") or ROOT / "build" / "micropython" / "native" / "micropython")
    assert binary.exists(), "no MicroPython: run make micropython"
    script = "import sys\nfor f in sys.argv[1:]:\n    compile(open(f).read(), f, 'exec')\n    print(f)\n"
    command = [str(binary), "-X", "heapsize=8m", "-c", script, *map(str, FILES)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split() == [str(f) for f in FILES]
