"""Whatever the API document allows, and much that it does not, is answered without a 5xx and as documented."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from bwgateway.api import bodies, listings
from tests.gateway.rig import Rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EXAMPLES = 30


def _model(name: str) -> Any:
    return getattr(bodies, name, None) or getattr(listings, name)


def test_no_server_error(rig: Rig) -> None:
    schema = schemathesis.openapi.from_url(rig.url + "/openapi.json", wait_for_schema=5)
    tried = Counter[str]()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        def check(case: Case) -> None:
            response = case.call(timeout=30)
            tried[f"{case.operation.label} {response.status_code}"] += 1
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert response.headers["content-type"][0].startswith("application/problem+json")
                assert {"title", "status", "code", "detail"} <= set(response.json())

        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            run = given(case=operation.as_strategy(generation_mode=mode))(check)
            try:
                settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))(run)()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE  # nothing to get wrong: a GET without parameters
    print(f"\n{sum(tried.values())} calls: {dict(sorted(tried.items()))}")
    assert len({key.rsplit(" ", 1)[0] for key in tried}) >= 13


def test_the_document_has_examples_and_problems(rig: Rig) -> None:
    document = rig.get("/openapi.json")
    assert {"/v1/issue", "/v1/open", "/v1/redeem", "/v1/register", "/v1/descriptors"} <= set(document["paths"])
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "summary" in operation and "application/problem+json" in str(operation["responses"]["422"]), path
    for name in ("Issue", "Open", "Redeem", "Descriptor", "Register"):
        properties = document["components"]["schemas"][name]["properties"]
        assert all("examples" in p or "items" in p or "pattern" in p for p in properties.values()), name


def test_every_body_has_a_whole_example_that_holds(rig: Rig) -> None:
    document = rig.get("/openapi.json")
    seen = Counter[str]()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                name = content["schema"]["$ref"].rsplit("/", 1)[1]
                _model(name).model_validate(content["example"])
                seen["request"] += 1
                answer = rig.post(path, content["example"])  # well-formed: refused for what it says, not for its form
                assert answer.status_code < 500 and answer.json()["code"] != "invalid", (path, answer.text)
            good = operation["responses"]["200"].get("content", {}).get("application/json")
            if good and good.get("schema", {}).get("$ref"):
                name = good["schema"]["$ref"].rsplit("/", 1)[1]
                _model(name).model_validate(good["example"])
                seen["answer"] += 1
            for status in ("422", "429", "503"):
                problem = operation["responses"][status]["content"]["application/problem+json"]
                assert bodies.Problem.model_validate(problem["example"]).status == int(status), path
                seen["problem"] += 1
    assert seen["request"] >= 9 and seen["answer"] >= 15 and seen["problem"] >= 60
