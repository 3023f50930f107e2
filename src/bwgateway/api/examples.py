"""Examples in the API document: whole bodies out of the examples of their fields, and a problem for each code."""

from __future__ import annotations

from typing import Any

from bwgateway.problems import TITLES

PROBLEMS = {
    "422": ("invalid", "units: Input should be less than or equal to 1024", "units"),
    "429": ("rate", "too many requests by this identity; try again in 0.4 s", None),
    "503": ("chain", "the chain gives no answer; try again later", None),
}
_PLAIN = {"integer": 1, "number": 1.0, "boolean": True, "string": "text", "null": None}


def example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A value that a JSON schema allows. `schemas`: what its references name."""
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], schemas)
    if "properties" in schema:
        return {name: example(part, schemas) for name, part in schema["properties"].items()}
    if schema.get("type") == "array":
        return [example(schema["items"], schemas)]
    if isinstance(schema.get("additionalProperties"), dict):
        return {"1": example(schema["additionalProperties"], schemas)}
    if "enum" in schema or "default" in schema:
        return schema.get("default", (schema.get("enum") or [None])[0])
    pattern = schema.get("pattern", "")
    if pattern.startswith("^(") and pattern.endswith(")$"):
        return pattern[2:-2].split("|")[0]
    if "format" in schema or pattern:
        return "5a" * (schema.get("minLength", 292) // 2)
    return _PLAIN.get(str(schema.get("type")), {})


def fill(document: dict[str, Any]) -> dict[str, Any]:
    """The document with an example for every JSON body in it."""
    schemas = document["components"]["schemas"]
    for methods in document["paths"].values():
        for operation in methods.values():
            bodies = [operation["requestBody"]] if "requestBody" in operation else []
            bodies += [answer for code, answer in operation["responses"].items() if code == "200"]
            for body in bodies:
                content = body.get("content", {}).get("application/json")
                if content and content.get("schema"):
                    content.setdefault("example", example(content["schema"], schemas))
            for status, (code, detail, field) in PROBLEMS.items():
                answer = operation["responses"].get(status, {}).get("content", {}).get("application/problem+json")
                if answer is not None:
                    told = {"type": "about:blank", "title": TITLES[int(status)], "status": int(status), "code": code}
                    answer["example"] = told | {"detail": detail} | ({"field": field} if field else {})
    return document
