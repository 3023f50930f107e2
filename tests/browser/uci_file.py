"""UCI's files for the browser tests: a stand-in for libuci that reads and writes the real syntax, comments left out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

Section = dict[str, Any]  # options and lists beside .name, .type, .anonymous


class UciFile:
    """One package of UCI. `sections` are in the file's order; `commit` writes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.load()

    def load(self) -> None:
        self.sections: list[Section] = []
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            words = shlex.split(line, comments=True)
            match words:
                case []:
                    pass
                case ["config", kind, *name]:
                    made = name[0] if name else f"cfg{len(self.sections):02x}"
                    self.sections.append({".name": made, ".type": kind, ".anonymous": not name})
                case ["option", option, value]:
                    self.sections[-1][option] = value
                case ["list", option, value]:
                    self.sections[-1].setdefault(option, []).append(value)
                case _:
                    raise ValueError(f"{self.path}:{number}: {line}")

    def get(self, name: str) -> Section | None:
        return next((s for s in self.sections if s[".name"] == name), None)

    def of(self, kind: str) -> list[Section]:
        return [s for s in self.sections if s[".type"] == kind]

    def add(self, kind: str, values: dict[str, Any]) -> str:
        name = f"cfg{len(self.sections) + 16:02x}"
        self.sections.append({".name": name, ".type": kind, ".anonymous": True, **values})
        return name

    def delete(self, name: str, options: list[str] | None) -> bool:
        section = self.get(name)
        if section is None:
            return False
        if options is None:
            self.sections.remove(section)
        for option in options or ():
            section.pop(option, None)
        return True

    def set(self, name: str, values: dict[str, Any]) -> bool:
        section = self.get(name)
        if section is None:
            return False
        for option, value in values.items():
            assert re.fullmatch(r"[A-Za-z0-9_]+", option), option
            section[option] = [str(v) for v in value] if isinstance(value, list) else str(value)
        return True

    def commit(self) -> None:
        lines = []
        for section in self.sections:
            name = "" if section[".anonymous"] else f" {_quoted(section['.name'])}"
            lines.append(f"\nconfig {section['.type']}{name}")
            for option, value in section.items():
                if option[0] == ".":
                    continue
                if isinstance(value, list):
                    lines += [f"\tlist {option} {_quoted(item)}" for item in value]
                else:
                    lines.append(f"\toption {option} {_quoted(value)}")
        self.path.write_text("\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
