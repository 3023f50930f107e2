"""The gateways that the owner listed: calls with fail-over, and which of them signs with which mint key."""

from ..platform import clock, http
from . import signed

TIMEOUT_S = 10
INFO_S = 60  # an /v1/info is believed for so long
OLD_S = 300  # ... while no money moves, and by who only wants to know who is there
BACKOFF_MAX_S = 60


class Refused(Exception):
    """A gateway said no: HTTP `status` and the problem document's `code`; the text has its detail too."""

    def __init__(self, status, answer):
        answer = answer if isinstance(answer, dict) else {}
        code = str(answer.get("code") or "http-" + str(status))
        super().__init__(code + ": " + str(answer.get("detail") or ""))
        self.status = status
        self.code = code


class Gateway:
    """One gateway. `info` is its last /v1/info; `error` in words, empty when it answered last."""

    def __init__(self, url, key):
        self.url = url[:-1] if url[-1:] == "/" else url
        self.key = key
        self.info = None
        self.info_at = 0
        self.error = ""
        self.failures = 0
        self.retry_at = 0
        self.published_until = 0  # unix seconds, of the descriptor that it signed
        self.published_at = 0

    def call(self, method, path, body=None):
        """The decoded answer. Raises Refused for a 4xx, http.HttpError for none, a 5xx or a strange one."""
        try:
            status, answer = http.request(method, self.url + path, body, TIMEOUT_S)
            if 400 <= status < 500:
                raise Refused(status, answer)
            if status >= 500 or status < 200 or not isinstance(answer, dict):
                detail = str(answer.get("detail", "")) if isinstance(answer, dict) else ""
                raise http.HttpError(method + " " + self.url + path + ": answer " + str(status) + " " + detail)
        except http.HttpError as error:
            self.failures += 1
            self.retry_at = clock.unix() + min(BACKOFF_MAX_S, 1 << min(self.failures, 6))
            self.error = str(error)
            raise
        self.failures = 0
        self.error = ""
        return answer

    def waiting(self):
        """Whether it is too early to try again. A clock that was set back does not make it wait for ever."""
        return 0 < self.retry_at - clock.unix() <= BACKOFF_MAX_S

    def refresh(self, old_s=INFO_S):
        """Fetch /v1/info when it is `old_s` seconds old. Raises Refused, HttpError."""
        now = clock.unix()
        if self.info is not None and abs(now - self.info_at) < old_s:
            return
        info = self.call("GET", "/v1/info")
        if info.get("gateway_key") != self.key:
            self.info = None
            self.failures += 1
            self.retry_at = now + BACKOFF_MAX_S
            self.error = "it signs with another key than the one set: " + str(info.get("gateway_key"))
            raise http.HttpError(self.url + ": " + self.error)
        self.info = info
        self.info_at = now

    def now(self):
        """Unix seconds: our clock, or the gateway's while ours was never set."""
        if clock.is_set() or self.info is None:
            return clock.unix()
        return self.info["time"] + clock.unix() - self.info_at

    def signed(self, path, body, keys):
        """POST a signed body. Raises Refused, HttpError."""
        return self.call("POST", path, signed.request(path, body, keys, self.now()))


class Gateways:
    """All of them, in the owner's order of preference."""

    def __init__(self, settings):
        http.trust(settings.get("ca_file", ""))
        self.all = [Gateway(entry["url"], entry["key"]) for entry in settings["gateways"]]

    def ready(self, old_s=INFO_S):
        """Those that may be tried now, with an info of less than `old_s` seconds; the preferred first."""
        out = []
        for gateway in self.all:
            if gateway.failures and gateway.waiting():
                continue
            try:
                gateway.refresh(old_s)
                out.append(gateway)
            except (Refused, http.HttpError, KeyError, TypeError) as error:
                gateway.error = gateway.error or str(error)
        return out

    def away(self):
        """Whether none may be tried now."""
        return all([gateway.failures and gateway.waiting() for gateway in self.all])

    def of_mint_key(self, mint_key):
        """The gateways, ready ones, that issue under a mint key (hex), or all ready ones when none names it."""
        for old_s in (OLD_S, INFO_S):  # keys change with the epoch
            ready = self.ready(old_s)
            owners = [g for g in ready if mint_key in [k.get("id") for k in g.info.get("mint_keys", ())]]
            if owners:
                return owners
        return ready

    def of_key(self, key):
        """The ready gateways that sign with `key` (hex); all for an empty one."""
        return [g for g in self.ready(OLD_S) if not key or g.key == key]


def check(settings):
    """Raise ValueError that names the setting when a gateway entry is malformed."""
    for entry in settings["gateways"]:
        key = entry.get("key", "") if isinstance(entry, dict) else ""
        url = entry.get("url", "") if isinstance(entry, dict) else ""
        try:
            good = len(bytes.fromhex(key)) == 32 and key == key.lower()
        except (ValueError, TypeError):
            good = False
        if not good or not isinstance(url, str) or url.split("://")[0] not in ("http", "https"):
            raise ValueError(
                "setting gateways: %r is not allowed; each wants url (http:// or https://) and key (64 lower-case hex"
                " digits)" % (entry,)
            )
