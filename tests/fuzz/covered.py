"""One target under atheris: `python -m tests.fuzz.covered TARGET [libFuzzer's options]`."""

import sys

import atheris

if __name__ == "__main__":
    with atheris.instrument_imports(include=["bwrouter"]):
        from tests.fuzz.parsers import TARGETS
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
