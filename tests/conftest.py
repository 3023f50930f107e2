"""Marks: whole folders are slow; what needs root fails early and in words without it."""

import os
from pathlib import Path

import pytest

SLOW = {"lab", "faults", "browser", "qemu"}
ROOT_NEEDED = {"lab", "faults"}
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        try:
            folder = item.path.relative_to(HERE).parts[0]
        except ValueError:
            continue
        if folder in SLOW:
            item.add_marker(pytest.mark.slow)
        if folder in ROOT_NEEDED:
            item.add_marker(pytest.mark.root)


def pytest_runtest_logreport(report):
    """Names what failed in the file FAILED_LIST, for tests/halves.py."""
    path = os.environ.get("FAILED_LIST")
    if path and report.failed:
        with open(path, "a") as f:
            f.write(report.nodeid + "\n")


def pytest_runtest_setup(item):
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.fail("needs root for network namespaces: run make test as root, or make test-fast", pytrace=False)
