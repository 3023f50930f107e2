"""Name resolution through the tunnel only: resolv.conf, or systemd-resolved where it runs.

What stood there before is kept in a journal (`dns.json` in the state folder) that is written first, so that `restore`
puts it back exactly, in this run or a later one, after a crash too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .files import write_json

_HEAD = "# written by bw while the tunnel is up; `bw down` brings the former file back\n"


class ResolverError(RuntimeError):
    """Name resolution could not be set up or brought back; the text names the file or command."""


class Resolver:
    """The machine's resolver settings. `journal`: the file that remembers what was there."""

    def __init__(self, journal: Path, resolv_conf: Path = Path("/etc/resolv.conf")) -> None:
        self.journal, self.path = journal, resolv_conf

    def set(self, tun: str, servers: Sequence[str]) -> None:
        """Names are asked of `servers` (addresses behind the exit) from now on. Raises ResolverError."""
        if not servers:
            return
        if not self.journal.exists():
            write_json(self.journal, self._remember(tun))
        self._write(_HEAD + "".join(f"nameserver {s}\n" for s in servers))
        if self._resolved():
            for words in (["dns", tun, *servers], ["domain", tun, "~."], ["default-route", tun, "yes"]):
                self._resolvectl(words)

    def restore(self) -> bool:
        """Bring back what stood before; True when there was something to do. Raises ResolverError."""
        try:
            kept = json.loads(self.journal.read_text())
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as e:
            raise ResolverError(f"{self.journal} cannot be read: {e}; mend {self.path} by hand, then remove it") from e
        path = Path(kept["path"])
        try:
            if kept["kind"] == "link":
                _replace(path, lambda tmp: os.symlink(kept["target"], tmp))
            elif kept["kind"] == "none":
                path.unlink(missing_ok=True)
            else:
                self._put(path, base64.b64decode(kept["text"]), kept["mode"])
        except OSError as e:
            raise ResolverError(f"{path} cannot be brought back: {e}") from e
        if self._resolved() and Path("/sys/class/net", kept["tun"]).exists():
            with contextlib.suppress(ResolverError):
                self._resolvectl(["revert", kept["tun"]])
        self.journal.unlink()
        return True

    def _remember(self, tun: str) -> dict[str, object]:
        there: dict[str, object] = {"path": str(self.path), "tun": tun}
        try:
            if self.path.is_symlink():
                return there | {"kind": "link", "target": os.readlink(self.path)}
            text = self.path.read_bytes()
            return there | {
                "kind": "file", "text": base64.b64encode(text).decode(), "mode": stat.S_IMODE(self.path.stat().st_mode)
            }  # fmt: skip
        except FileNotFoundError:
            return there | {"kind": "none"}
        except OSError as e:
            raise ResolverError(f"{self.path} cannot be read: {e}") from e

    def _write(self, text: str) -> None:
        try:
            self._put(self.path, text.encode(), 0o644)
        except OSError as e:
            raise ResolverError(f"{self.path} cannot be written: {e}; set `resolv_conf` or `dns` to []") from e

    @staticmethod
    def _put(path: Path, text: bytes, mode: int) -> None:
        """Replace the file; where that is refused because something is mounted on it (containers), write into it."""

        def make(tmp: Path) -> None:
            tmp.write_bytes(text)
            tmp.chmod(mode)

        try:
            _replace(path, make)
        except OSError:
            path.write_bytes(text)

    @staticmethod
    def _resolved() -> bool:
        return shutil.which("resolvectl") is not None and Path("/run/systemd/resolve/io.systemd.Resolve").exists()

    @staticmethod
    def _resolvectl(words: Sequence[str]) -> None:
        done = subprocess.run(["resolvectl", *words], capture_output=True, text=True, check=False, timeout=10)
        if done.returncode:
            raise ResolverError(f"resolvectl {' '.join(words)}: {done.stderr.strip()}")


def _replace(path: Path, make: object) -> None:
    tmp = path.with_name(path.name + ".bw-new")
    tmp.unlink(missing_ok=True)
    assert callable(make)
    try:
        make(tmp)
        os.replace(tmp, path)
    except OSError:
        tmp.unlink(missing_ok=True)
        raise
