"""Every constant of docs/protocol.md section 11 is the code's."""

import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_constants_of_the_document() -> None:
    text = (ROOT / "docs/protocol.md").read_text().partition("\n## 11. Constants\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| `([a-z.]+)\.([A-Z_]+)` \|$", text, re.M)
    assert len(rows) >= 30
    for value, module, name in rows:
        assert getattr(import_module("bwrouter." + module), name) == int(value), (module, name)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == len(rows) + 1, "a row that is not of the form"
