"""An OpenWrt image of somebody else's making, driven over its serial console: `make qemu IMAGE=... SHA256=...`.

    python -m qemu.console --arch x86_64 --image FILE-OR-URL --sha256 HEX

Runs the image's own opkg or apk on the built package, then the unit tests: rung 5 of the ladder in docs/operations.md.
The image must be what the checksum says; without one nothing is started. `--own` drives the repository's own guest.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import re
import select
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from io import BytesIO
from pathlib import Path

from qemu.guest import MACHINES, ROOT
from qemu.pool import package

PROMPT = re.compile(rb"[#$] $")
# How each of OpenWrt's images starts: options beside MACHINES'. A combined disk image brings its own kernel.
STARTS = {
    "x86_64": ["-drive", "file={image},format=raw,if=ide"],
    "arm64": ["-kernel", "{image}"],
    "armhf": ["-kernel", "{image}"],
    "mipsel": ["-kernel", "{image}"],
    "mips": ["-kernel", "{image}"],
}


class ImageError(Exception):
    """The image is not to be had, not the one that was meant, or does not do what it must."""


def obtain(source: str, sha256: str, folder: Path) -> Path:
    """The image, verified and unpacked, in `folder`. Raises ImageError."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ImageError(f"SHA256={sha256 or '(none)'} is no SHA-256: an image without a checksum is not started; "
                         "take it from sha256sums beside the image")  # fmt: skip
    target = folder / "image"
    if re.match(r"https?://", source):
        with urllib.request.urlopen(source, timeout=60) as answer, target.open("wb") as out:
            shutil.copyfileobj(answer, out)
    elif Path(source).is_file():
        shutil.copy(source, target)
    else:
        raise ImageError(f"IMAGE={source}: there is no such file, and it is no http(s) URL")
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    if found != sha256.lower():
        raise ImageError(f"IMAGE={source} has SHA-256 {found}, not {sha256.lower()}: not the image that was meant")
    if target.read_bytes()[:2] == b"\x1f\x8b":
        # OpenWrt pads its images behind the gzip stream.
        unpacked = subprocess.run(["gzip", "-dcq", str(target)], capture_output=True, check=False).stdout
        if not unpacked:
            raise ImageError(f"IMAGE={source} cannot be unpacked by gzip")
        target.write_bytes(unpacked)
    return target


# busybox forgets what is typed beyond its editor's line: 1023 characters, on OpenWrt 511. The marks need some.
LINE = 445


class Console:
    """A shell on a serial line: what is typed comes back, then the output, then a prompt."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.folder = folder
        self.log = bytearray()
        full = [*command, "-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci"]
        full += ["-chardev", "socket,id=con,path=con,server=on,wait=on", "-serial", "chardev:con"]
        self.process = subprocess.Popen(full, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=(folder / "qemu.log").open("wb"))  # fmt: skip
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 30
        while True:
            try:
                self.socket.connect(str(folder / "con"))
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise ImageError("QEMU: " + (folder / "qemu.log").read_text(errors="replace")[-1000:]) from None
                time.sleep(0.05)

    def read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self.socket], [], [], seconds)
        more = self.socket.recv(65536) if ready else b""
        if ready and not more:
            raise ImageError("the guest ended; its console:\n" + self.log[-2000:].decode(errors="replace"))
        self.log += more
        return more

    def wake(self, seconds: float) -> None:
        """Press Enter until a shell prompt answers (OpenWrt's console waits for that)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.socket.sendall(b"\n")
            quiet = time.monotonic() + 3
            while time.monotonic() < quiet:
                self.read(0.5)
                if PROMPT.search(bytes(self.log[-4:])):
                    return
        raise ImageError("no shell prompt on the console:\n" + self.log[-2000:].decode(errors="replace"))

    def run(self, command: str, seconds: float = 120) -> tuple[int, str]:
        """(exit code, output) of one command line. Raises ImageError for one of more than LINE characters."""
        mark = f"@{len(self.log)}@"
        start = len(self.log)
        if len(command) > LINE:
            raise ImageError(f"{command[:60]}: more characters than a router's shell takes ({LINE})")
        # Split, so that the echo of what is typed does not hold the marks; of that a late prompt may make two lines.
        self.socket.sendall(f"echo '@''{mark[1:]}';{command}; echo '@''{mark[1:]}' $?\n".encode())
        end = time.monotonic() + seconds
        done = re.compile(re.escape(mark).encode() + rb" (\d+)\r?\n")
        while not (found := done.search(self.log, start)):
            if time.monotonic() > end:
                said = self.log[start:][-2000:].decode(errors="replace")
                raise ImageError(f"{command[:60]}: no end within {seconds:.0f} s:\n{said}")
            self.read(1)
        text = self.log[start : found.start()].decode(errors="replace").replace("\r", "")
        return int(found[1]), text.partition(mark + "\n")[2]

    def must(self, command: str, seconds: float = 120) -> str:
        status, output = self.run(command, seconds)
        if status:
            raise ImageError(f"{command[:80]}: exit code {status}\n{output[-3000:]}")
        return output

    def put(self, content: bytes, path: str) -> None:
        """A file, through the console: base64 where the image has it, else octal escapes of printf."""
        self.must(f": >{path}")
        coded = self.run("which base64")[0] == 0
        step = 282 if coded else 84
        for at in range(0, len(content), step):
            part = content[at : at + step]
            if coded:
                self.must(f"echo {base64.b64encode(part).decode()} | base64 -d >>{path}")
            else:
                self.must("printf '" + "".join(f"\\{b:03o}" for b in part) + f"' >>{path}")
        found = self.must(f"sha256sum {path}").split()[0]
        if found != hashlib.sha256(content).hexdigest():
            raise ImageError(f"{path} came through the console damaged")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()


PARTS = ("wire", "ledger", "platform")  # whose unit tests run on an image


def unit_archive() -> bytes:
    """The unit tests that run on the image, what they read and what they test, as a tar.gz below ./srv: the package's
    own modules are put together in files that a test cannot import one by one."""
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        tested = [f"src/bwrouter/{name}" for name in ("__init__.py", *PARTS)]
        for name in ("tests/unit", "docs/protocol.md", *tested):
            archive.add(ROOT / name, "srv/" + name, filter=lambda e: None if "__pycache__" in e.name else e)
    return gzip.compress(out.getvalue(), 9)


def exercise(console: Console) -> None:
    """Install, look, test, remove."""
    apk = console.run("which apk")[0] == 0
    found = sorted((ROOT / "dist").glob("bwrouter-*.apk"))[-1:] if apk else [package()]
    if not found:
        raise ImageError("the image has apk, and dist/ has no .apk: make apk first (it wants apk-tools)")
    inside = "/tmp/" + found[0].name
    console.put(found[0].read_bytes(), inside)
    install = f"apk add --allow-untrusted {inside}" if apk else f"opkg install {inside}"
    print(console.must(install, 600).strip())
    print(console.must("bwrouter --version").strip(), "installed")
    console.must("/etc/init.d/bwrouter enabled")
    status, output = console.run("pidof micropython")
    if status == 0:
        raise ImageError("it runs before it is enabled: " + output)
    unit_tests(console)
    print(console.must("apk del bwrouter" if apk else "opkg remove bwrouter", 300).strip())
    if console.run("ls /etc/init.d/bwrouter 2>/dev/null")[0] == 0:
        raise ImageError("removing it left /etc/init.d/bwrouter")


def lines(words: list[str], most: int) -> list[str]:
    """`words` in order, in lines of at most `most` characters."""
    found = [""]
    for word in words:
        if len(found[-1]) + 1 + len(word) > most:
            found.append("")
        found[-1] = (found[-1] + " " + word).strip()
    return [line for line in found if line]


def unit_tests(console: Console) -> None:
    import ast

    console.put(unit_archive(), "/tmp/unit.tgz")
    console.must("tar xzf /tmp/unit.tgz -C /tmp && mkdir -p /tmp/srv/build/tmp")
    good = 0
    for path in sorted((ROOT / "tests/unit").rglob("test_*.py")):
        if path.relative_to(ROOT / "tests/unit").parts[0] not in PARTS:
            continue
        parsed = ast.parse(path.read_text()).body
        names = [n.name for n in parsed if isinstance(n, ast.FunctionDef) and n.name[:5] == "test_"]
        run = "cd /tmp/srv && MICROPYPATH=src:tests/unit:.frozen"
        run += " micropython -X heapsize=8m tests/unit/run_mp.py"
        output = ""
        for some in lines(names, LINE - len(run) - len(str(path.relative_to(ROOT))) - 2):
            output += console.run(f"{run} {path.relative_to(ROOT)} {some}", 400)[1]
        passed = re.findall(r"^\x1f ok (\w+) \d+$", output, re.M)
        if sorted(passed) != sorted(names):
            raise ImageError(f"{path.name}: {sorted(set(names) - set(passed))} failed:\n{output[-3000:]}")
        good += len(names)
    print(f"{good} unit tests passed")


def own_command(arch: str) -> list[str]:
    """The repository's own rom, with a console instead of a control port."""
    image = ROOT / "build/qemu" / arch
    return [
        *MACHINES[arch][0], "-m", "128" if arch.startswith("mips") else "256",
        "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "boot"),
        "-drive", f"file={image / 'rom'},format=raw,if=virtio,readonly=on",
        "-append", f"console={MACHINES[arch][1]} quiet panic=-1",
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Run an OpenWrt image, install the package, run the tests.")
    parser.add_argument("--arch", choices=sorted(STARTS), required=True)
    parser.add_argument("--image", default="")
    parser.add_argument("--sha256", default="")
    parser.add_argument("--own", action="store_true", help="the repository's own guest instead of an image")
    options = parser.parse_args()
    (ROOT / "build/tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="image.", dir=ROOT / "build/tmp") as name:
        folder, console = Path(name), None
        try:
            if options.own:
                command = own_command(options.arch)
            else:
                image = obtain(options.image, options.sha256, folder)
                start = [word.format(image=image) for word in STARTS[options.arch]]
                command = [*MACHINES[options.arch][0], "-m", "256", *start]
            console = Console(command, folder)
            console.wake(180)
            exercise(console)
        except ImageError as error:
            print(f"qemu: {error}", file=sys.stderr)
            return 1
        finally:
            if console:
                console.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
