"""How many handshakes a relay answers: a share of CPU time, cookies when it runs low, a bound for each neighbourhood.

The budget is time, not a number: an X25519 takes 40 us on a server and some 30 ms on a MIPS router, and neither shall
spend more than a fifth of itself on strangers. (The cookie is WireGuard's idea: a source must show that it receives
before it may cost anything.)
"""

import os

from ..platform import clock, sodium
from ..wire import sizes as S

SHARE_US = 200_000  # microseconds of handshakes a second
DEPTH_US = 400_000  # what an idle relay saves up
BUSY_US = 200_000  # below this a source must show a cookie
COOKIES_US = 50_000  # microseconds of COOKIEs a second
SECRET_MS = 120_000  # a cookie secret's life; the one before it still counts
SOURCE_MOST = 16  # handshakes a second of one /24 (v4) or /48 (v6) while busy


class Budget:
    """`admit` decides about one CREATE, `spend` notes what it has cost."""

    def __init__(self):
        self.left = DEPTH_US
        self.cookies = COOKIES_US
        self._at = clock.ms()
        self._secrets = (os.urandom(32), os.urandom(32))
        self._secret_at = self._at
        self._second_at = self._at
        self._sources = {}

    def _refill(self):
        now = clock.ms()
        passed = clock.diff(now, self._at)
        if passed > 0:
            self._at = now
            self.left = min(DEPTH_US, self.left + min(passed, 10_000) * (SHARE_US // 1000))
            self.cookies = min(COOKIES_US, self.cookies + min(passed, 10_000) * (COOKIES_US // 1000))
        if clock.diff(now, self._secret_at) > SECRET_MS:
            self._secret_at = now
            self._secrets = (os.urandom(32), self._secrets[0])
        if clock.diff(now, self._second_at) >= 1000:
            self._second_at = now
            self._sources = {}

    def admit(self, cookie, sockaddr):
        """"yes", "cookie" (answer with one), or the reason to drop it."""
        self._refill()
        if self.left >= BUSY_US:
            return "yes"
        if self.left <= 0:
            return "handshake-budget"
        if cookie != self._cookie(0, sockaddr) and cookie != self._cookie(1, sockaddr):
            return "cookie" if self.cookies > 0 else "handshake-budget"
        near = bytes(sockaddr[8:23]) if sockaddr[18:20] == b"\xff\xff" else bytes(sockaddr[8:14])
        count = self._sources.get(near, 0)
        if count >= SOURCE_MOST:
            return "handshake-source"
        self._sources[near] = count + 1
        return "yes"

    def spend(self, microseconds):
        """A handshake has cost so much."""
        self.left -= microseconds

    def spend_cookie(self, microseconds):
        """A COOKIE has; those who show one are not charged for those who do not."""
        self.cookies -= microseconds

    def _cookie(self, generation, sockaddr):
        return sodium.blake2b(bytes(sockaddr), self._secrets[generation], S.COOKIE_SIZE)

    def cookie(self, sockaddr):
        """The 16 bytes that this source must show."""
        return self._cookie(0, sockaddr)
