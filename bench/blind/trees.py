"""Gradient-boosted trees for two classes on histograms of features, in numpy: the usual strong classifier for tables.

Friedman, "Greedy function approximation: a gradient boosting machine" (2001), with the second-order gains and the
binned features of XGBoost (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bins = NDArray[np.int64]
BINS = 32
DEPTH = 3
ROUNDS = 120
RATE = 0.1
LEAST_WEIGHT = 4.0  # of a leaf
SHRINK = 1.0


@dataclass
class _Node:
    """A split (feature, bin) with its two sides, or a leaf's value."""

    value: float = 0.0
    feature: int = -1
    bin: int = 0
    left: _Node | None = None
    right: _Node | None = None


def edges(x: Floats) -> list[Floats]:
    """Quantiles of each feature, between which its bins lie."""
    return [np.unique(np.quantile(x[:, f], np.linspace(0, 1, BINS + 1)[1:-1])) for f in range(x.shape[1])]


def binned(x: Floats, marks: list[Floats]) -> Bins:
    """Which bin each value is in."""
    return np.stack([np.searchsorted(m, x[:, f], side="right") for f, m in enumerate(marks)], axis=1).astype(np.int64)


def _grow(b: Bins, g: Floats, h: Floats, rows: NDArray[np.int64], depth: int) -> _Node:
    node = _Node(value=float(-g[rows].sum() / (h[rows].sum() + SHRINK)))
    if depth == 0 or len(rows) < 8:
        return node
    features = b.shape[1]
    where = (b[rows] + np.arange(features) * BINS).ravel()
    gs = np.bincount(where, np.repeat(g[rows], features), features * BINS).reshape(features, BINS).cumsum(axis=1)
    hs = np.bincount(where, np.repeat(h[rows], features), features * BINS).reshape(features, BINS).cumsum(axis=1)
    whole_g, whole_h = gs[:, -1:], hs[:, -1:]
    gain = gs**2 / (hs + SHRINK) + (whole_g - gs) ** 2 / (whole_h - hs + SHRINK) - whole_g**2 / (whole_h + SHRINK)
    gain[(hs < LEAST_WEIGHT) | (whole_h - hs < LEAST_WEIGHT)] = 0.0
    best = int(gain.argmax())
    if gain.flat[best] <= 1e-9:
        return node
    node.feature, node.bin = divmod(best, BINS)
    low = b[rows, node.feature] <= node.bin
    node.left = _grow(b, g, h, rows[low], depth - 1)
    node.right = _grow(b, g, h, rows[~low], depth - 1)
    return node


def _value(node: _Node, b: Bins) -> Floats:
    if node.left is None or node.right is None:
        return np.full(len(b), node.value)
    low = b[:, node.feature] <= node.bin
    return np.where(low, _value(node.left, b), _value(node.right, b))


def scores(x: Floats, y: Floats, new: Floats) -> tuple[Floats, Floats]:
    """Train on (x, y); the log-odds of `new`, and each feature's share of the splits."""
    marks = edges(x)
    b, b_new = binned(x, marks), binned(new, marks)
    f, f_new = np.zeros(len(x)), np.zeros(len(new))
    used = np.zeros(x.shape[1])
    rows = np.arange(len(x))
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-f))
        tree = _grow(b, p - y, p * (1 - p), rows, DEPTH)
        f += RATE * _value(tree, b)
        f_new += RATE * _value(tree, b_new)
        _count(tree, used)
    return f_new, used / max(used.sum(), 1)


def _count(node: _Node, used: Floats) -> None:
    if node.left is not None and node.right is not None:
        used[node.feature] += 1
        _count(node.left, used)
        _count(node.right, used)


def auc(score: Floats, y: Floats) -> float:
    """Area under the ROC curve: the chance that one of class 1 scores above one of class 0 (ties count half)."""
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    for value in np.unique(score):
        same = score == value
        if same.sum() > 1:
            ranks[same] = ranks[same].mean()
    ones = float(y.sum())
    zeros = len(y) - ones
    return float((ranks[y == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def cross_validated(x: Floats, y: Floats, folds: int = 5, seed: int = 1) -> tuple[float, Floats]:
    """(AUC of held-out scores, how much each feature was used)."""
    rng = np.random.default_rng(seed)
    part = rng.permutation(len(y)) % folds
    found, used = np.zeros(len(y)), np.zeros(x.shape[1])
    for k in range(folds):
        held = part == k
        found[held], share = scores(x[~held], y[~held], x[held])
        used += share / folds
    return auc(found, y), used
