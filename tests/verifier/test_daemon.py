"""What the daemon leaves alone: an audit that is due too late, evidence of a report that it has not revealed."""

from __future__ import annotations

import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from eth_account import Account

from bwclient.chain import ChainError
from bwverifier.covert import Delivery
from bwverifier.daemon import BURST, Verifier, _stands
from bwverifier.journal import Audit, Journal, Record, Task
from bwverifier.probe import Measurement, Stopped
from tests.contracts.deployment import anvil
from tests.verifier.test_duty import AUDIT, CLAIM, COMMIT, RELAY, World


@pytest.fixture
def daemon(tmp_path):
    """A verifier without settings, chain and purse; its journal is real, and so is what a test adds."""
    v = Verifier.__new__(Verifier)
    v.journal, v.epoch, v.stop, v._probe = Journal(tmp_path / "journal.sqlite"), 7, False, None
    said: list[str] = []
    v._do, v.say, v.events = lambda what: None, said.append, said  # type: ignore[method-assign,assignment]
    yield v
    v.journal.close()


def test_an_audit_that_is_due_too_late_is_given_up(daemon, tmp_path):
    """It was measured again and again, each time for nothing, until the epoch ended."""
    with anvil("--accounts", "11") as w3:
        world = World(w3, tmp_path)
        epoch, seated = world.begin()
        daemon.duty, daemon.epoch = seated[0], epoch
        daemon.pool = SimpleNamespace(get=lambda relay: SimpleNamespace(relay=relay))
        daemon.journal.plan(Task(epoch=epoch, relay=RELAY, kind=BURST, at=1, done=False))
        assert not daemon._too_late(RELAY)
        world.warp(epoch * AUDIT + COMMIT)
        task = daemon.journal.due(epoch, world.duties[0].now())
        daemon._perform(task)
        assert daemon._probe is None and daemon.journal.due(epoch, world.duties[0].now()) is None
        assert daemon.events == [f"epoch {epoch}: {RELAY.hex()[:12]}: too late to report"]


class Mute:
    """Circuits on which other hops fail, again and again: they say nothing of the relay."""

    def __init__(self, stopped):
        self.stopped, self.tries = stopped, 0

    def measure(self, path, target, ms, expect_kbps=0):
        self.tries += 1
        for _ in range(10):
            time.sleep(0.05)
            if self.stopped():
                raise Stopped
        return Measurement(path[target].relay, bytes(32), failed_hop=len(path) - 1)


def test_a_measurement_ends_with_the_time_to_report(daemon, tmp_path):
    """Fourteen circuits, each of which waits for hops that are gone, outlasted the time to reveal what was committed."""
    with anvil("--accounts", "11") as w3:
        world = World(w3, tmp_path)
        epoch, seated = world.begin()
        daemon.duty, daemon.epoch, daemon.covert = seated[0], epoch, None
        target = SimpleNamespace(relay=RELAY, rate=CLAIM, anchored=False)
        others = [SimpleNamespace(relay=bytes([i]) * 32, rate=CLAIM, anchored=False) for i in range(3)]
        daemon.pool = SimpleNamespace(get=lambda relay: target, listed=others, audited=lambda relay: 0)
        daemon.settings = SimpleNamespace(hops=3, tries=2, long_ms=1000, burst_ms=300)
        daemon._probe = Mute(daemon._is_over)
        daemon.journal.plan(Task(epoch=epoch, relay=RELAY, kind=BURST, at=1, done=False))
        world.warp(epoch * AUDIT + COMMIT - 2)
        began = time.monotonic()
        daemon._perform(daemon.journal.due(epoch, daemon.duty.now()))
        assert time.monotonic() - began < 4 and 1 <= daemon._probe.tries <= 5
        assert daemon.events == [f"{RELAY.hex()[:12]}: broken off, the time to report is over"]
        assert daemon.journal.due(epoch, world.duties[0].now()) is None, "it is not begun again"
        assert not daemon.journal.to_reveal() and not daemon.journal.records(epoch)


@pytest.mark.parametrize(
    ("at", "committed", "least", "most"),
    [(-100, True, 199, 201), (150, True, 49, 51), (-100, False, math.inf, math.inf)],
)  # seconds from the end of the time to commit; the time to reveal is 200
def test_a_covert_audit_leaves_time_to_reveal(daemon, at, committed, least, most):
    """It ends with half of that time; one that begins later is not cut off at once, or relays had an hour without any."""
    daemon.epoch = 7
    daemon.duty = SimpleNamespace(audit=600, commit_for=200, reveal_for=200, now=lambda: 7 * 600 + 200 + at)
    if committed:
        daemon.journal.add(Audit(relay=RELAY, epoch=7, place=0, report="0", salt=b"", state="committed", evidence=b""))
    target, left = SimpleNamespace(relay=RELAY), []

    def audit(*words):
        left.append(daemon._until - time.monotonic())
        assert words[-1] == daemon._is_over and not daemon._is_over()
        return Delivery(RELAY)

    daemon.covert, daemon.purse = SimpleNamespace(audit=audit), None
    daemon.pool = SimpleNamespace(listed=[target])
    daemon.settings = SimpleNamespace(habit="short", covert_url="")
    daemon._covertly(target)
    assert least <= left[0] <= most


def test_failures_do_not_put_off_reveals_for_long(daemon):
    """A pause that grew to half a minute let the time to reveal pass by; no purchase is waited for at the start."""
    slept: list[float] = []

    def turn():
        raise ChainError("the node is silent")

    def sleep(seconds):
        slept.append(seconds)
        daemon.stop = len(slept) == 40

    stocked: list[bool] = []
    daemon.purse = SimpleNamespace(stock_up=lambda wait=True: stocked.append(wait))
    daemon.duty = SimpleNamespace(status=lambda: (0, 0, 0), reveal_for=80)
    daemon.chain, daemon.settings = SimpleNamespace(address="0x1"), SimpleNamespace(poll_seconds=2.0)
    daemon.error, daemon.turn, daemon._sleep = "", turn, sleep
    daemon.run()
    assert stocked == [False] and slept[:3] == [4.0, 6.0, 8.0] and max(slept) == 10.0


class Gateway(BaseHTTPRequestHandler):
    """Takes evidence, or answers with the first of `answers`."""

    posted: list[dict[str, Any]] = []
    answers: list[int] = []

    def do_GET(self):  # noqa: N802 - the library's name
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"contracts": {"proof": "0xB0"}}).encode())

    def do_POST(self):  # noqa: N802 - the library's name
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.answers.pop(0) if self.answers else 200)
        self.end_headers()

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def gateway(daemon):
    Gateway.posted, Gateway.answers = [], []
    server = HTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    daemon.settings = SimpleNamespace(post_evidence=True, gateway=SimpleNamespace(url=url))
    daemon.chain = SimpleNamespace(account=Account.from_key(b"\1" * 32), address="0x1")
    daemon.pool = SimpleNamespace(_session=requests.Session())
    yield Gateway
    server.shutdown()
    server.server_close()
    daemon.pool._session.close()


def measured(daemon, relay, state="revealed", kbps=1, close="00"):
    """An audit of epoch 6 and its measurement."""
    daemon.journal.add(Audit(relay=relay, epoch=6, place=0, report="0", salt=b"", state=state, evidence=b""))
    body = json.dumps({"relay": relay.hex(), "close": close}).encode()
    daemon.journal.note(Record(relay=relay, epoch=6, kind=BURST, time=1, reason=0, kbps=kbps, why="", body=body))


def test_evidence_is_posted_of_what_the_gateway_can_check(daemon, gateway):
    """It refuses the whole of it for one relay whose report it cannot see, or whose rate the relay has not signed."""
    for i, state in enumerate(("revealed", "missed", "judged", "committed")):
        measured(daemon, bytes([i]) * 32, state)
    measured(daemon, b"\7" * 32, close="")
    measured(daemon, b"\x08" * 32, kbps=0, close="")
    daemon._seal()
    (body,) = gateway.posted
    shown = [json.loads(r["record"])["relay"][:2] for r in body["records"]]
    assert shown == ["00", "02", "08"]


def test_evidence_is_posted_again_while_the_gateway_has_no_answer(daemon, gateway):
    measured(daemon, b"\1" * 32)
    gateway.answers = [503, 429]
    for _ in range(2):
        with pytest.raises(requests.RequestException):
            daemon._seal()
    daemon._seal()
    daemon._seal()
    assert len(gateway.posted) == 3 and gateway.posted[0] == gateway.posted[2]


def test_evidence_that_is_refused_is_not_posted_again(daemon, gateway):
    measured(daemon, b"\1" * 32)
    gateway.answers = [422]
    daemon._seal()
    daemon._seal()
    assert len(gateway.posted) == 1 and "takes no evidence: 422" in daemon.events[0]


def test_a_start_while_the_gateway_is_away_knows_the_contract_still(daemon, gateway, tmp_path):
    """A verifier that was killed while its gateway was down did not come back, and what it had to reveal was due."""
    here = daemon.settings.gateway.url
    daemon.settings = SimpleNamespace(gateway=SimpleNamespace(url="http://127.0.0.1:9", key="aa"), state_dir=str(tmp_path))
    with pytest.raises(requests.RequestException):
        daemon._contract()
    daemon.settings.gateway.url = here
    assert daemon._contract() == "0xB0"
    daemon.settings.gateway.url = "http://127.0.0.1:9"
    assert daemon._contract() == "0xB0"
    daemon.settings.gateway.key = "bb"  # another one's chain may have another
    with pytest.raises(requests.RequestException):
        daemon._contract()
    (tmp_path / "contract.json").write_text("cut off by a power c")
    with pytest.raises(requests.RequestException):
        daemon._contract()


@pytest.mark.parametrize(
    ("reason", "kbps", "strikes", "words"),
    [
        (0, 0, 0, "no conclusive verdict so far"),
        (0, 8000, 0, "good, 8000 kbit/s"),
        (1, 3000, 1, "slow, 3000 kbit/s, under suspicion"),
        (2, 0, 2, "unreachable, 0 kbit/s, suspended"),
    ],
)
def test_what_the_contract_holds_is_said_in_words(reason, kbps, strikes, words):
    assert _stands(reason, kbps, strikes) == words
