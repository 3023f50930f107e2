"""The unit tests inside a guest, under the guest's own kernel, C library, libsodium and MicroPython.

    make guest ARCH=mipsel

The guest is chosen by GUEST_ARCH. `make test` does not collect this folder: an image takes minutes to build.
"""

import ast
import os
import re
from pathlib import Path

import pytest

from qemu.guest import ROOT, Guest, GuestError

UNIT = ROOT / "tests" / "unit"
FILES = sorted(UNIT.rglob("test_*.py"))
VERDICT = re.compile(r"^\x1f (ok|failed) (\w+) \d+$", re.M)


@pytest.fixture(scope="module")
def guest():
    extra = {f"/srv/{name}": ROOT / name for name in ("src/bwrouter", "docs", "tests/unit")}
    arch = os.environ["GUEST_ARCH"]
    # The least that a router may have; Debian's kernels for the others are too large for it.
    with Guest(arch, 64 if arch.startswith("mips") else 256, extra) as started:
        started.run("mkdir -p /srv/build/tmp")
        yield started


def test_the_guest_is_what_it_says(guest):
    machine = {"mipsel": "mips", "mips": "mips", "armhf": "armv7l", "arm64": "aarch64", "x86_64": "x86_64"}[guest.arch]
    assert guest.run("uname -m").strip() == machine
    print(f"{guest.arch}: {guest.boot_seconds:.1f} s from start to the first command")
    print(guest.run("free; lsmod | wc -l"))
    if guest.arch == "mips":  # no modules, and the only big-endian one
        assert guest.run("micropython -c 'import sys; print(sys.byteorder)'").strip() == "big"
        symbols = guest.run("cut -d' ' -f3 /proc/kallsyms").split()
        assert {"htb_dequeue", "fq_codel_dequeue", "cake_dequeue", "netem_dequeue", "nft_do_chain", "tun_get_user"} <= {
            *symbols
        }
        return
    loaded = {line.split()[0] for line in guest.run("lsmod").splitlines()[1:]}
    builtin = guest.run("cat /lib/modules/*/modules.builtin")
    for module in ("tun", "sch_htb", "sch_fq_codel", "sch_cake", "sch_netem", "nf_tables"):
        assert module in loaded or f"/{module}.ko" in builtin, module


def test_libsodium_is_minimal(guest):
    script = "import ffi; s = ffi.open('libsodium.so.23'); s.func('i', 'sodium_init', '')(); s.func('i', '%s', 'p')"
    guest.run(f'micropython -c "{script % "crypto_shorthash"}"')
    with pytest.raises(GuestError, match="exit code 1"):
        guest.run(f'micropython -c "{script % "crypto_core_ristretto255_add"}"')


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(UNIT)))
def test_unit_tests(guest, path: Path):
    names = [
        n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name.startswith("test")
    ]
    inside = f"tests/unit/{path.relative_to(UNIT)}"
    command = "cd /srv && MICROPYPATH=src:tests/unit:.frozen micropython -X heapsize=8m tests/unit/run_mp.py"
    output = guest.run(f"{command} {inside} {' '.join(names)}", timeout_s=280, check=False)
    verdicts = {name: verdict for verdict, name in VERDICT.findall(output)}
    assert verdicts == dict.fromkeys(names, "ok"), output
