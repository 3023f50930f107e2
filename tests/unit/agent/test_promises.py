"""Receipts for the chain: whose signature counts, which are kept, and what a root lacks beside them."""

from harness import raises

from bwrouter.agent import promises
from bwrouter.ledger import eip712, secp256k1
from bwrouter.platform import clock

SECRET = b"\7" * 32
GATEWAY = "0x" + secp256k1.address(secp256k1.public_key(SECRET)).hex()
CONTRACT, TOKEN, ACCOUNT = "0x" + "c0" * 20, "0x" + "70" * 20, "0x" + "ac" * 20
INFO = {"account": GATEWAY, "chain_id": 31337, "contracts": {"settlement": CONTRACT, "token": TOKEN}}


def given(epoch=5, wei=1000, chain_id=31337, contract=CONTRACT, secret=SECRET, region=1, account=ACCOUNT):
    values = {
        "gateway": bytes.fromhex(GATEWAY[2:]),
        "region": region,
        "account": bytes.fromhex(account[2:]),
        "epoch": epoch,
        "cumulative": wei,
    }
    separator = eip712.domain_separator("bwrouter Settlement", "1", chain_id, bytes.fromhex(contract[2:]))
    signature = secp256k1.signature(eip712.digest(separator, promises.RECEIPT, values), secret)
    return {
        "region": region, "account": account, "epoch": epoch, "cumulative_wei": str(wei), "sig": signature.hex()
    }  # fmt: skip


def kept(*rows):
    out = []
    for epoch, wei in rows:
        promises.add(out, promises.bound(given(epoch, wei), INFO))
    return out


def test_a_right_receipt():
    promises.check(promises.bound(given(), INFO))


def test_another_chain_contract_signer_or_amount_is_refused():
    for wrong in (given(chain_id=1), given(contract="0x" + "c1" * 20), given(secret=b"\x09" * 32)):
        raises(promises.Wrong, promises.check, promises.bound(wrong, INFO))
    for name, value in (("cumulative_wei", "1001"), ("epoch", 4), ("region", 2), ("account", TOKEN)):
        wrong = given()
        wrong[name] = value
        raises(promises.Wrong, promises.check, promises.bound(wrong, INFO))


def test_a_sum_without_end_is_not_even_read():
    for digits in (79, 300000):
        wrong = given()
        wrong["cumulative_wei"] = "9" * digits
        try:
            promises.bound(wrong, INFO)
            assert False, "%d digits" % digits
        except promises.Wrong as error:
            assert len(str(error)) < 100  # it stands in the log and in status


def test_malformed_receipts():
    changes = {"region": "1", "account": "0x12", "epoch": None, "cumulative_wei": "-1", "sig": "00"}
    for name in changes:
        wrong = given()
        wrong[name] = changes[name]
        raises(promises.Wrong, promises.bound, wrong, INFO)
        del wrong[name]
        raises(promises.Wrong, promises.bound, wrong, INFO)
    wrong = given()
    wrong["sig"] = "zz" * 65
    raises(promises.Wrong, promises.check, promises.bound(wrong, INFO))


def test_the_newest_of_each_epoch_is_kept():
    found = kept((5, 10), (5, 30), (5, 20), (6, 40))
    assert [(r["epoch"], r["cumulative_wei"]) for r in found] == [(5, "30"), (6, "40")]
    found = kept(*[(epoch, 10 * epoch) for epoch in range(20)])
    assert len(found) == promises.EPOCHS and found[-1]["epoch"] == 19


def short(receipts, posted, epoch=6, until=99):
    proved = {"epoch": epoch, "claimable_at": until, "root": "aa", "pending_root": "bb"}
    return promises.shortfall(receipts, proved, 1, bytes.fromhex(ACCOUNT[2:]), posted)


def test_what_a_root_lacks():
    receipts = kept((5, 1000), (7, 2000))
    assert short(receipts, ("bb", "1000")) is None
    found = short(receipts, ("bb", "999"))
    assert (found["code"], found["promised_wei"], found["posted_wei"]) == ("root-below-receipt", "1000", "999")
    assert found["receipt"]["epoch"] == 5 and found["until"] == 99  # the one of epoch 7 is not due yet
    assert short(receipts, ("aa", "1000"))["posted_wei"] == "0"  # the leaf of another root counts for nothing
    assert short(receipts, None)["posted_wei"] == "0"
    assert short(receipts, ("aa", "1000"), until=0) is None  # the final root
    assert short(receipts, None, epoch=4) is None and short([], None) is None
    assert short(receipts, ("bb", "1999"), epoch=8)["promised_wei"] == "2000"


def test_it_is_checked_when_the_epoch_is_new_and_by_and_by():
    inbox = promises.Inbox()
    assert len(inbox.take("k", [given(5, 10)], INFO)) == 1
    assert inbox.take("k", [given(5, 20)], INFO) == [] and inbox.due() == []
    good = inbox.take("k", [given(6, 30)], INFO)  # the last one of the old epoch is not lost
    assert [(r["epoch"], r["cumulative_wei"]) for r in good] == [(5, "20"), (6, "30")]
    assert inbox.take("k", [given(6, 40)], INFO) == []
    inbox._checked["k", 1] = (6, clock.unix() - promises.CHECK_S)
    assert [(key, r["cumulative_wei"]) for key, r in inbox.due()] == [("k", "40")]
    assert inbox.error == {}


def test_a_forged_or_missing_one_is_told():
    inbox = promises.Inbox()
    for wrong in (None, [], 5):
        assert inbox.take("k", wrong, INFO) == [] and inbox.error["k"][0] == promises.NONE
    assert inbox.take("k", [given(secret=b"\x09" * 32)], INFO) == [] and inbox.error["k"][0] == promises.FORGED
    assert len(inbox.take("k", [given(6)], INFO)) == 1 and inbox.error == {}
