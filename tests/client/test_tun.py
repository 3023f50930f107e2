"""The client's TUN, in a namespace of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.client.burst import SEGMENTS
from tests.lab.proc import ROOT, environment


@pytest.mark.root
def test_runs_of_packets_are_acknowledged_as_one() -> None:
    """Each acknowledgement is a cell that every hop is paid for: a quarter of all cells of a download, once."""
    command = 'mount -t sysfs sysfs /sys && exec "$@"'
    argv = ["unshare", "--net", "--mount", "sh", "-c", command, "sh", sys.executable, "-m", "tests.client.burst"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=environment(), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 5 < SEGMENTS
