"""A passphrase typed on a terminal: asked for twice, never shown."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.agent.parts import MICROPYTHON, ROOT

PHRASE = "correct horse battery staple"


def typed(command: list[str], answers: list[str]) -> tuple[int, str]:
    """(exit code, all that the terminal showed) of a command whose prompts are answered one after the other."""
    master, slave = pty.openpty()
    environment = {"MICROPYPATH": f"{ROOT}/src:.frozen", "PATH": os.environ["PATH"]}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True)
    os.close(slave)
    shown, deadline = "", time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    shown += os.read(master, 4096).decode()
                except OSError:  # the other end is closed
                    break
                if shown.endswith(": ") and answers:
                    os.write(master, answers.pop(0).encode() + b"\n")
            elif process.poll() is not None:
                break
        return process.wait(5), shown
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize("second", [PHRASE, "something else"])
def test_backup(second: str, tmp_path: Path) -> None:
    settings = {"run_dir": str(tmp_path), "state_dir": str(tmp_path / "state")}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    command = [str(MICROPYTHON), "-m", "bwrouter", "keys"]
    config = ["--config", str(tmp_path / "config.json")]
    environment = {"MICROPYPATH": f"{ROOT}/src:.frozen"}
    subprocess.run([*command, "init", *config], env=environment, check=True, capture_output=True, timeout=30)
    file = tmp_path / "keys.backup"
    code, shown = typed([*command, "backup", str(file), *config], [PHRASE, second])
    assert "passphrase: " in shown and "once more: " in shown
    assert PHRASE not in shown and second not in shown
    if second != PHRASE:
        assert code == 1 and "not the same" in shown and not file.exists()
        return
    assert code == 0 and file.stat().st_mode & 0o777 == 0o600, shown
    code, shown = typed([*command, "restore", str(file), *config], [PHRASE])
    assert code == 0 and PHRASE not in shown, shown
