"""Does a heap of packets look like anything at all? Statistics that a deep packet inspector could make, and more.

Looked at: the first 64 bytes of a packet and its last 32. Every statistic becomes a z-value that is standard normal
for random bytes; all of them together may go wrong with probability ALPHA (Bonferroni), so the bound on |z| grows with
their number. What 10^5 packets can show with the bound at 7: a byte position of which one value comes twice as often as
it should; a pair of positions that agree in 3 % of the packets; two bits that agree in 51.2 % of them.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

import numpy as np

FRONT, BACK = 64, 32
ALPHA = 1e-6
_LEAST = 1280  # packets for 256 values: five each
_LEAST_JOINT = 20000  # for 65536 pairs of values: the sum is normal long before each cell is
Bytes = np.ndarray


def chi_square(counts: Bytes, total: int) -> float:
    """z of the chi-square against equal shares (Wilson and Hilferty 1931 for few cells).

    Both ends count: a counter is far too even.
    """
    cells = len(counts)
    x = float(np.dot(counts, counts)) * cells / total - total
    k = cells - 1
    if k > 2000:
        return (x - k) / (2 * k) ** 0.5
    return float(((x / k) ** (1 / 3) - (1 - 2 / (9 * k))) / (2 / (9 * k)) ** 0.5)


@dataclass
class Finding:
    """One statistic that is too far out."""

    group: str
    what: str
    z: float

    def __str__(self) -> str:
        return f"{self.group}: {self.what}: z = {self.z:.1f}"


@dataclass
class Report:
    """All statistics made: how many, the largest, and which are beyond the bound."""

    tests: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    far: list[Finding] = field(default_factory=list)

    def add(self, group: str, what: str, place: str, z: float, among: int = 1) -> None:
        self.tests += among
        self.largest[what] = max(self.largest.get(what, 0.0), abs(z))
        if abs(z) > 5:
            self.far.append(Finding(group, f"{what} {place}", z))

    @property
    def bound(self) -> float:
        return statistics.NormalDist().inv_cdf(1 - ALPHA / 2 / max(self.tests, 1))

    @property
    def findings(self) -> list[Finding]:
        return sorted((f for f in self.far if abs(f.z) > self.bound), key=lambda f: -abs(f.z))


def columns(packets: list[bytes]) -> tuple[Bytes, list[str]]:
    """Packets as rows of bytes: front and back of those that have both, and the columns' names; for shorter packets, the
    front alone, as far as the shortest reaches."""
    if min(map(len, packets)) >= FRONT + BACK:
        rows = b"".join(p[:FRONT] + p[-BACK:] for p in packets)
        names = [str(i) for i in range(FRONT)] + [str(i) for i in range(-BACK, 0)]
    else:
        width = min(map(len, packets))
        rows = b"".join(p[:width] for p in packets)
        names = [str(i) for i in range(width)]
    return np.frombuffer(rows, np.uint8).reshape(len(packets), len(names)), names


def positions(report: Report, group: str, m: Bytes, names: list[str]) -> None:
    """Is each position uniform?"""
    for i, name in enumerate(names):
        report.add(group, "byte", name, chi_square(np.bincount(m[:, i], minlength=256), len(m)))


def pairs(report: Report, group: str, m: Bytes, names: list[str]) -> None:
    """Does any position tell of another? Their difference, and all pairs of values, or with few packets their xor."""
    n, width = m.shape
    wide = [np.ascontiguousarray(m[:, i]) for i in range(width)]
    if n >= _LEAST_JOINT:
        whole = [w.astype(np.intp) for w in wide]
    for i in range(width):
        for j in range(i + 1, width):
            place = f"{names[i]}, {names[j]}"
            if n < _LEAST_JOINT:
                report.add(group, "difference", place, chi_square(np.bincount(wide[j] - wide[i], minlength=256), n))
                report.add(group, "xor", place, chi_square(np.bincount(wide[j] ^ wide[i], minlength=256), n))
                continue
            joint = np.bincount(whole[i] << 8 | whole[j], minlength=65536)
            report.add(group, "pair", place, chi_square(joint, n))
            report.add(group, "difference", place, chi_square(differences(joint), n))


def differences(joint: Bytes) -> Bytes:
    """Counts of (b - a) mod 256 from the counts of all pairs (a, b)."""
    twice = np.concatenate([joint.reshape(256, 256)] * 2, axis=1)
    step = twice.itemsize
    return np.lib.stride_tricks.as_strided(twice, (256, 256), (513 * step, step)).sum(axis=0)


def bits(report: Report, group: str, what: str, a: Bytes, b: Bytes, names: list[str]) -> None:
    """Correlation of every bit of `a` with every bit of `b` in the same row; within one matrix, each pair once."""
    n = len(a)
    x = np.unpackbits(a, axis=1).astype(np.float32) * 2 - 1
    y = x if a is b else np.unpackbits(b, axis=1).astype(np.float32) * 2 - 1
    z = x.T @ y / np.float32(n**0.5)
    if a is b:
        z = np.triu(z, 1)
    tests = z.size if a is not b else z.shape[0] * (z.shape[0] - 1) // 2
    report.add(group, what, "", 0.0, tests)
    worst = np.argwhere(np.abs(z) > 5)
    worst = worst[np.argsort(-np.abs(z[worst[:, 0], worst[:, 1]]))][:50]
    for i, j in worst if len(worst) else [np.unravel_index(np.abs(z).argmax(), z.shape)]:
        report.add(group, what, f"{names[i // 8]}.{i % 8}, {names[j // 8]}.{j % 8}", float(z[i, j]), 0)


def successive(report: Report, group: str, before: Bytes, after: Bytes, names: list[str]) -> None:
    """Does a packet tell of the next one of its flow? Does anything count?"""
    n = len(before)
    for i, name in enumerate(names):
        a, b = before[:, i], after[:, i]
        step = np.bincount(b - a, minlength=256)
        report.add(group, "step", name, chi_square(step, n))
        ups = (int(step[1]) - n / 256) / (n / 256 * 255 / 256) ** 0.5
        report.add(group, "counts up", name, ups)
        report.add(group, "change", name, chi_square(np.bincount(a ^ b, minlength=256), n))
        if n >= _LEAST_JOINT:
            joint = np.bincount(a.astype(np.uint16) << 8 | b, minlength=65536)
            report.add(group, "successive pair", name, chi_square(joint, n))
    bits(report, group, "successive bits", before, after, names)


def check(kinds: dict[str, list[tuple[int, bytes]]], thorough: bool = True) -> Report:
    """Judge packets by kind: lists of (flow, packet) in the order of time; also all of them together.

    Kinds with too few packets for any statistic are left to the whole. Not `thorough`: pairs of positions of a large
    kind are judged by their bits, and by their values only in the whole.
    """
    report = Report()
    everything = [p for k in kinds.values() for p in k]
    groups = {**kinds, "all": everything} if len(kinds) > 1 else dict(kinds)
    for name, packets in groups.items():
        for part, chosen in (
            (name, [p for p in packets if len(p[1]) >= FRONT + BACK]),
            (name + " short", [p for p in packets if len(p[1]) < FRONT + BACK]),
        ):
            if len(chosen) < _LEAST:
                continue
            m, names = columns([p for _, p in chosen])
            positions(report, part, m, names)
            if thorough or name == "all" or len(chosen) < _LEAST_JOINT:
                pairs(report, part, m, names)
            bits(report, part, "bits", m, m, names)
            flows = np.array([f for f, _ in chosen])
            order = np.argsort(flows, kind="stable")
            same = flows[order][1:] == flows[order][:-1]
            before, after = m[order[:-1][same]], m[order[1:][same]]
            if len(before) >= _LEAST:
                successive(report, part, before, after, names)
    return report


def spread(lengths: list[int], values: int) -> tuple[float, float, int]:
    """How lengths spread: z of the chi-square over `values` consecutive lengths, the largest share, distinct ones."""
    low = min(lengths)
    counts = np.bincount(np.array(lengths) - low, minlength=values)
    return chi_square(counts, len(lengths)), float(counts.max() / len(lengths)), int((counts > 0).sum())
