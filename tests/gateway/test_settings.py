"""Wrong settings name the setting, the value and what is allowed; keys and logs keep secrets."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from bwgateway import keys, log, settings
from tests.gateway.rig import ROOT


def write(tmp_path: Path, document: object, name: str = "gateway.json") -> Path:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"port": 70000}, ["port", "70000", "65535"]),
        ({"epoch_seconds": 0}, ["epoch_seconds", "0", "2"]),
        ({"regions": []}, ["regions", "at least 1"]),
        ({"regions": [0]}, ["regions.0", "0", "1"]),
        ({"chain": {"rpc": "ftp://x"}}, ["chain.rpc", "ftp://x", "embedded"]),
        ({"chain": {"rcp": "embedded"}}, ["chain.rcp", "no such setting"]),
        ({"database_url": "mysql://x"}, ["database_url", "postgresql+psycopg://"]),
        ({"log_level": "loud"}, ["log_level", "loud", "debug"]),
        ("{", ["--config", "gateway.json"]),
        ("[]", ["--config", "object"]),
    ],
)
def test_bad_settings(tmp_path: Path, document: object, words: list[str]) -> None:
    with pytest.raises(settings.BadSettings) as refused:
        settings.load(write(tmp_path, document))
    for word in words:
        assert word in str(refused.value)


def test_the_command_exits_2(tmp_path: Path) -> None:
    path = write(tmp_path, {"port": -1, "mint": {"batch": 0}})
    run = subprocess.run(
        [sys.executable, "-m", "bwgateway", "serve", "--config", str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT / "src",
        check=False,
    )
    assert run.returncode == 2
    assert "port: -1" in run.stderr and "mint.batch: 0" in run.stderr and "Traceback" not in run.stderr


def test_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, 'port = 1234\n[chain]\nrpc = "http://a:1"\nport = 5\n', "gateway.toml")
    monkeypatch.setenv("BWGATEWAY_CHAIN__RPC", "http://b:2")
    loaded = settings.load(path)
    assert (loaded.port, loaded.chain.port, loaded.chain.rpc) == (1234, 5, "http://b:2")


def test_key_files(tmp_path: Path) -> None:
    made = keys.load_or_create(tmp_path)
    assert keys.load_or_create(tmp_path).public == made.public
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "mint.seed").write_text("00ff")
    with pytest.raises(keys.BadKey, match=r"mint\.seed: holds 2 bytes"):
        keys.load_or_create(tmp_path)


def test_logs_withhold_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    log.configure("info", True)
    told = "ClientError: 502, url='https://u:p@rpc.example:8545/v2/apikey?x=1', postgresql+psycopg://bw:pw@db/bw"
    structlog.get_logger().info("event", mint_seed="aa", preimage="bb", units=3, error=told)
    line = json.loads(capsys.readouterr().err)
    structlog.reset_defaults()
    assert (line["mint_seed"], line["preimage"], line["units"]) == ("(withheld)", "(withheld)", 3)
    assert line["error"] == "ClientError: 502, url='https://rpc.example:8545', postgresql+psycopg://db"
