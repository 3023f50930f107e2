"""What a router never reaches is left out, and names that nobody outside a module can see become short.

The same sources run on CPython, in the buyer's client and in tests: a router needs neither that half nor CPython's way
of doing things. Functions and classes keep their names, for a traceback shows them.
"""

from __future__ import annotations

import ast
import itertools
import keyword
import string
from collections import Counter

from bundle import Comprehension, Trees, own, parameters, scope

# Conditions that are decided by what MicroPython is.
FACTS = {
    "hasattr(gc, 'mem_alloc')": True,
    "hasattr(sys, 'print_exception')": True,
    "hasattr(time, 'tzset')": False,
    "ffi.RUNTIME == 'cpython'": False,
    "sys.implementation.name != 'micropython'": False,
    "IPRoute is None": True,
}
NOT_THERE = {"pyroute2"}  # packages that no router has


class TrimError(Exception):
    """The sources are not what this module takes them for; the text says how."""


def trimmed(trees: Trees, kept: tuple[str, ...] = ()) -> None:
    """Leave out what is for CPython, and then what nothing asks for any more, save in folders `kept`. Changes `trees`.
    Raises TrimError for a fact that the sources do not ask about."""
    folder = _Folder()
    for tree in trees.values():
        folder.visit(tree)
    if folder.met != set(FACTS):
        raise TrimError(f"no source asks for {sorted(set(FACTS) - folder.met)}: amend package/trim.py")
    less = True
    while less:
        asked, less = _asked(trees), False
        for path, tree in trees.items():
            less |= not path.startswith(kept) and _leave_out(tree, asked)
    for path, tree in trees.items():
        while not path.endswith("__init__.py") and _imports(tree):
            pass


class _Folder(ast.NodeTransformer):
    def __init__(self) -> None:
        self.met = set[str]()

    def visit(self, n: ast.AST) -> ast.AST | list[ast.stmt]:
        if isinstance(n, ast.Call | ast.Compare) and (text := ast.unparse(n)) in FACTS:
            self.met.add(text)
            return ast.Constant(FACTS[text])
        found = super().visit(n)
        assert isinstance(found, ast.AST | list)
        return found

    def visit_If(self, n: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(n)
        return (n.body if n.test.value else n.orelse) if isinstance(n.test, ast.Constant) else n

    def visit_IfExp(self, n: ast.IfExp) -> ast.AST:
        self.generic_visit(n)
        return (n.body if n.test.value else n.orelse) if isinstance(n.test, ast.Constant) else n

    def visit_UnaryOp(self, n: ast.UnaryOp) -> ast.AST:
        self.generic_visit(n)
        known = isinstance(n.op, ast.Not) and isinstance(n.operand, ast.Constant)
        return ast.Constant(not n.operand.value) if known and isinstance(n.operand, ast.Constant) else n

    def visit_BoolOp(self, n: ast.BoolOp) -> ast.AST:
        self.generic_visit(n)
        decides = isinstance(n.op, ast.Or)
        known = [v.value for v in n.values if isinstance(v, ast.Constant) and isinstance(v.value, bool)]
        return ast.Constant(decides) if decides in known else n

    def visit_Module(self, n: ast.Module) -> ast.Module:
        body = list[ast.stmt]()
        for statement in n.body:
            if isinstance(statement, ast.Try):
                body += _way(statement)
            else:
                body.append(statement)
        n.body = body
        self.generic_visit(n)
        n.body = n.body or [ast.Pass()]
        return n


def _way(n: ast.Try) -> list[ast.stmt]:
    """MicroPython's way, of a `try` for it and an `except` for CPython's, or the other way round."""
    if [ast.unparse(h.type) for h in n.handlers if h.type] not in (["ImportError"], ["AttributeError"]):
        return [n]
    wanted = {(m.module or "").split(".")[0] for m in ast.walk(n) if isinstance(m, ast.ImportFrom)}
    return n.handlers[0].body if wanted & NOT_THERE else n.body


def _asked(trees: Trees) -> set[str]:
    """Names that anything asks for; each word of a text too, for a name may be put together."""
    found = set[str]()
    for n in itertools.chain.from_iterable(map(ast.walk, trees.values())):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
            found.add(n.id)
        elif isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load):
            found.add(n.attr)
        elif isinstance(n, ast.ImportFrom):
            found |= {a.name for a in n.names}
        elif isinstance(n, ast.Constant) and isinstance(n.value, str):
            found |= set(n.value.split())
    return found


def _leave_out(tree: ast.Module, asked: set[str]) -> bool:
    """Functions and classes, of a module or a class, that are not `asked` for; whether there were any."""
    found = False
    for n in ast.walk(tree):
        if isinstance(n, ast.Module | ast.ClassDef):
            rest = [s for s in n.body if not isinstance(s, ast.FunctionDef | ast.ClassDef) or _stays(s.name, asked)]
            found |= len(rest) < len(n.body)
            n.body = rest or [ast.Pass()]
    return found


def _stays(name: str, asked: set[str]) -> bool:
    return name in asked or name.startswith("__")


def _imports(tree: ast.Module) -> bool:
    """Leaves out imports of names that the module does not use; whether there were any."""
    used, found = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}, False
    for n in ast.walk(tree):
        body = getattr(n, "body", [])
        for statement in list(body) if isinstance(body, list) else []:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                rest = [a for a in statement.names if (a.asname or a.name) in used]
                found |= len(rest) < len(statement.names)
                statement.names = rest
                if not rest:
                    body.remove(statement)
    return found


def shortened(trees: Trees) -> None:
    """Short names for parameters that no call names, and for private attributes and variables. Changes `trees`."""
    named = {k.arg for t in trees.values() for n in ast.walk(t) if isinstance(n, ast.Call) for k in n.keywords}
    for tree in trees.values():
        for n in ast.walk(tree):
            if isinstance(n, ast.FunctionDef | ast.Lambda):
                _parameters(n, named)
    _private(trees)


def _parameters(n: ast.FunctionDef | ast.Lambda, named: set[str | None]) -> None:
    """a, b, c, ... for the parameters of a function, where nothing inside makes a name of its own like theirs."""
    inside = [m for m in ast.walk(n) if m is not n]
    nested = [m for m in inside if isinstance(m, ast.FunctionDef | ast.Lambda | ast.ClassDef | Comprehension)]
    made = {name for m in nested for k in ast.walk(m) if k is not m for name in own(k)}
    made |= {a.arg for m in nested if isinstance(m, ast.FunctionDef | ast.Lambda) for a in parameters(m)}
    used = {m.id for m in inside if isinstance(m, ast.Name)} | made | {a.arg for a in parameters(n)}
    used |= {name for m in inside for name in own(m)}
    free = (letter for letter in string.ascii_lowercase if letter not in used)
    new = {a.arg: next(free) for a in parameters(n) if a.arg != "self" and a.arg not in named | made}
    outside = {id(m) for d in [*n.args.defaults, *n.args.kw_defaults] if d for m in ast.walk(d)}
    for m in inside:
        if isinstance(m, ast.Name) and id(m) not in outside:
            m.id = new.get(m.id, m.id)
        elif isinstance(m, ast.ExceptHandler) and m.name:
            m.name = new.get(m.name, m.name)
    for a in parameters(n):
        a.arg = new.get(a.arg, a.arg)


def _private(trees: Trees) -> None:
    """One short name for each private name, the same everywhere, and like no other name."""
    names, functions = Counter[str](), set[str]()
    for tree in trees.values():
        names.update({name for n in ast.walk(tree) for name in _all(n)})
        functions |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    private = [n for n, _ in names.most_common() if n[:1] == "_" and n[:2] != "__" and n not in functions]
    letters = ("".join(x) for size in (1, 2) for x in itertools.product(string.ascii_letters, repeat=size))
    free = (x for x in letters if x not in names and not keyword.iskeyword(x))
    new = dict(zip(sorted(private, key=lambda n: (-names[n], n)), free, strict=False))
    for n in itertools.chain.from_iterable(map(ast.walk, trees.values())):
        if isinstance(n, ast.Name):
            n.id = new.get(n.id, n.id)
        elif isinstance(n, ast.Attribute):
            n.attr = new.get(n.attr, n.attr)
        elif isinstance(n, ast.alias):
            n.name, n.asname = new.get(n.name, n.name), n.asname and new.get(n.asname, n.asname)
        elif isinstance(n, ast.ExceptHandler) and n.name:
            n.name = new.get(n.name, n.name)


def _all(n: ast.AST) -> list[str]:
    """Names and short texts that a node itself holds."""
    found = own(n)
    if isinstance(n, ast.Name):
        found = [n.id]
    elif isinstance(n, ast.Attribute):
        found = [n.attr]
    elif isinstance(n, ast.arg):
        found = [n.arg]
    elif isinstance(n, ast.alias):
        found = [n.name]
    elif isinstance(n, ast.keyword):
        found = [n.arg or ""]
    elif isinstance(n, ast.Constant) and isinstance(n.value, str):
        found = [n.value]
    return found


NUMBERS = 126  # of a file's names have a number of one byte, the first ones


def ordered(tree: ast.Module) -> None:
    """Have a file's most used names be the first that its compiler meets: a list of them that is made and forgotten.
    Changes `tree`."""
    often = _uses(tree)
    first = [name for name, count in sorted(often.items(), key=lambda x: (-x[1], x[0]))[:NUMBERS] if count > 2]
    tree.body.insert(0, ast.Expr(ast.List([ast.Constant(name) for name in first], ast.Load())))


def _uses(tree: ast.Module) -> Counter[str]:
    """How often each name stands in the compiled file: those of a function's own variables never do."""
    found = Counter[str]()

    def look(n: ast.AST, local: set[str]) -> None:
        if isinstance(n, ast.Name) and n.id not in local:
            found[n.id] += 1
        elif isinstance(n, ast.Attribute):
            found[n.attr] += 1
        elif isinstance(n, ast.keyword) and n.arg:
            found[n.arg] += 1
        elif isinstance(n, ast.Constant) and isinstance(n.value, str) and 0 < len(n.value) <= 10:
            found[n.value] += 1
        elif isinstance(n, ast.FunctionDef | ast.ClassDef):
            found[n.name] += 2
        if isinstance(n, ast.FunctionDef | ast.Lambda):
            body = n.body if isinstance(n.body, list) else [n.body]
            arguments = [a.arg for a in parameters(n)]
            found.update(arguments)
            local = local | set(arguments) | {name for m in scope(list(body)) for name in own(m)}
        elif isinstance(n, Comprehension):
            found["<listcomp>"] += 1
            local = local | {name for g in n.generators for m in ast.walk(g.target) for name in own(m)}
        for child in ast.iter_child_nodes(n):
            look(child, local)

    look(tree, set())
    return found
