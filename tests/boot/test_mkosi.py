# SPDX-License-Identifier: LGPL-2.1-or-later
"""The example for mkosi: preroot builds the initrd of an image that mkosi builds, and that image boots."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import packages
import pytest
from lab import Disk, Lab

from bench.chroots import Chroot, host_mirror, make
from preroot.boot.realroot import proof_entries
from preroot.engine.testing import Image
from preroot.inspect.archive import read_file

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/mkosi"
#: what mkosi needs for this image, and preroot's libraries, so that only preroot itself is installed by pip
PACKAGES = (
    "mkosi", "systemd-repart", "systemd-ukify", "systemd-boot-efi", "python3-pefile", "e2fsprogs", "dosfstools",
    "mtools", "kmod", "ca-certificates", "debian-archive-keyring", "python3-venv", "python3-msgspec", "python3-click",
    "python3-rich", "python3-zstandard",
)  # fmt: skip
ROOT_DEVICE = "PARTLABEL=root-x86-64"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with a program `preroot` that runs this one."""
    program = tmp_path / "programs/preroot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m preroot "$@"\n')
    program.chmod(0o755)
    return program.parent


def module_releases(paths: Iterable[str]) -> set[str]:
    """Return the releases of the kernels that an image has modules for."""
    return {path.split("/")[3] for path in paths if path.startswith("usr/lib/modules/") and path.count("/") > 3}


def test_the_script_makes_an_initrd_for_the_kernel_of_the_image(lab: Lab, programs: Path, tmp_path: Path) -> None:
    """Run as mkosi runs it, with all that it says in the environment, over the files of a kernel's package."""
    kernel = packages.kernel()
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    script = (source / "mkosi.finalize").read_text()
    assert script.count("\nPATH=") == 1
    (source / "mkosi.finalize").write_text(script.replace("\nPATH=", f"\nPATH={programs}:"))
    env = {"PATH": "/usr/bin:/usr/sbin", "BUILDROOT": str(kernel.root), "SRCDIR": str(source),
           "ARTIFACTDIR": str(tmp_path / "artifacts"), "PREROOT_CACHE": str(lab.workspace.cache),
           "HOME": os.environ.get("HOME", "/")}  # fmt: skip
    done = subprocess.run([source / "mkosi.finalize"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (initrd,) = (tmp_path / "artifacts/io.mkosi.initrd").iterdir()
    entries = read_file(initrd).effective()
    assert module_releases(entries) == {kernel.modules.name}
    assert "init" in entries and any("/virtio_blk.ko" in path for path in entries)
    assert (source / "initrd.lock").is_file(), "the lock is beside the configuration, for version control"


@pytest.fixture
def chroot(tmp_path: Path) -> Iterator[Chroot]:
    """A Debian with mkosi and preroot as docs/integration.md has them; kept from run to run."""
    key = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    made = Chroot(packages.cache_directory() / f"mkosi-trixie-{key}", PACKAGES)
    make(made, "trixie", tmp_path / "chroot.log", refresh=False)
    wheels = made.path / "root/wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)]
    subprocess.run(argv, cwd=ROOT, capture_output=True, check=True)
    wheel = f"/root/wheels/{next(wheels.iterdir()).name}"
    run(made, "python3", "-m", "venv", "--clear", "--system-site-packages", "/usr/local/lib/preroot")
    run(made, "/usr/local/lib/preroot/bin/pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    yield made
    shutil.rmtree(made.path / "root/example", ignore_errors=True)


def run(chroot: Chroot, *argv: str) -> str:
    done = subprocess.run(
        chroot.inside(*argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.matrix
def test_an_image_of_mkosi_boots(lab: Lab, chroot: Chroot) -> None:
    work = chroot.path / "root/example"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(EXAMPLE, work)
    for entry in proof_entries("mkosi", ROOT_DEVICE):
        path = work / "mkosi.extra" / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.type == "symlink":
            path.symlink_to(entry.target)
        else:
            path.write_bytes(entry.data)
            path.chmod(entry.mode)
    # All of Debian's archives that mkosi takes by default are on no mirror; --local-mirror means this one alone.
    run(chroot, "mkosi", "--directory=/root/example", f"--local-mirror={host_mirror()}", "build")
    entries = read_file(work / "image.initrd").effective()
    releases = module_releases(entries)
    assert len(releases) == 1, "this is an initrd of mkosi's own, which has no modules here"
    assert releases.pop().encode() in (work / "image.vmlinuz").read_bytes()[:65536]
    image = Image(work / "image.initrd", work / "image.vmlinuz")
    disk = Disk(work / "image.raw", "virtio", {"PARTLABEL": ROOT_DEVICE}, "mkosi")
    lab.boot("mkosi", image, disk, root="PARTLABEL", cmdline="rw")
