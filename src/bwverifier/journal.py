"""The verifier's memory, in SQLite: what it committed to stands on disk before the chain hears of it.

Who commits and cannot reveal loses 20 BWT: report and salt must survive a power cut.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, LargeBinary, Select, String, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """All tables."""


class Audit(Base):
    """One audit of a relay. `report`: the packed word in hex; `state`: committed, revealed or missed."""

    __tablename__ = "audits"

    relay: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int]
    report: Mapped[str] = mapped_column(String(64))
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))
    state: Mapped[str] = mapped_column(String(16))
    evidence: Mapped[bytes] = mapped_column(LargeBinary)


class Journal:
    """All audits. Every method is one transaction, on disk when it returns."""

    def __init__(self, file: Path) -> None:
        self._engine: Engine = create_engine(f"sqlite:///{file}")
        event.listen(self._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=FULL"))
        Base.metadata.create_all(self._engine)

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

    def _read(self, query: Select[Audit]) -> list[Audit]:
        with Session(self._engine, expire_on_commit=False) as s:
            return list(s.scalars(query))

    def to_reveal(self) -> list[Audit]:
        """Audits that are committed and not revealed."""
        return self._read(select(Audit).where(Audit.state == "committed").order_by(Audit.epoch))

    def of_epoch(self, epoch: int) -> list[Audit]:
        """All audits of an epoch."""
        return self._read(select(Audit).where(Audit.epoch == epoch).order_by(Audit.relay))

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()
