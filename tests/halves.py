"""All tests in two halves side by side: `make test`.

Most of the hour is waiting: for blocks, for epochs, for a relay that is due to be given up. What talks to gateways, chains,
databases and browsers is one half; it has the lower priority and never looks at times shorter than seconds. The other half
has the lab, whose routers share lines and whose tests measure, and all the quick ones; it alone makes network namespaces.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVICES = ("tests/gateway", "tests/contracts", "tests/browser")
NICENESS = 10
LOG = ROOT / "build/log/test-services.txt"
PYTEST = (sys.executable, "-m", "pytest")


def lower() -> None:
    os.nice(NICENESS)


def main() -> int:
    """The exit code of pytest: of the first half that has another than 0."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    print(f"tests of {', '.join(SERVICES)} run beside the others and report after them; meanwhile: {LOG.relative_to(ROOT)}")
    sys.stdout.flush()
    with LOG.open("wb") as log:
        # A session of its own: Ctrl-C reaches it once, from here, and its fixtures take down what they set up.
        services = subprocess.Popen(
            [*PYTEST, *SERVICES], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=lower,
        )  # fmt: skip
        others = subprocess.Popen([*PYTEST, "tests", *(f"--ignore={p}" for p in SERVICES)], cwd=ROOT)
        try:
            codes = [others.wait()]
            seconds = time.monotonic() - began
            codes.append(services.wait())
        except BaseException as e:
            services.send_signal(signal.SIGINT)
            if not isinstance(e, KeyboardInterrupt):  # which the terminal has told the other half already
                others.send_signal(signal.SIGINT)
            for half in (others, services):
                half.wait()
            if isinstance(e, KeyboardInterrupt):
                return 130
            raise
    print(f"\n{'=' * 30} {', '.join(SERVICES)} {'=' * 30}\n{LOG.read_text(errors='replace')}", end="")
    print(f"tests: {seconds:.0f} s; with the services' half {time.monotonic() - began:.0f} s")
    return next((code for code in codes if code), 0)


def stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
