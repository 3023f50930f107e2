"""The router's sources as they are compiled: constants in place, without what it never reaches, bundled, short names.

    python3 package/shrink.py src bwrouter OUT
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import bundle
import constants
import trim

# What the two processes start with becomes the bundle of all that one of them loads; what both load is `common`.
PARTS = {"": "bwrouter/common.py", "relay": "bwrouter/relay/relay.py", "agent": "bwrouter/agent/agent.py"}
# Both processes pass through the first; the other is asked often, and must answer at once.
LIGHT = ("bwrouter/cli/service.py", "bwrouter/cli/show.py")
# The shell's commands find their functions by name.
KEPT = ("bwrouter/cli/",)


def package(root: Path, name: str) -> dict[str, str]:
    """The sources by path of the package `name` below `root`. Raises BundleError, TrimError."""
    trees = {path: ast.parse(text) for path, text in constants.package(root, name).items()}
    trim.trimmed(trees, KEPT)
    made = bundle.bundled(trees, PARTS, LIGHT)
    trees = {path: ast.parse(ast.unparse(ast.fix_missing_locations(tree))) for path, tree in sorted(made.items())}
    trim.shortened(trees)
    for path in PARTS.values():
        trim.ordered(trees[path])
    return {path: ast.unparse(ast.fix_missing_locations(tree)) + "\n" for path, tree in trees.items()}


def shell(text: str) -> str:
    """A shell script without its comment lines, save the first line."""
    first, *rest = text.splitlines(keepends=True)
    return first + "".join(line for line in rest if not line.lstrip().startswith("#"))


def main() -> int:
    """Writes a package's sources, shrunk, below a folder; or, of one script, its text to standard output."""
    if len(sys.argv) == 2:
        sys.stdout.write(shell(Path(sys.argv[1]).read_text()))
        return 0
    root, name, out = sys.argv[1:]
    for path, text in package(Path(root), name).items():
        (Path(out) / path).parent.mkdir(parents=True, exist_ok=True)
        (Path(out) / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
