"""A router's file system in a folder, with stand-ins for what OpenWrt brings (tests/package/standin).

The stand-ins record; nothing of procd, uci or netifd is here. The init script, the launcher and the package are real.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STANDIN = Path(__file__).parent / "standin"
PLACES = {
    "rc.common": "etc/rc.common",
    "functions.sh": "lib/functions.sh",
    "procd.sh": "lib/functions/procd.sh",
    "network.sh": "lib/functions/network.sh",
    "jshn.sh": "usr/share/libubox/jshn.sh",
    "validate_data": "sbin/validate_data",
}


class Router:
    def __init__(self, folder: Path, jail: bool = True, user: bool = True) -> None:
        self.root = folder / "root"
        self.calls_file = folder / "calls"
        shutil.copytree(ROOT / "files", self.root)
        for name, place in PLACES.items():
            self.write(place, (STANDIN / name).read_text(), 0o755)
        for path in ("tmp", "var/run", "usr/lib", "etc/rc.d"):
            (self.root / path).mkdir(parents=True, exist_ok=True)
        self.write("usr/lib/libsodium.so.26", "")
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/ash\n" + "bwrouter:x:32768:32768::/:/bin/false\n" * user)
        self.write("etc/group", "root:x:0:\n" + "bwrouter:x:32768:\n" * user)
        if jail:
            self.write("sbin/ujail", "", 0o755)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        target = self.root / path
        return target.read_text() if target.exists() else ""

    def service(self, action: str) -> tuple[str, str]:
        """(calls that the init script made, what it said on standard error), with the root's path taken out."""
        self.calls_file.write_text("")
        command = ["busybox", "ash", str(self.root / "etc/rc.common"), str(self.root / "etc/init.d/bwrouter"), action]
        environment = {
            "PATH": os.environ["PATH"], "IPKG_INSTROOT": str(self.root), "CALLS": str(self.calls_file), "TMPDIR": str(self.root / "tmp"),
        }  # fmt: skip
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return self.calls_file.read_text().replace(str(self.root), ""), run.stderr.replace(str(self.root), "")
