"""Gateways' certificates, checked: MicroPython's `requests` checks none, so it is given contexts that do.

`requests` makes a context of the module `tls` (or `ssl`, older ones) and tells it to check nothing. Here stands
another object under those names, whose contexts take no such advice. CPython's `requests` checks by itself.
"""

import gc
import sys

from . import clock, files

SYSTEM = "/etc/ssl/certs/ca-certificates.crt"  # OpenWrt's package ca-bundle, and Debian's ca-certificates


class Untrusted(OSError):
    """A certificate cannot be checked, or is not one to trust; the text says why and what would help."""


class Checked:
    """The module `tls` as `requests` sees it; `ca_file` holds the trusted certificates, PEM."""

    CERT_NONE = 0

    def __init__(self, real, ca_file):
        self.real = real
        self.ca_file = ca_file
        self.PROTOCOL_TLS_CLIENT = real.PROTOCOL_TLS_CLIENT
        self._context = None

    def SSLContext(self, protocol):
        """A fresh face for the one context: the trusted certificates take a megabyte, once."""
        if self._context is None:
            gc.collect()
            trusted = files.read(self.ca_file)
            if trusted is None:
                raise Untrusted(
                    "there is nothing to check the gateway's certificate by: %s is missing; install ca-bundle, or set"
                    " ca_file" % self.ca_file
                )
            context = self.real.SSLContext(self.real.PROTOCOL_TLS_CLIENT)
            context.verify_mode = self.real.CERT_REQUIRED
            try:
                context.load_verify_locations(trusted)
            except ValueError as error:
                raise Untrusted("%s holds no certificates: %s" % (self.ca_file, _line(str(error))))
            self._context = context
        return _Face(self._context)

    def wrap_socket(self, sock, server_hostname=None):
        return self.SSLContext(self.PROTOCOL_TLS_CLIENT).wrap_socket(sock, server_hostname=server_hostname)


class _Face:
    def __init__(self, context):
        self.context = context
        self.verify_mode = 0  # what `requests` writes here counts for nothing

    def wrap_socket(self, sock, server_hostname=None):
        try:
            return self.context.wrap_socket(sock, server_hostname=server_hostname)
        except ValueError as error:  # mbedtls's words on a certificate; all else is an OSError
            # First, for the log cuts long lines.
            why = "" if clock.is_set() else "the time of day is not set yet (NTP), so no certificate can be valid; "
            raise Untrusted(why + "the gateway's certificate is not to be trusted: " + _line(str(error)))


def _line(text):
    return ", ".join([part.strip() for part in text.strip().split("\n")])


def check(ca_file):
    """From now on `requests` checks certificates by `ca_file` (empty: the system's)."""
    if sys.implementation.name != "micropython":
        return
    try:
        import tls as real
    except ImportError:
        import ssl as real
    if isinstance(real, Checked):
        real = real.real
    sys.modules["tls"] = sys.modules["ssl"] = Checked(real, ca_file or SYSTEM)
