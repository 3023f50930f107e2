"""A router in QEMU: starts it, runs commands in it, ends it. Images come from qemu/build.sh."""

from __future__ import annotations

import base64
import contextlib
import itertools
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]
# QEMU's command, the console and the control port of each CPU. x86 is q35 in software: microvm hangs, and KVM is not
# everywhere. 24Kc has no floating point unit, like the routers.
MACHINES: dict[str, tuple[list[str], str, str]] = {
    "mipsel": (["qemu-system-mipsel", "-M", "malta", "-cpu", "24Kf"], "ttyS0", "ttyS1"),
    "mips": (["qemu-system-mips", "-M", "malta", "-cpu", "24Kf"], "ttyS0", "ttyS1"),
    "armhf": (["qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a7"], "ttyAMA0", "vport"),
    "arm64": (["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53"], "ttyAMA0", "vport"),
    "x86_64": (["qemu-system-x86_64", "-M", "q35", "-cpu", "qemu64", "-accel", "tcg"], "ttyS0", "ttyS1"),
}


class GuestError(Exception):
    """The guest did not start, ended, or a command in it failed; carries the console's or the command's last lines."""


class Guest:
    """One guest with `memory_mb` of RAM and the `extra` files (path in the guest -> path here) in its initrd; `options`
    go to QEMU as they are.

    `image`: another folder of build/qemu than the CPU's.

    With `rom` it is laid out as OpenWrt is, with the stand-ins for opkg, procd and uci: a squashfs under an overlay in
    RAM or, when there is one, on `disk` (an ext4 image or a `file=` value of -drive). `nics` are TAP devices of the
    network namespace `ns`, the guest's eth0, eth1... `append` goes to the kernel's command line (guest.ip=, guest.gw=).
    Use as a context manager: leaving it ends QEMU and removes its files.
    """

    def __init__(
        self,
        arch: str,
        memory_mb: int = 128,
        extra: dict[str, Path] | None = None,
        boot_s: float = 120,
        image: str = "",
        options: Sequence[str] = (),
        *,
        rom: bool = False,
        disk: str = "",
        nics: Sequence[str] = (),
        ns: str = "",
        append: str = "",
    ) -> None:
        self.arch, self.memory_mb, self.extra, self.boot_s = arch, memory_mb, extra or {}, boot_s
        self.options, self.rom, self.disk, self.nics, self.ns, self.append = options, rom, disk, nics, ns, append
        self.image = ROOT / "build" / "qemu" / (image or arch)
        self._ids = itertools.count(1)
        self._buffer = b""

    def __enter__(self) -> Guest:
        image = self.image
        if not (image / ("boot" if self.rom else "initrd")).exists():
            raise GuestError(f"no image for {self.arch}: run make guest ARCH={self.arch}")
        (ROOT / "build" / "tmp").mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="guest.", dir=ROOT / "build" / "tmp"))
        try:
            self._start(image)
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, image: Path) -> None:
        command, console, control = MACHINES[self.arch]
        initrd = self.folder / "initrd"
        initrd.write_bytes((image / ("boot" if self.rom else "initrd")).read_bytes() + self._extra_archive())
        # A Unix socket's path has at most 107 bytes: bind it by a relative one.
        port = "socket,id=ctl,path=ctl,server=on,wait=off"
        command = [*command, *self.options, "-m", str(self.memory_mb), "-nodefaults", "-display", "none", "-no-reboot"]
        # Cards come first: the others take the slots that are left.
        command += [*self._cards(), "-kernel", str(image / "vmlinuz"), "-initrd", "initrd", "-device", "virtio-rng-pci"]
        command += ["-serial", "file:console", "-chardev", port]
        if control.startswith("ttyS"):
            command += ["-serial", "chardev:ctl"]
        else:
            command += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=ctl,name=ctl"]
        append = f"console={console} quiet panic=-1 guest.ctl={control} {self.append}"
        if self.rom:
            command += ["-drive", f"file={image / 'rom'},format=raw,if=virtio,readonly=on"]
            if self.disk:
                command += ["-drive", f"file={self.disk},if=virtio,format=raw"]
                append += " guest.disk=1"
        command += ["-append", append]
        if self.ns:
            command = ["ip", "netns", "exec", self.ns, *command]
        self.started = time.monotonic()
        with open(self.folder / "qemu.log", "wb") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            with contextlib.suppress(OSError), contextlib.chdir(self.folder):
                self.socket.connect("ctl")
                break
            if self.process.poll() is not None or time.monotonic() > self.started + 30:
                raise GuestError(
                    (self.folder / "qemu.log").read_text(errors="replace")[-2000:] or "QEMU gave no socket"
                )
            time.sleep(0.02)
        while b"@READY" not in self._line(self.started + self.boot_s):
            pass
        self.boot_seconds = time.monotonic() - self.started

    def _cards(self) -> list[str]:
        """A network card for each TAP. On Malta at the slots whose interrupts init makes level-triggered."""
        out: list[str] = []
        for i, tap in enumerate(self.nics):
            place = f",addr={0x12 + 2 * i:#x}" if self.arch.startswith("mips") else ""
            out += ["-netdev", f"tap,id=n{i},ifname={tap},script=no,downscript=no"]
            out += ["-device", f"virtio-net-pci,netdev=n{i},mac=02:00:00:00:{i:02x}:01{place}"]
        return out

    def _extra_archive(self) -> bytes:
        """A second cpio archive for the initrd, as the kernel takes it, with the extra files and folders."""
        if not self.extra:
            return b""
        stage = self.folder / "stage"
        for inside, here in self.extra.items():
            # The rom's first process copies /extra into the overlay.
            target = stage / ("extra" if self.rom else ".") / inside.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if here.is_dir():
                shutil.copytree(here, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(here, target)
        pack = "find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -n"
        packed = subprocess.run(["sh", "-c", pack], cwd=stage, capture_output=True, check=True).stdout
        shutil.rmtree(stage)
        return packed

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))
            more = b""
            with contextlib.suppress(ConnectionResetError):
                more = self.socket.recv(65536) if ready else b""
            if not more:
                said = (self.folder / "qemu.log").read_text(errors="replace")[-2000:]
                said += (self.folder / "console").read_text(errors="replace")[-2000:]
                raise GuestError(("the guest ended" if ready else "no answer in time") + "; its console:\n" + said)
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.strip()

    def run(self, command: str, timeout_s: float = 120, check: bool = True) -> str:
        """Run a shell command in the guest; return what it printed. GuestError: it took longer, failed (`check`), or
        could not send what it printed."""
        number = b"%d" % next(self._ids)
        deadline = time.monotonic() + timeout_s
        self.socket.sendall(number + b" " + base64.b64encode(command.encode()) + b"\n")
        while not (line := self._line(deadline)).startswith(b"@" + number + b" "):
            pass
        status, encoded = int(line.split()[1]), []
        while (line := self._line(deadline)) != b"@END " + number:
            encoded.append(line)
        try:
            output = base64.b64decode(b"".join(encoded), validate=True).decode(errors="replace")
        except ValueError:
            raise GuestError(f"the guest could not send what it printed: {b' '.join(encoded)[-4000:]!r}") from None
        if check and status:
            raise GuestError(f"exit code {status}: {command}\n{output[-4000:]}")
        return output

    def close(self) -> None:
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()
        if hasattr(self, "socket"):
            self.socket.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
