"""Errors that reach a caller: RFC 9457 problem documents with a stable `code`."""

from __future__ import annotations

import math


class Problem(Exception):
    """Refusal of a request. `code` is for programs, `detail` for people; `field` names what is wrong, if one is;
    `retry_after` is in seconds."""

    def __init__(self, status: int, code: str, detail: str, field: str = "", retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after = retry_after

    def document(self) -> dict[str, object]:
        """The body of the answer."""
        document: dict[str, object] = {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.field:
            document["field"] = self.field
        return document

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {"retry-after": str(math.ceil(self.retry_after))} if self.retry_after else {}


TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
