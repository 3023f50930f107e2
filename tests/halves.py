"""All tests: two halves side by side, then those that must be alone. `make test`.

Most of the time is waiting: for blocks, for epochs, for a relay that is due to be given up. What talks to gateways, chains
and databases is one half; it has the lower priority and must bear a busy machine. The other half has all the rest, and it
alone makes network namespaces. Tests marked `alone` compare times or rates with what a line should give: they run last.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVICES = ("tests/gateway", "tests/contracts")
OTHERS = ("tests", *(f"--ignore={p}" for p in SERVICES), "-m")
NICENESS = 10
LOG = ROOT / "build/log/test-services.txt"
PYTEST = (sys.executable, "-m", "pytest")


def lower() -> None:
    os.nice(NICENESS)


def main() -> int:
    """The exit code of pytest: of the first part that has another than 0."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    print(f"{' and '.join(SERVICES)} run beside the others and report after them; meanwhile: {LOG.relative_to(ROOT)}")
    running: list[subprocess.Popen[bytes]] = []
    try:
        with LOG.open("wb") as log:
            # A session of its own: Ctrl-C reaches it once, from here, and its fixtures take down what they set up.
            services = subprocess.Popen(
                [*PYTEST, *SERVICES], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=lower,
            )  # fmt: skip
        running.append(services)
        codes = [_wait(running, "not alone")]
        first = time.monotonic() - began
        codes.append(services.wait())
        running.remove(services)
        print(f"\n{'=' * 30} {' and '.join(SERVICES)} {'=' * 30}\n{LOG.read_text(errors='replace')}", flush=True)
        both = time.monotonic() - began
        codes.append(_wait(running, "alone"))
    except BaseException as e:
        for part in running:
            # The terminal has told the part in the foreground already.
            if part is services or not isinstance(e, KeyboardInterrupt):
                part.send_signal(signal.SIGINT)
        for part in running:
            part.wait()
        if isinstance(e, KeyboardInterrupt):
            return 130
        raise
    print(f"tests: the others {first:.0f} s, with services {both:.0f} s, with those alone {time.monotonic() - began:.0f} s")
    return next((code for code in codes if code), 0)


def _wait(running: list[subprocess.Popen[bytes]], marked: str) -> int:
    sys.stdout.flush()
    part = subprocess.Popen([*PYTEST, *OTHERS, marked], cwd=ROOT)
    running.append(part)
    code = part.wait()
    running.remove(part)
    return code


def stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
