"""`bw lan`: a router's whole LAN through the tunnel.

Every packet of the LAN leaves under the tunnel's inner addresses, of IPv6 too: hosts keep the addresses that the
provider's delegated prefix or the router's advertisements gave them, and nobody outside sees them. The kill switch
(killswitch.py) forwards from the LAN to the tunnel and nowhere else.

A machine that forwards IPv6 no longer listens to router advertisements (RFC 4861, section 6.2.1; Linux with `accept_ra`
1) and would lose its own address and default route on the provider's link: it is told to go on (`accept_ra` 2).
"""

from __future__ import annotations

from pathlib import Path

from .files import read_json, write_json
from .killswitch import nft

TABLE = "bwclient_lan"
_SYS = Path("/proc/sys")
_CONF6 = "net/ipv6/conf"
_ALL = {"net/ipv4/ip_forward": "1", f"{_CONF6}/all/forwarding": "1"}


def up(lan: str, tun: str, journal: Path) -> None:
    """Masquerade and forward. `journal` remembers the sysctls of before. Raises SwitchError, OSError."""
    nft(f"""table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname "{lan}" oifname "{tun}" masquerade
  }}
  chain forward {{
    type filter hook forward priority mangle; policy accept;
    oifname "{tun}" tcp flags syn tcp option maxseg size set rt mtu
  }}
}}
""")
    if not journal.exists():
        write_json(journal, _now((lan, tun)))
    kept = read_json(journal)
    # Before forwarding is switched on: with it the kernel forgets what advertisements have told.
    for key, value in kept.items():
        if key.endswith("/accept_ra") and value == "1":
            _write(key, "2")
    for key, value in _ALL.items():
        _write(key, value)


def _now(own: tuple[str, str]) -> dict[str, str]:
    """The sysctls that `up` changes, itself or by what the kernel does then, in the order in which `down` writes."""
    there = [p.name for p in (_SYS / _CONF6).iterdir()] if (_SYS / _CONF6).exists() else []
    links = sorted(name for name in there if name not in ("all", "lo", *own))
    keys = [*_ALL, *(f"{_CONF6}/{name}/{what}" for what in ("forwarding", "accept_ra") for name in links)]
    return {key: (_SYS / key).read_text().strip() for key in keys if (_SYS / key).exists()}


def down(journal: Path) -> None:
    """Undo `up`, of this run or an earlier one; nothing happens when there is nothing to undo."""
    nft(f"table inet {TABLE}\ndelete table inet {TABLE}\n")
    for key, value in read_json(journal).items():
        if key in _ALL or (key.startswith(_CONF6) and key.endswith(("/forwarding", "/accept_ra"))):
            _write(key, str(value))
    journal.unlink(missing_ok=True)


def _write(key: str, value: str) -> None:
    """Set a sysctl; one whose interface is gone is no error."""
    path = _SYS / key
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)
