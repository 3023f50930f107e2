"""Transactions on a node that loses what it was given, as a chain does that is reorganised."""

from __future__ import annotations

import threading
import time

import pytest
from eth_account import Account

from bwclient.chain import Chain, ChainError
from tests.contracts.deployment import ETHER, anvil, deploy
from tests.lab.proc import wait_for
from tests.verifier.test_duty import MNEMONIC, WINDOWS

WAIT = 12.0


class Slow:
    """A token and an account of a node that mines when it is told to; what a transfer in a thread came to."""

    def __init__(self, w3):
        self.d = deploy(w3, WINDOWS)
        key = bytes(Account.from_mnemonic(MNEMONIC, account_path="m/44'/60'/0'/0/1").key)
        self.chain = Chain(w3.provider.endpoint_uri, key, alone=True)
        self.token = str(self.d.bwt.address)
        self.d.send(self.d.bwt.functions.transfer(self.chain.address, 100 * ETHER))
        self.said: list[str] = []

    def rpc(self, method, *params):
        return self.chain.rpc(method, *params)

    def transfer(self, wei):
        def run():
            try:
                self.chain.send(self.token, "transfer(address,uint256)", "0x" + "11" * 20, wei, wait=WAIT)
                self.said.append("mined")
            except ChainError as e:
                self.said.append(str(e))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def waiting(self):
        """Hash of the transaction that waits in the pool."""
        content = self.rpc("txpool_content")
        found = [t for kind in ("pending", "queued") for by in content[kind].values() for t in by.values()]
        return found[0]["hash"] if found else ""


@pytest.fixture
def slow():
    with anvil() as w3:
        yield Slow(w3)


def test_what_a_node_forgets_is_sent_again(slow):
    slow.rpc("evm_setAutomine", False)
    thread = slow.transfer(5)
    wait_for("the transaction", slow.waiting, 5)
    slow.rpc("anvil_dropTransaction", slow.waiting())
    assert not slow.waiting()
    wait_for("the transaction again", slow.waiting, 8)
    slow.rpc("evm_mine")
    thread.join(5)
    assert slow.said == ["mined"]


def test_what_waits_for_a_lost_one_is_not_waited_for(slow):
    """The one before it is gone with its block: who is alone hears of it, and sends both anew."""
    slow.rpc("evm_setAutomine", False)
    first = slow.transfer(5)
    wait_for("the first", slow.waiting, 5)
    slow.rpc("evm_mine")
    first.join(5)
    assert slow.said == ["mined"]
    second = slow.transfer(7)
    wait_for("the second", slow.waiting, 5)
    began = time.monotonic()
    slow.rpc("anvil_reorg", 1, [])
    second.join(WAIT)
    assert time.monotonic() - began < WAIT - 2, "it was waited for to the end"
    assert len(slow.said) == 2 and "waits for another that the chain has lost" in slow.said[1]
    slow.rpc("evm_setAutomine", True)
    slow.chain.send(slow.token, "transfer(address,uint256)", "0x" + "22" * 20, 9)
    assert slow.d.bwt.functions.balanceOf("0x" + "22" * 20).call() == 9
