"""Disks whose power is cut. QEMU's death alone loses only what the guest had not yet handed to the disk; a real disk
also loses what it has taken and not flushed. QEMU's blklogwrites filter records every write and flush (in the format of
the kernel's dm-log-writes); `after_cut` plays them back up to the last flush, and of what came later a random part.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4


def make(path: Path, megabytes: int = 16) -> Path:
    """An empty ext4 file system in a file."""
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(path)],
        check=True,
        capture_output=True,
    )
    return path


def options(disk: Path, log: Path) -> list[str]:
    """QEMU's options for a virtio disk on `disk` that records to `log`, an empty file."""
    log.write_bytes(b"")
    return [
        "-blockdev", f"driver=file,filename={disk},node-name=diskfile",
        "-blockdev", f"driver=file,filename={log},node-name=logfile",
        "-blockdev", "driver=blklogwrites,node-name=cut,file=diskfile,log=logfile",
        "-device", "virtio-blk-pci,drive=cut",
    ]  # fmt: skip


def entries(log: Path) -> list[tuple[int, int, bytes]]:
    """(flags, byte offset, data) of each whole record. Raises ValueError when it is no such log."""
    raw = log.read_bytes()
    if len(raw) < 28 or struct.unpack_from("<QQ", raw)[0] != MAGIC:
        raise ValueError(f"{log} is no record of writes")
    sector = struct.unpack_from("<I", raw, 24)[0]
    out, at = [], sector
    while at + 32 <= len(raw):
        start, count, flags, _ = struct.unpack_from("<QQQQ", raw, at)
        size = 0 if flags & DISCARD else count * sector
        if at + sector + size > len(raw):
            break
        out.append((flags, start * sector, raw[at + sector : at + sector + size]))
        at += sector + size
    return out


def after_cut(before: Path, log: Path, result: Path, seed: int) -> int:
    """Write to `result` what a disk that held `before` may hold after the cut. Returns how many writes were lost."""
    chance = random.Random(seed)
    found = entries(log)
    flushed = max((i for i, (flags, _, _) in enumerate(found) if flags & FLUSH), default=-1)
    shutil.copy(before, result)
    lost = 0
    with result.open("r+b") as file:
        for i, (flags, offset, data) in enumerate(found):
            if not data:
                continue
            if i > flushed and not flags & FUA and chance.random() < 0.5:
                lost += 1
                continue
            file.seek(offset)
            file.write(data)
    return lost
