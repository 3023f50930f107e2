"""A private PostgreSQL server of Debian's package on a free port, gone with the block."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gateway.rig import free_port


@contextmanager
def postgres(connections: int = 100) -> Iterator[str]:
    """URL of an empty database, as SQLAlchemy takes it. PostgreSQL refuses to be root: then it runs as `postgres`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail("Debian's postgresql is missing: run make setup", pytrace=False)
    binaries = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="bwgateway-pg-"))
    port = free_port()
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    server = None
    try:
        init = [str(binaries / "initdb"), "-D", str(data), "-U", "bw", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run([*as_user, *init], check=True, capture_output=True, cwd=folder)
        server = subprocess.Popen(
            [
                *as_user, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1",
                "-k", str(folder), "-c", f"max_connections={connections}",
            ],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-t", "20"]
        for _ in range(200):
            if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
                break
        yield f"postgresql+psycopg://bw@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(2)
            server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
