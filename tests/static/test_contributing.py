"""Documents that lead through the tree name files and commands that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = ["", "src/bwrouter/", "src/bwgateway/", "src/bwverifier/", "src/bwclient/", "contracts/src/", "tests/lab/",
         "tests/soak/", "bench/", "src/bwrouter/platform/", "scripts/"]  # fmt: skip
FILE = re.compile(r"`([\w./-]+/|[\w./-]+\.(?:py|sh|md|sol|txt|in|json))`")
MADE = ("build/", "dist/", "status.json", "history.json")  # by running, not by cloning


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/benchmarks.md"])
def test_files_and_targets_exist(name):
    text = (ROOT / name).read_text()
    missing = [f for f in FILE.findall(text) if not f.startswith(MADE) and not any((ROOT / r / f).exists() for r in ROOTS)]
    assert not missing, f"{name} names {missing}"
    targets = set(re.findall(r"^([a-z][\w-]*(?: [a-z][\w-]*)*):", (ROOT / "Makefile").read_text(), re.M))
    known = {t for line in targets for t in line.split()} | set(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M))
    known = {t for line in known for t in line.split()}
    for target in re.findall(r"`make ([a-z][\w-]*)", text):
        assert target in known, f"{name}: make {target} does not exist"
