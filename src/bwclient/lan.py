"""`bw lan`: a router's whole LAN through the tunnel.

Every packet of the LAN leaves under the tunnel's inner addresses, of IPv6 too: hosts keep the addresses that the
provider's delegated prefix or the router's advertisements gave them, and nobody outside sees them. The kill switch
(killswitch.py) forwards from the LAN to the tunnel and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from .files import read_json, write_json
from .killswitch import nft

TABLE = "bwclient_lan"
_FORWARDING = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
}


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
        write_json(journal, {key: _path(key).read_text().strip() for key in _FORWARDING if _path(key).exists()})
    for key, value in _FORWARDING.items():
        if _path(key).exists() and _path(key).read_text().strip() != value:
            _path(key).write_text(value)


def down(journal: Path) -> None:
    """Undo `up`, of this run or an earlier one; nothing happens when there is nothing to undo."""
    nft(f"table inet {TABLE}\ndelete table inet {TABLE}\n")
    for key, value in read_json(journal).items():
        if key in _FORWARDING and _path(key).read_text().strip() != value:
            _path(key).write_text(str(value))
    journal.unlink(missing_ok=True)


def _path(key: str) -> Path:
    return Path("/proc/sys", *key.split("."))
