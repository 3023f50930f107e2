"""Answers to challenges of this gateway's pending root: the leaf that honours the receipt, with its proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from bwgateway.chain.answers import Reverted
from bwgateway.chain.contracts import Contracts
from bwgateway.merkle import Tree, leaf

log = structlog.get_logger()
_OUTCOME_SECONDS = 30.0


async def answer(chain: Contracts, region: int, epoch: Any, tree: Tree, sums: Mapping[str, int]) -> int:
    """Answer every open challenge of the epoch's root that its leaves can answer; how many that were.

    `epoch`: its row; `tree` and `sums`: its leaves, by payout. One that no leaf answers costs the bond: it is logged.
    """
    answered = 0
    for challenge in await chain.challenges(region, await chain.block_of(epoch.posted_tx)):
        account, said = challenge.account.lower(), {"region": region, "epoch": epoch.number}
        wei = sums.get(account, 0)
        if wei < challenge.cumulative:
            log.error("challenge.unanswerable", **said, account=account, leaf=wei, receipt=challenge.cumulative)
            continue
        proof = tree.proof(leaf(bytes.fromhex(account[2:]), wei))
        try:
            hash = await chain.answer(region, challenge, wei, proof)
        except Reverted as e:
            log.error("challenge.refused", **said, account=account, reason=str(e))
            continue
        if await chain.outcome(hash, _OUTCOME_SECONDS):
            log.info("challenge.answered", **said, account=account)
            answered += 1
    return answered
