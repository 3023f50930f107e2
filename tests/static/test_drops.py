"""Every drop counter of the relay is in docs/protocol.md, and the document names none that the code has not."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def in_code() -> set[str]:
    names = set()
    for file in (ROOT / "src/bwrouter/relay").glob("*.py"):
        text = file.read_text()
        for call in re.findall(r"count\(((?:[^()]|\([^()]*\))*)\)", text):
            names |= set(re.findall(r'"([a-z0-9-]+)"', call))
    names |= set(re.findall(r'return "((?:handshake-)?[a-z]+)"', (ROOT / "src/bwrouter/relay/budget.py").read_text()))
    payments = (ROOT / "src/bwrouter/wire/ticket.py").read_text() + (ROOT / "src/bwrouter/relay/credit.py").read_text()
    reasons = {r for r in re.findall(r'BadPayment\("([^"]+)"\)', payments) if " " not in r}
    return (names - {"yes", "extend-", "pay-", "prove-", "anchor-"}) | {"pay-" + r for r in reasons}


def in_document() -> set[str]:
    text = (ROOT / "docs/protocol.md").read_text()
    table = text[text.index("## 8. Drops") : text.index("## 9.")]
    names: set[str] = set()
    for line in table.splitlines():
        if not line.startswith("| `"):
            continue
        cells = line.split("|")
        found = re.findall(r"`([a-z0-9.-]+)`", cells[1])
        if found == ["pay-..."]:
            found = ["pay-" + r for r in re.findall(r"`([a-z-]+)`", cells[2])]
        if found[:1] in (["extend-1"], ["prove-9"], ["anchor-1"]):
            found = []
        names |= set(found)
    return names


def test_same_names():
    assert in_code() == in_document()
