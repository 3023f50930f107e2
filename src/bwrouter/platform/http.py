"""HTTP with JSON bodies by `requests`, which both runtimes have (micropython-lib's, or PyPI's)."""

import json

import requests

from . import ffi, strict, tls

_ca_file = [""]


def trust(ca_file):
    """Check servers' certificates by the file of certificates `ca_file` (PEM); empty: the system's."""
    _ca_file[0] = ca_file
    tls.check(ca_file)


class HttpError(OSError):
    """No answer: connection refused, time-out, TLS failure, or a body that is not JSON. The text names the URL."""


def request(method, url, body=None, timeout=10):
    """(status, decoded JSON) of one request. `body` is JSON text or None. Raises HttpError."""
    options = {"timeout": timeout}
    if body is not None:
        options.update({"data": body, "headers": {"Content-Type": "application/json"}})
    if _ca_file[0] and ffi.RUNTIME == "cpython":
        options["verify"] = _ca_file[0]
    try:
        r = requests.request(method, url, **options)
        try:
            return r.status_code, strict.loads(r.text)
        finally:
            r.close()
    except (OSError, ValueError, NotImplementedError, IndexError) as e:
        code = e.args[0] if e.args else None
        why = ffi.reason(code) if isinstance(code, int) and code > 0 else str(e)
        raise HttpError(method + " " + url + ": " + why)


def fetch(method, url, headers, body, most, timeout=4):
    """(status, text) of one request over plain HTTP to a device of the home; at most `most` bytes of its answer are
    read. Raises HttpError."""
    try:
        r = requests.request(method, url, headers=headers, data=body, timeout=timeout, stream=True)
        try:
            raw = r.raw.read(most)
            return r.status_code, raw.decode()
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
