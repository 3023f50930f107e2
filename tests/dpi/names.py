"""What Wireshark's dissectors take a capture for."""

from __future__ import annotations

import collections
import os
import subprocess
import tempfile

from .traffic import pcap, random_twin

NOTHING = "eth:ethertype:ip:udp:data"


def protocols(frames: list[tuple[float, bytes]]) -> collections.Counter[str]:
    """tshark's names for each frame, heuristic dissectors included; how often each."""
    handle, path = tempfile.mkstemp(suffix=".pcap")
    os.close(handle)
    try:
        pcap(frames, path)
        argv = ["tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.protocols"]
        run = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=True)
    finally:
        os.unlink(path)
    return collections.Counter(run.stdout.split())


def recognised(frames: list[tuple[float, bytes]]) -> tuple[float, float, dict[str, int]]:
    """(share of our frames that bear a name, share of frames of the same sizes with random bytes, our names)."""
    ours, chance = protocols(frames), protocols(random_twin(frames))
    shares = [1 - c[NOTHING] / max(c.total(), 1) for c in (ours, chance)]
    del ours[NOTHING]
    return shares[0], shares[1], dict(ours)
