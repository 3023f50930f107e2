"""A whole run at the most talkative log level: nothing that is money or a key is in any log of it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from tests.lab import secrets
from tests.lab.proc import RUN
from tests.lab.test_first_light import run


@pytest.mark.slow
@pytest.mark.root
def test_no_log_of_a_run_holds_a_secret() -> None:
    status, lines, _ = run(RUN_BYTES="1000000", LAB_LOG_LEVEL="debug")
    assert status == 0, "\n".join(lines)
    found = secrets.secrets_under(RUN)
    kinds = {Path(source).name for source in found.values()}
    assert {"identity.key", "static.key", "obf.key", "wallet.key", "mint.seed", "operator.key", "treasury.key"} <= kinds
    assert any(name.startswith("batch-") for name in kinds) and len(found) > 50
    logs = sorted(RUN.glob("*.log"))
    names = {p.stem for p in logs}
    assert {"gateway", "client", "r1-agent", "r1-relay", "dc-agent"} <= names
    assert all("\n" in p.read_text(errors="replace") for p in logs if p.stem in ("gateway", "client", "r1-agent"))
    assert secrets.told(found, logs) == []


def test_a_secret_in_a_log_is_found_in_every_shape(tmp_path: Path) -> None:
    secret = os.urandom(32)
    (tmp_path / "wallet.key").write_text("0x" + secret.hex() + "\n")
    (tmp_path / "batch-1.json").write_text(json.dumps({"tickets": [{"top": "ab" * 32, "id": "cd" * 32}]}))
    found = secrets.secrets_under(tmp_path)
    assert set(found) == {secret.hex(), "ab" * 32}
    shapes = [secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode()]
    for number, shape in enumerate(shapes):
        log = tmp_path / f"{number}.log"
        log.write_text(f"begin {shape} end\n")
        assert secrets.told(found, [log]) == [f"{number}.log tells a secret of wallet.key"], shape
    raw = tmp_path / "raw.log"
    raw.write_bytes(b"begin " + secret)
    assert secrets.told(found, [raw])
    good = tmp_path / "good.log"
    good.write_text("cd" * 32)
    assert secrets.told(found, [good]) == []


def test_a_secret_is_found_wherever_it_stands(tmp_path: Path) -> None:
    """In the middle of other hex, of Base64, of bytes; many secrets and sizes at once."""
    found = {os.urandom(size).hex(): f"{size}-{i}" for size in (16, 32, 33, 64) for i in range(500)}
    log = tmp_path / "all.log"
    for secret, source in list(found.items())[::97]:
        plain = bytes.fromhex(secret)
        coded = base64.b64encode(plain).rstrip(b"=")
        for shape in (secret.encode(), coded, coded.replace(b"+", b"-").replace(b"/", b"_"), plain):
            around = ((b"id=", b"&"), (b"0f" * 40, b"a7" * 3), (b"AZ" * 20, b"=="), (b"", b""), (os.urandom(50), os.urandom(9)))
            for before, after in around:
                log.write_bytes(b"no " + before + shape + after + b" no")
                assert secrets.told(found, [log]) == [f"all.log tells a secret of {source}"], (shape, before)
    log.write_bytes(b"\n".join(os.urandom(32).hex().encode() for _ in range(1000)) + os.urandom(4000))
    assert secrets.told(found, [log]) == []
