"""Too many requests are refused by address and by identity; HTTPS by the gateway itself; logs without secrets."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from bwgateway.limits import Buckets, Limits
from bwgateway.problems import Problem
from bwgateway.settings import BadSettings, LimitSettings, load
from tests.gateway.rig import Relay, Rig


def test_a_bucket_refills() -> None:
    bucket = Buckets(2.0, 3)
    assert [bucket.take("a", 10.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take("a", 10.0) == pytest.approx(0.5) == bucket.take("a", 10.0)
    assert bucket.take("b", 10.0) == 0
    assert bucket.take("a", 10.25) == pytest.approx(0.25)
    assert bucket.take("a", 10.5) == 0 and bucket.take("a", 10.5) > 0
    assert [bucket.take("a", 100.0) for _ in range(4)][2:] == [0, pytest.approx(0.5)]
    assert all(Buckets(0, 1).take("a", 0) == 0 for _ in range(9))


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwgateway.limits._MOST", 100)
    bucket = Buckets(1.0, 5)
    for i in range(1000):
        bucket.take(i, 0.0)
    assert len(bucket._level) <= 101


def test_whom_a_request_counts_for() -> None:
    limits = Limits(LimitSettings(proxies=["127.0.0.0/8", "10.0.0.0/24"]))
    assert limits.source("198.18.0.9", ["1.2.3.4"]) == "198.18.0.9"  # not our proxy: what it says is nothing
    assert limits.source("127.0.0.1", []) == "127.0.0.1"
    assert limits.source("127.0.0.1", ["1.2.3.4, 198.18.0.7"]) == "198.18.0.7"
    assert limits.source("127.0.0.1", ["9.9.9.9, 198.18.0.7", "10.0.0.3"]) == "198.18.0.7"
    assert limits.source("127.0.0.1", ["1.2.3.4, nonsense"]) == "127.0.0.1"
    assert limits.source("2001:2:0:5:a:b:c:d", []) == limits.source("2001:2:0:5::1", []) == "2001:2:0:5::/64"
    assert limits.source("", []) == ""
    one = Limits(LimitSettings(identity_per_s=1, identity_burst=1))
    one.by_identity(b"a")
    one.by_identity(b"b")
    with pytest.raises(Problem, match="identity"):
        one.by_identity(b"a")


@pytest.mark.slow
def test_too_many_requests(tmp_path: Path) -> None:
    limits = {"address_per_s": 20, "address_burst": 40, "identity_per_s": 1, "identity_burst": 3}
    rig = Rig(tmp_path, limits={**limits, "proxies": ["127.0.0.1/32"]}).start()
    try:
        time.sleep(2)
        relay = Relay(rig).register()
        time.sleep(2)

        def redeem(who: Relay) -> requests.Response:
            item = {"id": "00" * 32, "index": 1, "preimage": "00" * 32}
            return rig.post("/v1/redeem", who.sign("/v1/redeem", {"items": [item]}))

        codes = [redeem(relay).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        refused = redeem(relay)
        assert refused.json()["code"] == "rate" and "identity" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "1"
        forged = relay.sign("/v1/redeem", {"items": [{"id": "00" * 32, "index": 1, "preimage": "00" * 32}]})
        forged["sig"] = "00" * 64
        assert rig.post("/v1/redeem", forged).status_code == 401  # takes no token of the relay
        assert redeem(Relay(rig)).status_code == 200
        seen = [rig.http.get(rig.url + "/v1/epochs", timeout=5) for _ in range(60)]
        last = seen[-1]
        assert last.status_code == 429 and last.headers["content-type"] == "application/problem+json"
        assert "address" in last.json()["detail"]
        other = rig.http.get(rig.url + "/v1/epochs", headers={"x-forwarded-for": "198.18.0.5"}, timeout=5)
        assert other.status_code == 200
        text = rig.http.get(rig.url + "/metrics", headers={"x-forwarded-for": "198.18.0.6"}, timeout=5).text
        assert 'bwgateway_limited_requests_total{by="identity"} 3.0' in text
    finally:
        rig.stop()


def certificate(folder: Path, name: str) -> dict[str, str]:
    """A self-signed certificate for 127.0.0.1 by Debian's openssl."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return {"certificate": str(cert), "key": str(key)}


def subject(rig: Rig) -> str:
    """The common name of the certificate that the gateway shows now."""
    pem = ssl.get_server_certificate(("127.0.0.1", rig.port))
    shown = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, capture_output=True, text=True)
    return shown.stdout.strip().rpartition("= ")[2]


@pytest.mark.slow
def test_https(tmp_path: Path) -> None:
    tls: dict[str, Any] = {**certificate(tmp_path, "first"), "minimum": "1.3"}
    rig = Rig(tmp_path, tls=tls)
    rig.url = rig.url.replace("http://", "https://")
    rig.http.verify = tls["certificate"]
    rig.start()
    try:
        answer = rig.http.get(rig.url + "/v1/info", timeout=5)
        assert answer.status_code == 200 and "max-age" in answer.headers["strict-transport-security"]
        with pytest.raises(requests.RequestException):
            requests.get(rig.url.replace("https", "http") + "/healthz", timeout=5)
        old = ssl.create_default_context(cafile=tls["certificate"])
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", rig.port)) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw, server_hostname="127.0.0.1")
        run = subprocess.run(
            rig.command("status", "--json"), env=rig.environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        assert subject(rig) == "first"
        certificate(tmp_path, "second")
        assert rig.process is not None
        os.kill(rig.process.pid, signal.SIGHUP)
        rig.until(lambda: subject(rig) == "second", 10, "the new certificate")
        (tmp_path / "cert.pem").write_text("nonsense")
        os.kill(rig.process.pid, signal.SIGHUP)
        rig.until(lambda: "tls.not_reloaded" in rig.log.read_text(), 10, "the complaint")
        assert subject(rig) == "second"
    finally:
        assert rig.stop() == 0


def test_tls_settings_are_checked_at_the_start(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "x")
    other = tmp_path / "other"
    other.mkdir()
    for tls, words in (
        ({"certificate": pair["certificate"]}, "belong together"),
        ({"certificate": pair["certificate"], "key": certificate(other, "y")["key"]}, "can't be used"),
        ({"certificate": "/nowhere.pem", "key": pair["key"]}, "nowhere.pem"),
        ({**pair, "minimum": "1.1"}, "tls.minimum"),
    ):
        path = tmp_path / "gateway.json"
        path.write_text(json.dumps({"tls": tls}))
        with pytest.raises(BadSettings, match=words):
            load(path)


@pytest.mark.slow
def test_the_log_of_a_whole_purchase_holds_no_secret(tmp_path: Path) -> None:
    rig = Rig(tmp_path, log_level="debug").start()
    try:
        relay, wallet = Relay(rig).register(), rig.wallet()
        first, second = wallet.buy(1, 64, 2)
        relay.open(first)
        relay.redeem((first.id, 64, first.top))
        wallet.store.take(second)
        assert wallet.reclaim(1)
        rig.post("/v1/open", {"relay": "zz", "tickets": []})
        rig.until(lambda: int(relay.earnings()["balance_wei"]), 40, "claim")
    finally:
        rig.stop()
    text = rig.log.read_text().lower()
    assert "settlement.settled" in text and '"request"' in text
    secrets = {name: (rig.state / name).read_text().strip() for name in ("gateway.key", "mint.seed", "operator.key")}
    for i, ticket in enumerate((first, second)):
        secrets |= {f"top {i}": ticket.top.hex(), f"output {i}": ticket.output.hex(), f"w1 {i}": ticket.preimage(1).hex()}
        secrets |= {f"anchor {i}": ticket.anchor.hex()}
    for name, secret in secrets.items():
        assert secret not in text, name
