#!/usr/bin/env python3
"""Messages of luci-app/: writes po/templates/bwrouter.pot from the sources, brings the catalogues in po/ up to date.

    scripts/i18n.py            write them
    scripts/i18n.py --check    exit 1 where a file would change, or a catalogue lacks a translation

Messages are the first argument of `_()` in the JavaScript and the titles in menu.d, as LuCI's build/i18n-scan.pl takes
them. A message that is gone is dropped; a new one gets an empty translation, which LuCI shows in English.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

APP = Path(__file__).resolve().parents[1] / "luci-app"
NAME = "bwrouter"
CALL = re.compile(r"(?<![\w.$])_\(\s*'((?:[^'\\\n]|\\.)*)'")
HEAD = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n'
PLACE = re.compile(r"%(?:\.\d+)?[sdf%]")


def scan(app: Path = APP) -> dict[str, list[str]]:
    """Message to the places (file:line) that show it, in the order of files and lines."""
    found: dict[str, list[str]] = {}
    for path in sorted((app / "htdocs").rglob("*.js")):
        text = path.read_text()
        for match in CALL.finditer(text):
            message = re.sub(r"\\(.)", r"\1", match[1])
            line = text.count("\n", 0, match.start()) + 1
            found.setdefault(message, []).append(f"{path.relative_to(app.parent)}:{line}")
    for path in sorted((app / "root/usr/share/luci/menu.d").glob("*.json")):
        for entry in json.loads(path.read_text()).values():
            found.setdefault(entry["title"], []).append(str(path.relative_to(app.parent)))
    return found


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def read(path: Path) -> dict[str, str]:
    """msgid to msgstr of a catalogue in gettext's format, without its header."""
    found: dict[str, str] = {}
    key, text, into = "", {"msgid": "", "msgstr": ""}, ""
    for line in [*path.read_text().splitlines(), 'msgid ""']:
        match = re.match(r'(?:(msgid|msgstr) )?(".*")$', line.strip())
        if not match:
            continue
        if match[1] == "msgid":
            if text["msgid"]:
                found[text["msgid"]] = text["msgstr"]
            text = {"msgid": "", "msgstr": ""}
        into = match[1] or into
        text[into] += json.loads(match[2])
        key = into
    assert key
    return found


def template(messages: dict[str, list[str]], translated: dict[str, str] | None = None) -> str:
    """A catalogue: of the template, or with translations."""
    parts = [HEAD]
    for message, places in messages.items():
        refs = "".join(f"#: {place}\n" for place in places)
        parts.append(f"{refs}msgid {quoted(message)}\nmsgstr {quoted((translated or {}).get(message, ''))}\n")
    return "\n".join(parts)


def wrong(message: str, translation: str) -> str:
    """What is wrong with a translation; empty when it is good."""
    if not translation:
        return "is not translated"
    if PLACE.findall(message) != PLACE.findall(translation):
        return f"has other placeholders: {translation!r}"
    return ""


def main(check: bool) -> int:
    messages = scan()
    files = {APP / f"po/templates/{NAME}.pot": template(messages)}
    faults = []
    for path in sorted(APP.glob(f"po/*/{NAME}.po")):
        old = read(path)
        files[path] = template(messages, old)
        faults += [f"{path}: {m!r} {fault}" for m in messages if (fault := wrong(m, old.get(m, "")))]
    for path, text in files.items():
        if not path.exists() or path.read_text() != text:
            if check:
                faults.append(f"{path} is out of date: run scripts/i18n.py")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    print("\n".join(faults) or f"{len(messages)} messages, {len(files) - 1} languages, all translated")
    return 1 if faults and check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
