"""From the arrival times of chunks to one rate: the median over slots, and over verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, median_low

SLOTS = 10
SLOT_CHUNKS = 8  # of a slot at least, or another's packet between two chunks would weigh too much
HEAD_SHARE = 10  # the first tenth is left out: what buffers on the way had saved up arrives at their speed


def median_rate(arrivals: Sequence[float], size: int) -> float:
    """kbit/s of chunks of `size` bytes (on the measured link) that arrived at these ascending times, in seconds.

    The chunks after the first tenth are cut into up to SLOTS slots of equal numbers (of SLOT_CHUNKS at least); a slot's
    rate is its bytes by the time from the chunk before its first to its last. Zero when fewer than three chunks came.
    """
    kept = arrivals[len(arrivals) // HEAD_SHARE :]
    gaps = len(kept) - 1
    if gaps < 2:
        return 0.0
    slots = max(1, min(SLOTS, gaps // SLOT_CHUNKS))
    marks = [i * gaps // slots for i in range(slots + 1)]
    rates = []
    for a, b in zip(marks, marks[1:], strict=False):
        # Chunks that came in one batch have one time: a slot without length is not slow, but below the clock.
        rates.append((b - a) * size * 8 / max(kept[b] - kept[a], 1e-6) / 1000)
    return float(median(rates))


def committee_rate(rates: Sequence[int]) -> int:
    """The lower median of the verifiers' reports in kbit/s, as the contract takes it; zero for none."""
    return median_low(rates) if rates else 0
