"""The feed's Makefile, run by GNU make with stand-ins for OpenWrt's rules.mk and package.mk, builds what package/build builds."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from bwrouter import __version__
from tests.package.router import ROOT
from tests.package.test_ipk import build, control

# STAND-IN for include/package.mk: BuildPackage prints the fields, and makes targets that run the package's own recipes.
PACKAGE_MK = r"""
define BuildPackage
$(eval $(call Package/$(1)))
fields-$(1):
	@echo 'Package: $(1)'
	@echo 'Version: $$(PKG_VERSION)-$$(PKG_RELEASE)'
	@echo 'Depends: libc$(foreach d,$(DEPENDS),, $(d:+%=%))'
	@echo 'Section: $(SECTION)'
	@echo 'Require-User: $(USERID)'
	@echo 'Architecture: $(PKGARCH)'
	@echo 'Maintainer: $(PKG_MAINTAINER)'
	@echo 'Title: $(TITLE)'
	@echo 'conffiles: $$(strip $$(Package/$(1)/conffiles))'
install-$(1):
	$(Build/Prepare)
	$(Build/Compile)
	$(call Package/$(1)/install,$$(OUT))
endef
"""
RULES_MK = "INCLUDE_DIR:=$(TOPDIR)\nINSTALL_DIR:=install -d -m0755\nCP:=cp -fpR\nFIND:=find\nSHELL:=/bin/sh\n"


def make(folder: Path, *targets: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "rules.mk").write_text(RULES_MK)
    (folder / "package.mk").write_text(PACKAGE_MK)
    cross = folder / "host/lib/micropython/mpy-cross/build/mpy-cross"
    cross.parent.mkdir(parents=True, exist_ok=True)
    if not cross.exists():
        cross.symlink_to(ROOT / "build/mpy-cross/mpy-cross")
    variables = [f"TOPDIR={folder}", f"STAGING_DIR={folder}", f"PKG_BUILD_DIR={folder}/work", f"OUT={folder}/out"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run = subprocess.run(
        ["make", "-s", "-C", str(ROOT / "package"), *variables, *targets], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_fields(tmp_path: Path) -> None:
    said = dict(line.split(": ", 1) for line in make(tmp_path / "top", "fields-bwrouter").splitlines())
    ipk = build(tmp_path)
    with tarfile.open(ipk) as outer:
        outer.extractall(tmp_path / "parts")
    (tmp_path / "parts/control").mkdir()
    with tarfile.open(tmp_path / "parts/control.tar.gz") as inner:
        inner.extractall(tmp_path / "parts/control")
    ours = control(tmp_path / "parts")
    for name in ("Package", "Version", "Depends", "Section", "Require-User", "Architecture", "Maintainer"):
        assert said[name].replace(" ,", ",") == ours[name], name
    assert ours["Description"].splitlines()[0] == said["Title"]
    assert said["conffiles"] == "/etc/config/bwrouter"
    assert said["Version"] == __version__ + "-1"


def test_files(tmp_path: Path) -> None:
    make(tmp_path / "top", "install-bwrouter")
    out = tmp_path / "top/out"
    theirs = {
        str(p.relative_to(out)): (p.stat().st_mode & 0o777, p.read_bytes()) for p in out.rglob("*") if p.is_file()
    }
    with tarfile.open(build(tmp_path)) as outer, tarfile.open(fileobj=outer.extractfile("./data.tar.gz")) as data:
        ours = {m.name[2:]: (m.mode, data.extractfile(m).read()) for m in data if m.isfile()}
    assert sorted(ours) == sorted(theirs)
    assert ours == theirs
