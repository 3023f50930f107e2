"""Every test file under tests/unit runs twice: by pytest under CPython, and under MicroPython in a process of its own.

The MicroPython run of `test_x` is the item `test_x[micropython]`. Tests here are plain functions without arguments,
with bare asserts; what is for CPython only belongs to tests/interop.
"""

import ast
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240  # of one file; below pytest's own timeout
_counts = {"passed": 0, "failed": 0, "files": 0}


def interpreter() -> Path:
    """MICROPYTHON, or the interpreter that `make micropython` built for this machine."""
    return Path(os.environ.get("MICROPYTHON") or ROOT / "build" / "micropython" / "native" / "micropython")


class MicroPythonFailure(Exception):
    """The output of a test that failed under MicroPython."""


class MicroPythonItem(pytest.Item):
    def __init__(self, *, function: str, line: int, **kwargs):
        super().__init__(name=f"{function}[micropython]", **kwargs)
        self.function_name = function
        self.line = line

    def runtest(self):
        outcome, output = self.parent.result(self)
        _counts["passed" if outcome == "ok" else "failed"] += 1
        if outcome != "ok":
            raise MicroPythonFailure(f"{output.rstrip()}\n[micropython] {outcome}")
        self.add_report_section("call", "stdout", output)

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, MicroPythonFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style="short")

    def reportinfo(self):
        return self.path, self.line, self.name


class MicroPythonFile(pytest.File):
    """A test file as MicroPython sees it: run once, for all of its functions that were selected."""

    results: "dict[str, tuple[str, str]] | None" = None

    def collect(self):
        tree = ast.parse(self.path.read_text(), str(self.path))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if isinstance(node, ast.ClassDef):
                if node.name.startswith("Test"):
                    raise self.CollectError(f"{self.path}:{node.lineno}: tests/unit takes plain functions, no classes")
            elif node.name.startswith("test"):
                arguments = node.args
                if (
                    isinstance(node, ast.AsyncFunctionDef)
                    or node.decorator_list
                    or arguments.args
                    or arguments.kwonlyargs
                ):
                    raise self.CollectError(
                        f"{self.path}:{node.lineno}: {node.name} must be a plain function without fixtures"
                        " or decorators: it runs under MicroPython too. Tests for CPython only belong to tests/interop."
                    )
                yield MicroPythonItem.from_parent(self, function=node.name, line=node.lineno - 1)

    def result(self, item: MicroPythonItem) -> tuple[str, str]:
        if self.results is None:
            wanted = [i.function_name for i in item.session.items if i.parent is self]
            self.results = self.run_file(wanted)
        return self.results[item.function_name]

    def run_file(self, names: list[str]) -> dict[str, tuple[str, str]]:
        binary = interpreter()
        if not binary.exists():
            return dict.fromkeys(names, ("not run: no interpreter; run: make micropython", str(binary)))
        _counts["files"] += 1
        source = os.environ.get("ROUTER_SOURCE", f"{ROOT}/src")
        environment = dict(os.environ, MICROPYPATH=f"{source}:{ROOT}/tests/unit:.frozen")
        command = [str(binary), "-X", "heapsize=8m", "tests/unit/run_mp.py", str(self.path), *names]
        try:
            run = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            )
            output, end = run.stdout, f"the interpreter ended with code {run.returncode} before this test's verdict"
        except subprocess.TimeoutExpired as error:
            output, end = error.stdout or b"", f"the file ran longer than {TIMEOUT_S} s"
        results: dict[str, tuple[str, str]] = {}
        said: list[str] = []
        for line in output.decode(errors="replace").splitlines():
            if not line.startswith("\x1f "):
                said.append(line)
                continue
            _, verdict, name, _ms = line.split(" ")
            results[name] = (verdict, "\n".join(said))
            said = []
        rest = "\n".join(said)
        return {name: results.get(name, (end, rest)) for name in names}


def pytest_collect_file(file_path, parent):
    if file_path.name.startswith("test_") and file_path.suffix == ".py":
        return MicroPythonFile.from_parent(parent, path=file_path)
    return None


def _unit_functions_ran(session) -> bool:
    here = Path(__file__).parent
    return any(isinstance(i, pytest.Function) and here in i.path.parents for i in session.items)


def pytest_sessionfinish(session, exitstatus):
    """Unit tests that ran under CPython alone are a failure, unless single ones were asked for."""
    options = session.config.option
    chosen = options.keyword or options.collectonly or any("::" in a for a in session.config.args)
    if exitstatus == 0 and not chosen and _unit_functions_ran(session) and not _counts["passed"]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if _counts["files"] or _counts["failed"]:
        counted = "{passed} ok, {failed} not ok in {files} files".format(**_counts)
        terminalreporter.write_line(f"micropython: {counted} ({interpreter()})")
