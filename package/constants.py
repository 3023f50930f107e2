"""Integers that never change, written where they are used.

A name of another module costs a MicroPython router its text in the module's table, two look-ups at each use, and the
number itself an entry in the other module. `const()` does away with that, but only inside one file and only for names
that begin with an underscore. Here it is done for all of a tree: `sizes.UNIT` becomes 65536, and a constant that nobody
asks for any more is left out.
"""

from __future__ import annotations

import ast
import operator
from collections import Counter
from pathlib import Path


def inlined(sources: dict[str, str], keep: bool = False) -> dict[str, str]:
    """Sources by path below one root with constants in place. Those that none of them asks for any more are left out,
    unless `keep`. Comments and layout are gone, too."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    changed = {n.attr for t in trees.values() for n in ast.walk(t) if isinstance(n, ast.Attribute) and not _read(n)}
    values = {path: _constants(tree, changed) for path, tree in trees.items()}
    for path, tree in trees.items():
        _Inliner(path, tree, values).visit(tree)
    asked = {name for tree in trees.values() for name in _names(tree)}
    for path, tree in trees.items():
        gone = set() if keep else set(values[path]) - asked
        tree.body = [n for n in tree.body if _target(n) not in gone] or [ast.Pass()]
    return {path: ast.unparse(ast.fix_missing_locations(tree)) + "\n" for path, tree in trees.items()}


def _read(n: ast.Attribute | ast.Name) -> bool:
    return isinstance(n.ctx, ast.Load)


def _target(n: ast.stmt) -> str:
    """`X` of a statement `X = ...`, or nothing."""
    if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Name):
        return n.targets[0].id
    return ""


def _bound(tree: ast.Module) -> Counter[str]:
    """How often each name is given a value anywhere in a module."""
    found = Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not _read(n))
    found.update(n.arg for n in ast.walk(tree) if isinstance(n, ast.arg))
    found.update(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef))
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    found.update(a.asname or a.name for n in imports for a in n.names)
    return found


def _constants(tree: ast.Module, changed: set[str]) -> dict[str, int]:
    """Upper-case names that a module gives an integer once, at its top level, and that no module changes."""
    bound, found = _bound(tree), dict[str, int]()
    for statement in tree.body:
        name = _target(statement)
        if not name.lstrip("_").isupper() or bound[name] != 1 or name in changed:
            continue
        assert isinstance(statement, ast.Assign)
        value = statement.value
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "const":
            value = value.args[0]
        number = _number(value, found)
        if number is not None:
            found[name] = number
    return found


_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_, ast.BitXor: operator.xor, ast.Pow: operator.pow,
}  # fmt: skip


def _number(n: ast.expr, known: dict[str, int]) -> int | None:
    """The value of an expression of integers and known names, or None."""
    if isinstance(n, ast.Constant):
        return n.value if type(n.value) is int else None
    if isinstance(n, ast.Name):
        return known.get(n.id)
    if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
        value = _number(n.operand, known)
        return None if value is None else -value
    if isinstance(n, ast.BinOp) and type(n.op) in _OPERATORS:
        left, right = _number(n.left, known), _number(n.right, known)
        return None if left is None or right is None else _OPERATORS[type(n.op)](left, right)
    return None


def _names(tree: ast.Module) -> set[str]:
    found = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    found |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _read(n)}
    return found | {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}


class _Inliner(ast.NodeTransformer):
    def __init__(self, path: str, tree: ast.Module, values: dict[str, dict[str, int]]) -> None:
        self.values, self.own = values, values[path]
        bound = _bound(tree)
        self.modules: dict[str, dict[str, int]] = {}
        for n in ast.walk(tree):
            if isinstance(n, ast.ImportFrom):
                self._imports(path, n, bound)

    def _imports(self, path: str, n: ast.ImportFrom, bound: Counter[str]) -> None:
        parts = path.split("/")[: -n.level] if n.level else []
        for a in n.names:
            name = a.asname or a.name
            base = "/".join([*parts, *(n.module or "").split("."), a.name]).replace("//", "/")
            found = self.values.get(base + ".py", self.values.get(base + "/__init__.py"))
            if found is not None and bound[name] == 1:
                self.modules[name] = found

    def visit_Attribute(self, n: ast.Attribute) -> ast.expr:
        if _read(n) and isinstance(n.value, ast.Name) and n.attr in self.modules.get(n.value.id, {}):
            return ast.Constant(self.modules[n.value.id][n.attr])
        self.generic_visit(n)
        return n

    def visit_Name(self, n: ast.Name) -> ast.expr:
        return ast.Constant(self.own[n.id]) if _read(n) and n.id in self.own else n


def package(root: Path, name: str, keep: bool = False) -> dict[str, str]:
    """`inlined` of the package `name` below `root`."""
    return inlined({str(p.relative_to(root)): p.read_text() for p in sorted((root / name).rglob("*.py"))}, keep)
