"""Backup and restore: keys, addresses, chain state and the whole ledger in one file, whichever database it came from.

A backup is a gzipped tar: `manifest.json` first, then `files/NAME` out of the state folder and `tables/NAME.jsonl`, a
row a line. The ledger is one snapshot; the chain's state is copied before it, since a chain behind its ledger can be
repaired and one that is ahead can't. The file holds every secret of the gateway: mode 0600.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, func, inspect, select, text

from bwgateway.database import Database, alembic_config
from bwgateway.settings import BadSettings, Settings

FORMAT = 1
FILES = ("gateway.key", "mint.seed", "operator.key", "treasury.key", "addresses.json", "chain.state", "beacon.root")
REQUIRED = FILES[:4]
_ROWS = 1000
GENERATION = "mint_generation"


class BadBackup(Exception):
    """A backup that can't be used; the message says what is wrong with it."""


async def backup(settings: Settings, target: Path) -> dict[str, Any]:
    """Write a backup to an absolute path; what is in it. The gateway may run. Raises BadSettings when there is
    nothing to back up."""
    missing = [name for name in REQUIRED if not (settings.state_dir / name).exists()]
    if missing:
        raise BadSettings(f"state_dir: {str(settings.state_dir)!r} has no {missing[0]}: nothing to back up there")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as name:
        folder = Path(name)
        files = {n: (settings.state_dir / n).read_bytes() for n in FILES if (settings.state_dir / n).exists()}
        db = Database(settings.database)
        try:
            revision, tables = await db.snapshot(lambda connection: _dump(connection, folder))
        finally:
            await db.close()
        manifest = {
            "format": FORMAT,
            "taken_at": int(time.time()),
            "revision": revision,
            "files": {n: sha256(content).hexdigest() for n, content in files.items()},
            "tables": tables,
        }
        _pack(folder, manifest, files)
        size = (folder / "tar").stat().st_size
        os.replace(folder / "tar", target)
    return {"file": str(target), "bytes": size, **_told(manifest)}


def _told(manifest: dict[str, Any]) -> dict[str, Any]:
    rows = {name: entry["rows"] for name, entry in manifest["tables"].items()}
    return {"taken_at": manifest["taken_at"], "files": sorted(manifest["files"]), "rows": rows}


def _dump(connection: Connection, folder: Path) -> tuple[str, dict[str, Any]]:
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    metadata = MetaData()
    metadata.reflect(connection)
    tables: dict[str, Any] = {}
    for table in metadata.sorted_tables:
        if table.name == "alembic_version":
            continue
        digest, rows = sha256(), 0
        with open(folder / table.name, "wb") as f:
            for row in connection.execution_options(yield_per=_ROWS).execute(select(table)):
                line = json.dumps({k: _out(v) for k, v in row._mapping.items()}, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                f.write(line)
                rows += 1
        tables[table.name] = {"rows": rows, "sha256": digest.hexdigest()}
    return revision, tables


def _out(value: Any) -> Any:
    return {"hex": bytes(value).hex()} if isinstance(value, bytes | memoryview) else value


def _in(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def _pack(folder: Path, manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    """Write the archive to `tar` in the folder, on disk when it returns."""
    tmp = folder / "tar"
    fd = os.open(tmp, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as f:
        with tarfile.open(fileobj=f, mode="w:gz", compresslevel=6) as tar:
            _add(tar, "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())
            for name, content in files.items():
                _add(tar, f"files/{name}", content)
            for name in manifest["tables"]:
                tar.add(folder / name, f"tables/{name}.jsonl")
        f.flush()
        os.fsync(f.fileno())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    tar.addfile(entry, io.BytesIO(content))


async def restore(settings: Settings, source: Path, accept_old_tickets: bool) -> dict[str, Any]:
    """Put a backup into an empty state folder and an empty database; what was in it.

    The ledger knows nothing of what happened after the backup: tickets that were opened since could be opened once
    more. Unless `accept_old_tickets`, every mint key is therefore replaced and no older ticket counts. Raises
    BadBackup, and BadSettings when something is there already.
    """
    state = settings.state_dir
    there = [name for name in FILES if (state / name).exists()]
    if there:
        raise BadSettings(f"state_dir: {str(state)!r} has a {there[0]}; move it away to restore there")
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state, prefix=".restore-") as name:
        folder = Path(name)
        manifest = _unpack(source, folder)
        db = Database(settings.database)
        try:
            async with db.write() as connection:
                await connection.run_sync(_load, folder, manifest, accept_old_tickets)
        finally:
            await db.close()
        for file in manifest["files"]:
            os.chmod(folder / file, 0o600)
            os.replace(folder / file, state / file)
        fd = os.open(state, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    return {"old_tickets": "accepted" if accept_old_tickets else "refused", **_told(manifest)}


def _unpack(source: Path, folder: Path) -> dict[str, Any]:
    """Every member into `folder`, checked against the manifest."""
    try:
        with tarfile.open(source, "r:gz") as tar:
            first = tar.next()
            if first is None or first.name != "manifest.json":
                raise BadBackup(f"{source}: is no backup of a gateway")
            manifest: dict[str, Any] = json.loads(_member(tar, first).read())
            if manifest.get("format") != FORMAT:
                raise BadBackup(f"{source}: has format {manifest.get('format')}, this version reads {FORMAT}")
            wanted = {f"files/{name}": digest for name, digest in manifest["files"].items() if name in FILES}
            wanted |= {f"tables/{name}.jsonl": entry["sha256"] for name, entry in manifest["tables"].items()}
            while (entry := tar.next()) is not None:
                digest = wanted.pop(entry.name, None)
                if digest is None:
                    raise BadBackup(f"{source}: holds {entry.name}, which its manifest does not name")
                _copy(_member(tar, entry), folder / Path(entry.name).name, digest, f"{source}: {entry.name}")
    except (OSError, EOFError, ValueError, KeyError, TypeError, tarfile.TarError) as e:
        raise BadBackup(f"{source}: can't be read: {e}") from e
    if wanted:
        raise BadBackup(f"{source}: lacks {sorted(wanted)[0]}; it is not whole")
    return manifest


def _member(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> BinaryIO:
    found = tar.extractfile(entry)
    if found is None:
        raise BadBackup(f"{entry.name} is no file")
    return found  # type: ignore[return-value]


def _copy(content: BinaryIO, target: Path, digest: str, what: str) -> None:
    seen = sha256()
    with open(target, "wb") as f:
        while block := content.read(1 << 20):
            seen.update(block)
            f.write(block)
        f.flush()
        os.fsync(f.fileno())
    if seen.hexdigest() != digest:
        raise BadBackup(f"{what}: is damaged")


def _load(connection: Connection, folder: Path, manifest: dict[str, Any], accept_old_tickets: bool) -> None:
    """Schema as it was, rows, schema as it is: all in the caller's transaction."""
    if inspect(connection).get_table_names():
        raise BadSettings("database_url: the database is not empty; restore into an empty one")
    config = alembic_config()
    config.attributes["connection"] = connection
    revision = manifest["revision"]
    if revision not in {r.revision for r in ScriptDirectory.from_config(config).walk_revisions()}:
        raise BadBackup(f"the backup is of schema {revision}, which this version does not know: use a newer one")
    command.upgrade(config, revision)
    metadata = MetaData()
    metadata.reflect(connection)
    for name, entry in manifest["tables"].items():
        if name not in metadata.tables:
            raise BadBackup(f"table {name} is not one of schema {revision}")
        table = metadata.tables[name]
        for rows in _batches(folder / f"{name}.jsonl"):
            connection.execute(table.insert(), rows)
        count = connection.execute(select(func.count()).select_from(table)).scalar_one()
        if count != entry["rows"]:
            raise BadBackup(f"table {name}: {count} rows where {entry['rows']} belong")
    if not accept_old_tickets:
        counters = metadata.tables["counters"]
        query = select(counters.c.value).where(counters.c.name == GENERATION)
        last = connection.execute(query).scalar_one_or_none()
        connection.execute(counters.delete().where(counters.c.name == GENERATION))
        connection.execute(counters.insert().values(name=GENERATION, value=(last or 0) + 1))
    command.upgrade(config, "head")


def _batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with open(path, "rb") as f:
        for line in f:
            rows.append({k: _in(v) for k, v in json.loads(line).items()})
            if len(rows) == _ROWS:
                yield rows
                rows = []
    if rows:
        yield rows
