"""HTTP with JSON bodies by `requests`, which both runtimes have (micropython-lib's, or PyPI's)."""

import json

import requests


class HttpError(OSError):
    """No answer: connection refused, time-out, TLS failure, or a body that is not JSON. The text names the URL."""


def request(method, url, body=None, timeout=10):
    """(status, decoded JSON) of one request. `body` is JSON text or None. Raises HttpError."""
    try:
        if body is None:
            r = requests.request(method, url, timeout=timeout)
        else:
            r = requests.request(method, url, data=body, headers={"Content-Type": "application/json"}, timeout=timeout)
        try:
            return r.status_code, json.loads(r.text)
        finally:
            r.close()
    except (OSError, ValueError, NotImplementedError, IndexError) as e:
        raise HttpError(method + " " + url + ": " + str(e))


def canonical(obj):
    """JSON of `obj` with sorted keys and no spaces: what signatures are made over. Keys must be strings."""
    if isinstance(obj, dict):
        return "{" + ",".join(json.dumps(k) + ":" + canonical(obj[k]) for k in sorted(obj)) + "}"
    if isinstance(obj, (list, tuple)):
        return "[" + ",".join(canonical(x) for x in obj) + "]"
    return json.dumps(obj)
