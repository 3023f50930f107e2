"""Every module says in its docstring what it is for."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "bench", "scripts", "tests", "qemu", "contracts", "package")
LEAST = 18  # characters of a sentence that says something


def modules() -> list[Path]:
    found = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]
    return [p for p in [*found, ROOT / "package/build"] if "node_modules" not in p.parts and "__pycache__" not in p.parts]


def fault(source: str) -> str:
    """What is wrong with a module's docstring, or nothing."""
    tree = ast.parse(source)
    if not tree.body:
        return ""  # an empty __init__.py only makes a package
    first = (ast.get_docstring(tree) or "").strip().split("\n\n")[0]
    if not first:
        return "no docstring"
    if len(first) < LEAST:
        return f"says nothing: {first!r}"
    return "" if first.rstrip().endswith((".", ":", "!", "?", "`")) else f"no sentence: {first[-40:]!r}"


def test_every_module_says_what_it_is_for():
    found = modules()
    assert len(found) > 250
    faults = [f"{p.relative_to(ROOT)}: {why}" for p in found if (why := fault(p.read_text()))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("source", ["x = 1\n", '"""Short."""\n', '"""A text without an end of any kind"""\nx = 1\n'])
def test_the_rule_finds_what_it_is_for(source):
    assert fault(source)
