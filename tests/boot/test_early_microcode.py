# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel finds AMD microcode in the early archive.

Under an emulator the kernel looks for none (load_ucode_bsp of core.c, CPUID's hypervisor bit), so that bit is hidden.
It then searches the archive for its processor's equivalence id, and initcall_debug shows what came of it. An emulated
processor can't apply an update. Intel's loader says nothing unless an update was applied, so for Intel only the content
of the archive is tested (tests/build/test_microcode_image.py).
"""

from __future__ import annotations

import re

import pytest
from lab import BUSYBOX, Lab

from preroot.boot.machine import Machine, MachineSpec

#: of QEMU's EPYC-v1: CPUID 0x800f12, family 17h, model 1, stepping 2
CPU = "EPYC-v1,-hypervisor"
SAID = re.compile(r"initcall save_microcode_in_initrd\S* returned (-?\d+) ")


@pytest.mark.parametrize(
    ("microcode", "status"),
    [
        ('cpus=["fam17h-01-02"]', 0),
        ('cpus=["fam19h"]', -22),  # an archive for others: nothing in it is taken for this processor
        pytest.param('vendors=["amd", "intel"]', 0, marks=pytest.mark.matrix),
        pytest.param("cpus=[]", -22, marks=pytest.mark.matrix),
    ],
)
def test_the_kernel_finds_it(lab: Lab, microcode: str, status: int) -> None:
    image = lab.image(*BUSYBOX, 'distribution.components=["main", "non-free-firmware"]', f"microcode.{microcode}")
    spec = MachineSpec(str(image.kernel), initrds=(str(image.initrd),), accel="tcg", cpu=CPU, cpus=1, memory=512,
                       cmdline="initcall_debug ignore_loglevel")  # fmt: skip
    name = "microcode-" + re.sub(r"\W+", "-", microcode)
    with Machine(spec, lab.session / "logs", timeout=120, cache=lab.cache / "boot", name=name) as machine:
        machine.wait(lambda line: bool(SAID.search(line)))
        said = [found[1] for line in machine.end().lines if (found := SAID.search(line))]
    assert said == [str(status)]
