"""docs/architecture.md against the code: settings, HTTP routes, messages between agent and relay, who imports whom."""

import ast
import re
from pathlib import Path

from bwrouter.platform import config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/architecture.md").read_text()
# Files and words that other documents tell.
ELSEWHERE = {"/", "/static/{name}"}


def test_every_setting_of_a_router_stands_in_the_example():
    example = TEXT[TEXT.index("```json") : TEXT.index("```\n", TEXT.index("```json") + 7)]
    shown = set(re.findall(r'"([a-z][a-z_0-9]*)":', example)) - {"url", "key"}
    known = set(config.SETTINGS)
    assert shown == known, f"not shown: {sorted(known - shown)}; not there: {sorted(shown - known)}"


def routes() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "src/bwgateway/api").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "post"):
                if isinstance(node.func.value, ast.Name) and node.func.value.id == "router" and node.args:
                    found.add(ast.literal_eval(node.args[0]))
    return found - ELSEWHERE


def test_every_route_of_the_gateway_is_told_and_no_other():
    api = TEXT[TEXT.index("## Gateway HTTP API") : TEXT.index("### The directory's document")]
    told = {re.sub(r"\?.*", "", word) for word in re.findall(r"(/(?:v1/[\w/{}?=]+|healthz|metrics))", api)}
    shape = {re.sub(r"{\w+}", "{}", word) for word in told}
    known = {re.sub(r"{\w+}", "{}", word) for word in routes()}
    assert len(known) > 20
    assert known <= shape, f"not told: {sorted(known - shape)}"
    assert shape <= known, f"told, but not there: {sorted(shape - known)}"


def test_every_message_between_agent_and_relay_is_told_once():
    told = re.findall(r'^\| (agent|relay) \| `{"t":"(\w+)"', TEXT, re.M)
    sent = {"agent": set(), "relay": set()}
    for side in sent:
        for path in (ROOT / "src/bwrouter" / side).glob("*.py"):
            sent[side] |= set(re.findall(r'"t": ?"(\w+)"', path.read_text()))
    # The agent's own channel.
    local = {"open", "redeem", "opened", "redeemed", "promised", "state", "idle", "tick", "proofs", "probe", "earnings",
             "anchors", "anchored", "published"}
    for side, words in sent.items():
        known = {word for who, word in told if who == side}
        missing = words - known - local - {"stats"}
        assert not missing, f"{side} sends {sorted(missing)}, which is not told"
    pairs = [p for p in told if p[1] != "opened"]
    assert len(pairs) == len(set(pairs)), "a message stands there twice"


def test_servers_import_as_the_document_says():
    allowed = {
        "bwclient": {"bwclient", "bwrouter"}, "bwverifier": {"bwverifier", "bwclient", "bwrouter"},
        "bwgateway": {"bwgateway", "bwrouter"},
    }  # fmt: skip
    for package, may in allowed.items():
        for path in (ROOT / "src" / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    top = name.split(".")[0]
                    assert not top.startswith("bw") or top in may, f"{path.name} of {package} imports {name}"
