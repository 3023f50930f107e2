"""All tests: two halves side by side, then those that must be alone. `make test`.

Most of the time is waiting: for blocks, for epochs, for a relay that is due to be given up. What talks to gateways, chains
and databases is one half; it has the lower priority and must bear a busy machine. The other half has all the rest, and it
alone makes network namespaces. Tests marked `alone` compare times or rates with what a line should give: they run last.

The halves take each other's time. What fails in one of them runs once more alone, and that counts; it is named all the same.
"""

from __future__ import annotations

import ctypes
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
HEARD_MOST = 10  # failures that get a second hearing; more are not for want of time
TESTS_FAILED = 1  # pytest's exit code
LOG = ROOT / "build/log/test-services.txt"
FAILED = ROOT / "build/log/test-failed.txt"
PYTEST = (sys.executable, "-m", "pytest")


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def lower() -> None:
    """In the services' half before it begins: lower priority, and as if by Ctrl-C at its end when this is killed."""
    os.nice(NICENESS)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


class Run:
    """The parts that run now."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.behind: subprocess.Popen[bytes] | None = None
        self.front: subprocess.Popen[bytes] | None = None

    def seconds(self) -> str:
        return f"{time.monotonic() - self.began:.0f} s"

    def services(self) -> None:
        """Starts the half that reports to LOG."""
        with LOG.open("wb") as log:
            # A session of its own: Ctrl-C reaches it once, from here, and its fixtures take down what they set up.
            self.behind = subprocess.Popen(
                [*PYTEST, *SERVICES], cwd=ROOT, env=dict(os.environ, FAILED_LIST=str(FAILED)), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=lower,
            )  # fmt: skip

    def pytest(self, *arguments: str, failed: str = "") -> int:
        """Exit code of a pytest in the foreground, which appends what fails to the file `failed`."""
        sys.stdout.flush()
        self.front = subprocess.Popen([*PYTEST, *arguments], cwd=ROOT, env=dict(os.environ, FAILED_LIST=failed))
        return self.front.wait()

    def stop(self, told: bool) -> None:
        """Ends all, with their fixtures; `told`: the terminal has told the one in the foreground."""
        if self.behind and self.behind.poll() is None:
            self.behind.send_signal(signal.SIGINT)
        if self.front and self.front.poll() is None and not told:
            self.front.send_signal(signal.SIGINT)
        for part in (self.front, self.behind):
            if part:
                part.wait()


def halves(run: Run) -> int:
    """Both halves, and what failed in them once more."""
    print(f"{' and '.join(SERVICES)} run beside the others and report after them; meanwhile: {LOG.relative_to(ROOT)}")
    FAILED.unlink(missing_ok=True)
    run.services()
    codes = [run.pytest(*OTHERS, "not alone", failed=str(FAILED))]
    first = run.seconds()
    assert run.behind
    codes.append(run.behind.wait())
    print(f"\n{'=' * 30} {' and '.join(SERVICES)} {'=' * 30}\n{LOG.read_text(errors='replace')}")
    print(f"tests: the others {first}, with services {run.seconds()}")
    names = list(dict.fromkeys(FAILED.read_text().splitlines())) if FAILED.exists() else []
    if not names or len(names) > HEARD_MOST or set(codes) - {0, TESTS_FAILED}:
        return next((code for code in codes if code), 0)
    print(f"tests: these failed beside others and run once more, alone: {' '.join(names)}")
    return run.pytest(*names)


def main() -> int:
    """The exit code of pytest: of the first part that has another than 0."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    run = Run()
    try:
        code = halves(run)
        alone = run.pytest(*OTHERS, "alone")
    except KeyboardInterrupt:
        run.stop(told=True)
        return 130
    except BaseException:
        run.stop(told=False)
        raise
    print(f"tests: all {run.seconds()}")
    return code or alone


def stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
