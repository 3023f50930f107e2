"""The verifier's memory, in SQLite: what it committed to stands on disk before the chain hears of it.

Who commits and cannot reveal loses 20 BWT: report and salt must survive a power cut. Every measurement is kept as the
record that its epoch's Merkle root is over (evidence.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, LargeBinary, Select, String, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """All tables."""


class Audit(Base):
    """One audit of a relay. `report`: the packed word in hex; `state`: committed, revealed, missed or judged."""

    __tablename__ = "audits"

    relay: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int]
    report: Mapped[str] = mapped_column(String(64))
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))
    state: Mapped[str] = mapped_column(String(16))
    evidence: Mapped[bytes] = mapped_column(LargeBinary)


class Record(Base):
    """One measurement. `kind`: burst, long or covert; `kbps` -1 where it says nothing of the rate."""

    __tablename__ = "records"

    id: Mapped[int] = mapped_column(primary_key=True)
    relay: Mapped[bytes] = mapped_column(LargeBinary(32), index=True)
    epoch: Mapped[int] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(8))
    time: Mapped[int]
    reason: Mapped[int]
    kbps: Mapped[int]
    why: Mapped[str]
    body: Mapped[bytes] = mapped_column(LargeBinary)


class Root(Base):
    """The signed Merkle root of an epoch's records."""

    __tablename__ = "roots"

    epoch: Mapped[int] = mapped_column(primary_key=True)
    root: Mapped[bytes] = mapped_column(LargeBinary(32))
    signature: Mapped[bytes] = mapped_column(LargeBinary(65))
    posted: Mapped[bool]


class Task(Base):
    """What is to be done in an epoch, and when; a restart goes on with what is not done. `at`: the chain's time."""

    __tablename__ = "tasks"

    epoch: Mapped[int] = mapped_column(primary_key=True)
    relay: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    at: Mapped[int]
    done: Mapped[bool]


class Journal:
    """All of it. Every method is one transaction, on disk when it returns."""

    def __init__(self, file: Path) -> None:
        self._engine: Engine = create_engine(f"sqlite:///{file}")
        event.listen(self._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=FULL"))
        Base.metadata.create_all(self._engine)

    # -- reports -----------------------------------------------------------------

    def add(self, audit: Audit) -> Audit:
        """Keep an audit, or give back the one that stands already: a report is never replaced."""
        with Session(self._engine, expire_on_commit=False) as s, s.begin():
            before = s.get(Audit, (audit.relay, audit.epoch))
            if before is None:
                s.add(audit)
            return before or audit

    def mark(self, audit: Audit, state: str) -> None:
        """Note how far it has come."""
        with Session(self._engine) as s, s.begin():
            s.get_one(Audit, (audit.relay, audit.epoch)).state = state

    def _read(self, query: Select[Any]) -> list[Any]:
        with Session(self._engine, expire_on_commit=False) as s:
            return list(s.scalars(query))

    def in_state(self, state: str) -> list[Audit]:
        """Audits in a state, oldest first."""
        return self._read(select(Audit).where(Audit.state == state).order_by(Audit.epoch, Audit.relay))

    def to_reveal(self) -> list[Audit]:
        """Audits whose reports do not stand revealed for good: the time to reveal is not over."""
        return self.in_state("committed")

    def of_epoch(self, epoch: int) -> list[Audit]:
        """All audits of an epoch."""
        return self._read(select(Audit).where(Audit.epoch == epoch).order_by(Audit.relay))

    def newest(self, most: int, relay: bytes | None = None) -> list[Audit]:
        """The newest audits first."""
        query = select(Audit) if relay is None else select(Audit).where(Audit.relay == relay)
        return self._read(query.order_by(Audit.epoch.desc(), Audit.relay).limit(most))

    # -- measurements --------------------------------------------------------------

    def note(self, record: Record) -> None:
        """Keep a measurement."""
        with Session(self._engine) as s, s.begin():
            s.add(record)

    def records(self, epoch: int, relay: bytes | None = None) -> list[Record]:
        """An epoch's measurements in the order in which they were made: the leaves of its tree."""
        query = select(Record).where(Record.epoch == epoch)
        query = query if relay is None else query.where(Record.relay == relay)
        return self._read(query.order_by(Record.id))

    def covert(self, relay: bytes, since: int) -> list[Record]:
        """Covert audits of a relay from unix second `since` on."""
        where = (Record.relay == relay, Record.kind == "covert", Record.time >= since)
        return self._read(select(Record).where(*where).order_by(Record.id))

    # -- tasks -----------------------------------------------------------------------

    def plan(self, task: Task) -> bool:
        """Keep a task; False when it stands already."""
        with Session(self._engine) as s, s.begin():
            if s.get(Task, (task.epoch, task.relay, task.kind)) is not None:
                return False
            s.add(task)
            return True

    def due(self, epoch: int, now: int) -> Task | None:
        """The task of this epoch that has been due for the longest."""
        where = (Task.epoch == epoch, Task.done.is_(False), Task.at <= now)
        found = self._read(select(Task).where(*where).order_by(Task.at).limit(1))
        return found[0] if found else None

    def tasks(self, epoch: int) -> list[Task]:
        """All tasks of an epoch."""
        return self._read(select(Task).where(Task.epoch == epoch).order_by(Task.at))

    def finish(self, task: Task) -> None:
        """A task is done, or given up."""
        with Session(self._engine) as s, s.begin():
            s.get_one(Task, (task.epoch, task.relay, task.kind)).done = True

    # -- roots -----------------------------------------------------------------------

    def seal(self, root: Root) -> Root:
        """Keep an epoch's root, or give back the one that stands: nothing is signed twice."""
        with Session(self._engine, expire_on_commit=False) as s, s.begin():
            before = s.get(Root, root.epoch)
            if before is None:
                s.add(root)
            return before or root

    def root(self, epoch: int) -> Root | None:
        """The root of an epoch, once it is sealed."""
        found = self._read(select(Root).where(Root.epoch == epoch))
        return found[0] if found else None

    def unsealed(self, before: int) -> list[int]:
        """Epochs before this one that have records and no root that was posted."""
        sealed = select(Root.epoch).where(Root.posted.is_(True))
        query = select(Record.epoch).where(Record.epoch < before, Record.epoch.not_in(sealed)).distinct()
        return sorted(self._read(query))

    def posted(self, epoch: int) -> None:
        """The gateway has an epoch's root."""
        with Session(self._engine) as s, s.begin():
            s.get_one(Root, epoch).posted = True

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()
