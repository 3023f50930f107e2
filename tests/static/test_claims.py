"""Claims of the documents name tests: each test exists, and in the threat model no claim stands without one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:test|invariant)_\w+)`")

EXAMPLES = {"test_x"}


def existing() -> set[str]:
    names: set[str] = set()
    for folder, pattern, rule in (("tests", "*.py", r"def (test_\w+)"), ("qemu", "*.py", r"def (test_\w+)"),
                                  ("contracts/test", "*.sol", r"function ((?:test|invariant)_\w+)")):  # fmt: skip
        for path in (ROOT / folder).rglob(pattern):
            names |= set(re.findall(rule, path.read_text()))
    assert len(names) > 300
    return names


def test_every_test_that_a_document_names_exists():
    known = existing()
    for path in sorted((ROOT / "docs").glob("*.md")):
        missing = sorted(set(NAMED.findall(path.read_text())) - known - EXAMPLES)
        assert not missing, f"{path.name} names tests that are not there: {missing}"


def test_no_claim_of_the_threat_model_stands_without_a_test():
    text = (ROOT / "docs/security.md").read_text()
    model = text[text.index("## Threat model") : text.index("\n## Wire")]
    sections = re.split(r"\n### ", model)[1:]
    assert len(sections) >= 9
    for section in sections:
        title = section.splitlines()[0]
        rows = [r for r in section.splitlines() if r.startswith("| ") and not r.startswith("| holds")]
        assert rows, f"{title}: nothing is claimed"
        for row in rows:
            assert NAMED.search(row), f"{title}: no test is named for: {row[:90]}"
        assert "**Does not hold.**" in section, f"{title} does not say what does not hold"
