"""A PostgreSQL server on a small tmpfs, inside a namespace: it can be killed, stopped and filled up."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.lab.pool import Refused
from tests.lab.proc import Process, Processes

SIZE_MB = 512
PORT = 5432


class Database:
    """`url` is for the gateways (TCP, within the namespace), `connect` for the watchman (the Unix socket)."""

    def __init__(self, processes: Processes, ns: str) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise Refused("Debian's postgresql is missing: run make setup")
        self.binaries, self.processes, self.ns = found[-1].parent, processes, ns
        self.folder = Path(tempfile.mkdtemp(prefix="bwsoak-pg-"))
        self.url = f"postgresql+psycopg://bw@127.0.0.1:{PORT}/postgres"
        options = f"size={SIZE_MB}m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "bwsoak", str(self.folder)], check=True)
        shutil.chown(self.folder, "postgres", "postgres")
        words = ["-D", str(self.folder / "data"), "-U", "bw", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run([*self._user, str(self.binaries / "initdb"), *words], check=True, capture_output=True, cwd="/")

    _user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")

    def start(self, name: str) -> Process:
        settings = ("max_connections=200", "max_wal_size=96MB", "min_wal_size=32MB", "shared_buffers=32MB")
        argv = [*self._user, str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(PORT)]
        argv += ["-h", "127.0.0.1", "-k", str(self.folder)]
        return self.processes.start(name, argv + [w for s in settings for w in ("-c", s)], self.ns)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Raises psycopg.Error while it does not answer."""
        text = f"host={self.folder} port={PORT} user=bw dbname=postgres connect_timeout=3"
        return psycopg.connect(text, autocommit=False)

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.Error), self.connect() as c:
            return c.execute("select 1").fetchone() == (1,)
        return False

    def fill(self, room: int = 0) -> None:
        fill(self.folder, room)

    def empty(self) -> None:
        empty(self.folder)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def fill(folder: Path, room: int = 0) -> None:
    """Write until the file system of `folder` has no more than `room` bytes left."""
    with open(folder / "filler", "wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(65536))
    if room:
        with open(folder / "filler", "r+b") as out:
            out.truncate(max(0, (folder / "filler").stat().st_size - room))


def empty(folder: Path) -> None:
    (folder / "filler").unlink(missing_ok=True)
