"""The driver of other people's images: what it refuses, and a whole pass over the repository's own guest."""

import gzip
import hashlib
import subprocess
import sys

import pytest

from qemu.console import ImageError, lines, obtain
from qemu.guest import ROOT


def drive(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "qemu.console", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.parametrize(
    ("sha256", "said"), [("", "without a checksum"), ("abc", "is no SHA-256"), ("0" * 64, "not the image")]
)
def test_an_image_without_its_checksum_is_not_started(tmp_path, sha256, said):
    image = tmp_path / "image"
    image.write_bytes(b"not the one")
    done = drive("--arch", "x86_64", "--image", str(image), "--sha256", sha256)
    assert done.returncode == 1 and said in done.stderr


def test_a_missing_image_is_named(tmp_path):
    done = drive("--arch", "x86_64", "--image", str(tmp_path / "none"), "--sha256", "0" * 64)
    assert done.returncode == 1 and "there is no such file" in done.stderr and "none" in done.stderr


def test_a_packed_image_is_unpacked(tmp_path):
    packed = gzip.compress(b"kernel") + b"padding that OpenWrt appends"
    (tmp_path / "image.gz").write_bytes(packed)
    assert obtain(str(tmp_path / "image.gz"), hashlib.sha256(packed).hexdigest(), tmp_path).read_bytes() == b"kernel"
    broken = b"\x1f\x8bnothing"
    (tmp_path / "image.gz").write_bytes(broken)
    with pytest.raises(ImageError, match="cannot be unpacked"):
        obtain(str(tmp_path / "image.gz"), hashlib.sha256(broken).hexdigest(), tmp_path)


def test_lines_hold_every_word_and_are_no_longer_than_they_may():
    words = ["a" * n for n in (3, 7, 2, 10, 1, 1, 9)]
    assert lines(words, 10) == ["aaa", "a" * 7 + " aa", "a" * 10, "a a", "a" * 9] and lines([], 10) == []
    assert " ".join(lines(words, 25)).split() == words and max(map(len, lines(words, 25))) <= 25


@pytest.mark.timeout(900)
def test_our_own_guest_over_the_console():
    done = drive("--arch", "mipsel", "--own")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "unit tests passed" in done.stdout and "installed" in done.stdout
