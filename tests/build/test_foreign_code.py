# SPDX-License-Identifier: LGPL-2.1-or-later
"""No program of a package runs on the build host: an image for another architecture is made from nothing, and what was
started for it is looked at.

It would not run without a binfmt handler, and with one nobody would notice; so each program started must be one of this
machine's own that preroot says it uses, and none may be an interpreter or an emulator to run others by.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixture_types import LockMaker

from preroot.engine import Workspace
from preroot.engine.doctor import TOOLS
from preroot.packages.learn.elf import read_elf
from preroot.packages.lock import read_lock

BUSYBOX = ("part.base.flavour=busybox", 'part.base.features=["busybox", "ext4", "virtio", "nvme", "scsi"]')
AUDITED = Path(__file__).with_name("audited.py")


@pytest.mark.parametrize("arch", ["s390x", pytest.param("riscv64", marks=pytest.mark.matrix)])
def test_only_programs_of_this_machine_run(
    workspace: Workspace, debian_lock: LockMaker, tmp_path: Path, arch: str
) -> None:
    """Indexes, lock, unpacking, planning, writing: the whole way, with package files at hand and nothing else."""
    cache = tmp_path / "cache"
    (cache / "archives").mkdir(parents=True)
    for package in read_lock(debian_lock("forky", arch, *BUSYBOX)).packages:
        (cache / "archives" / package.sha256).symlink_to(workspace.cache / "archives" / package.sha256)
    sets = [word for value in (f"distribution.arch={arch}", "distribution.release=forky", *BUSYBOX)
            for word in ("--set", value)]  # fmt: skip
    argv = [sys.executable, str(AUDITED), str(tmp_path / "log"), "build", *sets, "--output", str(tmp_path / "out")]
    done = subprocess.run(argv, env={**os.environ, "PREROOT_CACHE": str(cache)}, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    started = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {Path(program).name for program, _ in started} >= {"apt-get", "depmod"}
    assert list(wrong(started, tmp_path)) == []


def wrong(started: list[tuple[str, list[str]]], own: Path) -> Iterator[str]:
    """Yield what is wrong with the programs that were started; `own` is where packages and the image are unpacked."""
    here = read_elf(Path(sys.executable).resolve().read_bytes())
    assert here is not None
    for program, words in started:
        line = " ".join([program, *words[1:]])
        real = Path(program).resolve()
        elf = read_elf(real.read_bytes()) if real.is_file() else None
        if Path(program).name not in TOOLS:
            yield f"not among the tools that preroot uses: {line}"
        elif real.is_relative_to(own):
            yield f"out of a package: {line}"
        elif elf is None or (elf.machine, elf.bits, elf.little_endian) != (here.machine, here.bits, here.little_endian):
            yield f"no program of this machine: {line}"


def test_what_would_be_wrong_is_seen(tmp_path: Path) -> None:
    foreign = tmp_path / "depmod"
    foreign.write_bytes(Path(sys.executable).resolve().read_bytes()[:4096])
    script = tmp_path.parent / "apt-get"
    script.write_text("#!/bin/sh\n")
    started = [("/bin/sh", ["sh", "postinst"]), (str(foreign), ["depmod"]), (str(script), ["apt-get"])]
    assert list(wrong(started, tmp_path)) == [
        "not among the tools that preroot uses: /bin/sh postinst",
        f"out of a package: {foreign}",
        f"no program of this machine: {script}",
    ]
