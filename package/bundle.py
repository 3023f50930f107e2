"""Modules that are loaded together, put together into one file: each .mpy has a table of its own of all names it uses.

A bundle holds whole modules one after the other, in the order in which Python would run them. `clock.ms` becomes `ms`,
or `clock_ms` where another module or some function has an `ms` too: so a traceback still says where it was. What one
process alone loads is never put beside what another loads, for memory is scarcer than flash.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter

Trees = dict[str, ast.Module]
# What a name stands for: a module of the package, a name of one, or something from outside it (module, its attribute).
Meaning = tuple[str, str, str]
Scope = dict[str, Meaning | None]
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class BundleError(Exception):
    """A module does something that cannot be put beside others; the text names it."""


def bundled(trees: Trees, parts: dict[str, str], light: tuple[str, ...] = ()) -> Trees:
    """`trees` with modules bundled: `parts` names for each process the module that it starts with, and which its bundle
    replaces; the entry "" is the path of the bundle of what all of them load, and of what modules of `light` do that
    shall not load a process's own. Raises BundleError."""
    shared, starts = parts[""], [path for name, path in parts.items() if name]
    loaded = {path: _closure(trees, path) for path in starts}
    common = set.intersection(*loaded.values())
    for path in light:
        common |= _closure(trees, path, deep=False) - {path}
    common = {path for path in common if path not in starts}
    homes = dict.fromkeys(common, shared)
    homes |= {path: start for start in starts for path in loaded[start] if path not in common}
    for start, other in ((s, o) for s in starts for o in starts if s != o):
        if (loaded[start] & loaded[other]) - common:
            raise BundleError(f"{start} and {other} share what a third does not")
    return _Bundler(trees, homes).all()


def _closure(trees: Trees, start: str, deep: bool = True) -> set[str]:
    """The modules that `start` needs, itself too, whenever they are imported or, unless `deep`, at once; no package's
    own __init__."""
    found, new = set[str](), [start]
    while new:
        path = new.pop()
        if path not in found and not path.endswith("__init__.py"):
            found.add(path)
            new += _imported(trees, path, list(ast.walk(trees[path])) if deep else scope([trees[path]]))
    return found


def _imported(trees: Trees, path: str, nodes: list[ast.AST]) -> list[str]:
    meanings = [_meaning(trees, path, n, a) for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names]
    return [where for kind, where, _ in meanings if kind != "outside"]


def _meaning(trees: Trees, path: str, n: ast.ImportFrom, alias: ast.alias) -> Meaning:
    base = (path.split("/")[: -n.level] if n.level else []) + (n.module or "").split(".")
    base = [part for part in base if part]
    for at, name in (([*base, alias.name], ""), (base, alias.name)):
        for end in (".py", "/__init__.py"):
            where = "/".join(at) + end
            if where in trees:
                return ("name", where, name) if name else ("module", where, "")
    return "outside", ".".join(base), alias.name


def own(n: ast.AST) -> list[str]:
    """Names that a node itself binds in the scope it stands in."""
    if isinstance(n, ast.Name):
        return [] if isinstance(n.ctx, ast.Load) else [n.id]
    if isinstance(n, ast.FunctionDef | ast.ClassDef):
        return [n.name]
    if isinstance(n, ast.ExceptHandler):
        return [n.name] if n.name else []
    if isinstance(n, ast.Import | ast.ImportFrom):
        return [a.asname or a.name for a in n.names]
    return []


def scope(body: list[ast.AST]) -> list[ast.AST]:
    """The nodes of one scope, without those of functions, classes and comprehensions in it."""
    found, new = list[ast.AST](), list(body)
    while new:
        n = new.pop(0)
        found.append(n)
        if isinstance(n, ast.FunctionDef | ast.Lambda):
            new += [*n.args.defaults, *[d for d in n.args.kw_defaults if d], *getattr(n, "decorator_list", [])]
        elif isinstance(n, ast.ClassDef):
            new += [*n.bases, *n.decorator_list]
        elif isinstance(n, Comprehension):
            new.append(n.generators[0].iter)
        else:
            new += ast.iter_child_nodes(n)
    return found


def parameters(n: ast.FunctionDef | ast.Lambda) -> list[ast.arg]:
    a = n.args
    return [*a.posonlyargs, *a.args, *a.kwonlyargs, *[x for x in (a.vararg, a.kwarg) if x]]


class _Bundler:
    def __init__(self, trees: Trees, homes: dict[str, str]) -> None:
        self.trees, self.homes = trees, homes
        self.tables = {path: self.table(path, scope([tree])) for path, tree in trees.items()}
        self.names = self._names()

    def table(self, path: str, nodes: list[ast.AST]) -> Scope:
        """What the names mean that `nodes` of one scope of `path` bind: None for what is made there."""
        found = Scope()
        for n in nodes:
            found |= dict.fromkeys(own(n))
            if isinstance(n, ast.ImportFrom):
                found |= {a.asname or a.name: self.origin(_meaning(self.trees, path, n, a)) for a in n.names}
            elif isinstance(n, ast.Import):
                found |= {a.asname or a.name: ("outside", a.name, "") for a in n.names}
            elif isinstance(n, ast.Global):
                raise BundleError(f"{path}: global {n.names[0]}")
        return found

    def origin(self, meaning: Meaning) -> Meaning:
        """The module that really makes a name, where others only pass it on."""
        kind, where, name = meaning
        while kind == "name":
            for n in scope([self.trees[where]]):
                if isinstance(n, ast.ImportFrom) and name in own(n):
                    alias = next(a for a in n.names if name == (a.asname or a.name))
                    kind, where, name = _meaning(self.trees, where, n, alias)
                    break
            else:
                break
        return kind, where, name

    def _names(self) -> dict[tuple[str, str], str]:
        """The name in its bundle of each (module, name): its own, if nothing else anywhere has it."""
        made = Counter(name for path in self.homes for name in self.tables[path])
        inner = set(dir(builtins))
        for tree in self.trees.values():
            outer = {id(n) for n in scope([tree])}
            inner |= {name for n in ast.walk(tree) if id(n) not in outer for name in own(n)}
            functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda)]
            inner |= {a.arg for n in functions for a in parameters(n)}
        found = dict[tuple[str, str], str]()
        for path in sorted(self.homes):
            for name, meaning in self.tables[path].items():
                if meaning is None:
                    unique = made[name] == 1 and name not in inner
                    module = path.rpartition("/")[2].removesuffix(".py")
                    hidden = "_" if name[0] == "_" else ""
                    found[path, name] = name if unique else f"{hidden}{module}_{name}"
                elif meaning[0] == "outside":
                    # One import of it for all, under a name that nobody else makes.
                    found.setdefault(meaning[1:], "_".join(["_x", *meaning[1].split("."), meaning[2]]).rstrip("_"))
                elif meaning[1] not in self.homes:
                    found.setdefault(meaning[1:], name)
        for home in set(self.homes.values()):
            taken = Counter(name for (path, _), name in found.items() if self.homes.get(path) == home)
            if [name for name, count in taken.items() if count > 1 or name in inner]:
                raise BundleError(f"{home}: a name twice: {taken.most_common(3)}")
        return found

    def all(self) -> Trees:
        out = Trees()
        for path, tree in self.trees.items():
            if path not in self.homes:
                folder = path.removesuffix("__init__.py")
                inside = [p for p in self.trees if p.startswith(folder) and p != path and p not in self.homes.values()]
                if path.endswith("__init__.py") and all(p in self.homes for p in inside) and not self.tables[path]:
                    continue  # nothing of that package is left
                out[path] = ast.Module(_once(_Rewriter(self, path).module(tree)), [])
        for home in sorted(set(self.homes.values())):
            bodies = [_Rewriter(self, path).module(self.trees[path]) for path in self._order(home)]
            out[home] = ast.Module(_once([statement for body in bodies for statement in body]), [])
        return out

    def _order(self, home: str) -> list[str]:
        """The modules of a bundle, each behind those that it imports at its top level."""
        found = list[str]()

        def take(path: str, waiting: tuple[str, ...]) -> None:
            if path in found or path in waiting or self.homes.get(path) != home:
                return
            for other in _imported(self.trees, path, scope([self.trees[path]])):
                take(other, (*waiting, path))
            found.append(path)

        for path in sorted(self.homes):
            take(path, ())
        return found


def _once(body: list[ast.stmt]) -> list[ast.stmt]:
    """`body` without imports that stand in it before."""
    found, done = list[ast.stmt](), set[str]()
    for statement in body:
        text = ast.unparse(statement) if isinstance(statement, ast.Import | ast.ImportFrom) else ""
        if text not in done:
            found.append(statement)
        done |= {text} - {""}
    return found


class _Rewriter(ast.NodeTransformer):
    """One module's tree as it stands in its bundle, or beside the bundles."""

    def __init__(self, bundler: _Bundler, path: str) -> None:
        self.bundler, self.path = bundler, path
        self.home = bundler.homes.get(path)
        self.scopes: list[tuple[bool, Scope]] = []  # (of a class, names)

    def module(self, tree: ast.Module) -> list[ast.stmt]:
        body = list[ast.stmt]()
        for statement in tree.body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue
            made = self.visit(statement)
            body += made if isinstance(made, list) else [made]
        return body or [ast.Pass()]

    def _find(self, name: str) -> tuple[bool, Meaning | None]:
        """(of the module's top level, meaning) of a name as it is seen here; ("", "", "") for a builtin."""
        for i, (of_class, names) in enumerate(reversed(self.scopes)):
            if name in names and (not of_class or i == 0):
                return False, names[name]
        return True, self.bundler.tables[self.path].get(name, ("", "", ""))

    def _named(self, path: str, name: str, ctx: ast.expr_context) -> ast.expr:
        home, new = self.bundler.homes.get(path), self.bundler.names.get((path, name))
        if new is None:
            raise BundleError(f"{self.path}: {path} does not make {name}")
        if home == self.home:
            return ast.Name(new, ctx)
        if not isinstance(ctx, ast.Load):
            raise BundleError(f"{self.path}: changes {name} of {path}")
        assert home
        return ast.Attribute(ast.Name(_short(home), ast.Load()), new, ctx)

    def visit_Attribute(self, n: ast.Attribute) -> ast.expr:
        if isinstance(n.value, ast.Name):
            _, meaning = self._find(n.value.id)
            if meaning and meaning[0] == "module" and meaning[1] in self.bundler.homes:
                kind, path, name = self.bundler.origin(("name", meaning[1], n.attr))
                if kind == "name":
                    return self._named(path, name, n.ctx)
                raise BundleError(f"{self.path}: {meaning[1]} does not make {n.attr}")
        self.generic_visit(n)
        return n

    def visit_Name(self, n: ast.Name) -> ast.expr:
        top, meaning = self._find(n.id)
        if meaning and meaning[0] == "module" and meaning[1] in self.bundler.homes:
            raise BundleError(f"{self.path}: the module {n.id} as a value")
        if meaning and meaning[0] == "name" and meaning[1] in self.bundler.homes:
            return self._named(meaning[1], meaning[2], n.ctx)
        return ast.Name(self._top(n.id) if top else n.id, n.ctx)

    def _top(self, name: str) -> str:
        """What a name of the module's own top level is called in the bundle."""
        table = self.bundler.tables[self.path]
        if self.home is None or name not in table:
            return name
        meaning = table[name]
        return self.bundler.names[(self.path, name) if meaning is None else meaning[1:]]

    def visit_ImportFrom(self, n: ast.ImportFrom) -> list[ast.stmt]:
        out, wanted = list[ast.stmt](), set[str]()
        for a in n.names:
            kind, where, name = self.bundler.origin(_meaning(self.bundler.trees, self.path, n, a))
            home = self.bundler.homes.get(where)
            if kind != "outside" and home:
                wanted |= {home} - {self.home}
                continue
            local = a.asname or a.name
            if not self.scopes:
                local = self._top(local)
            source = where if kind == "outside" else _dotted(where)
            if kind == "module":
                source, _, name = source.rpartition(".")
            out.append(ast.ImportFrom(source, [ast.alias(name, local if local != name else None)], 0))
        for home in sorted(wanted):
            source, _, name = _dotted(home).rpartition(".")
            out.append(ast.ImportFrom(source, [ast.alias(name, _short(home))], 0))
        return out

    def visit_Import(self, n: ast.Import) -> ast.Import:
        if not self.scopes:
            for a in n.names:
                local = self._top(a.asname or a.name)
                a.asname = local if local != a.name else None
        return n

    def visit_ExceptHandler(self, n: ast.ExceptHandler) -> ast.ExceptHandler:
        if n.name and not self.scopes:
            n.name = self._top(n.name)
        self.generic_visit(n)
        return n

    def _inside(self, body: list[ast.stmt], scope: Scope, of_class: bool) -> list[ast.stmt]:
        self.scopes.append((of_class, scope))
        out = list[ast.stmt]()
        for statement in body:
            made = self.visit(statement)
            out += made if isinstance(made, list) else [made]
        self.scopes.pop()
        return out or [ast.Pass()]

    def visit_FunctionDef(self, n: ast.FunctionDef) -> ast.FunctionDef:
        n.args.defaults = [self.visit(d) for d in n.args.defaults]
        n.args.kw_defaults = [d and self.visit(d) for d in n.args.kw_defaults]
        n.decorator_list = [self.visit(d) for d in n.decorator_list]
        names = self.bundler.table(self.path, scope(list(n.body))) | dict.fromkeys(a.arg for a in parameters(n))
        if not self.scopes:
            n.name = self._top(n.name)
        n.body = self._inside(n.body, names, of_class=False)
        return n

    def visit_ClassDef(self, n: ast.ClassDef) -> ast.ClassDef:
        n.bases = [self.visit(b) for b in n.bases]
        names = self.bundler.table(self.path, scope(list(n.body)))
        if not self.scopes:
            n.name = self._top(n.name)
        n.body = self._inside(n.body, names, of_class=True)
        return n

    def visit_Lambda(self, n: ast.Lambda) -> ast.Lambda:
        n.args.defaults = [self.visit(d) for d in n.args.defaults]
        self.scopes.append((False, dict.fromkeys(a.arg for a in parameters(n))))
        n.body = self.visit(n.body)
        self.scopes.pop()
        return n

    def _comprehension(self, n: Comprehension) -> ast.AST:
        first = n.generators[0]
        outer = self.visit(first.iter)
        first.iter = ast.Constant(0)
        targets = [m for g in n.generators for m in ast.walk(g.target)]
        self.scopes.append((False, dict.fromkeys(name for m in targets for name in own(m))))
        self.generic_visit(n)
        self.scopes.pop()
        first.iter = outer
        return n

    def visit_ListComp(self, n: ast.ListComp) -> ast.AST:
        return self._comprehension(n)

    def visit_SetComp(self, n: ast.SetComp) -> ast.AST:
        return self._comprehension(n)

    def visit_DictComp(self, n: ast.DictComp) -> ast.AST:
        return self._comprehension(n)

    def visit_GeneratorExp(self, n: ast.GeneratorExp) -> ast.AST:
        return self._comprehension(n)


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _short(home: str) -> str:
    """What a bundle is called where it is imported."""
    return "_of_" + home.rpartition("/")[2].removesuffix(".py")
