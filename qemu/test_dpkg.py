"""Rung 2: the .ipk's own members as a .deb, through busybox's dpkg in the guest: an installer that nobody here wrote."""

import hashlib
import io
import os
import tarfile

import pytest

from qemu.guest import Guest
from qemu.pool import package

ARCH = os.environ.get("GUEST_ARCH", "mipsel")
DEPENDS = ("libc", "micropython-mbedtls", "libsodium", "kmod-tun")
pytestmark = pytest.mark.timeout(900)


def members() -> dict[str, bytes]:
    with tarfile.open(package()) as archive:
        return {m.name.removeprefix("./"): archive.extractfile(m).read() for m in archive if m.isfile()}


def deb() -> bytes:
    """The members wrapped by ar(5), in the order that a .deb has."""
    out = b"!<arch>\n"
    found = members()
    for name in ("debian-binary", "control.tar.gz", "data.tar.gz"):
        content = found[name]
        out += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    return out


def shipped() -> dict[str, str]:
    """path -> SHA-256 of every file of the package."""
    with tarfile.open(fileobj=io.BytesIO(members()["data.tar.gz"])) as archive:
        return {m.name[1:]: hashlib.sha256(archive.extractfile(m).read()).hexdigest() for m in archive if m.isfile()}


def test_busybox_installs_and_removes_it(tmp_path):
    (tmp_path / "bwrouter.deb").write_bytes(deb())
    files = shipped()
    with Guest(
        ARCH, 64 if ARCH.startswith("mips") else 256, {"/srv/b.deb": tmp_path / "bwrouter.deb"}, rom=True
    ) as guest:
        status = "".join(f"Package: {name}\nStatus: install ok installed\nVersion: 1\n\n" for name in DEPENDS)
        guest.run(f"mkdir -p /var/lib/dpkg/info; cat >/var/lib/dpkg/status <<'E'\n{status}E")
        print(guest.run("dpkg -i /srv/b.deb", 300))
        sums = guest.run("sha256sum " + " ".join(files), 120)
        found = {line.split()[1]: line.split()[0] for line in sums.splitlines()}
        assert found == files
        assert "bwrouter" in guest.run("dpkg -l | grep bwrouter")
        assert guest.run("bwrouter --version").strip()
        guest.run("dpkg -r bwrouter", 300)
        left = guest.run("for f in " + " ".join(files) + "; do [ ! -e $f ] || echo $f; done").split()
        assert left in ([], ["/etc/config/bwrouter"]), left
