# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots images: the same machine, root file system and command line for all, in QEMU's software emulation."""

from __future__ import annotations

import secrets
from pathlib import Path
from statistics import median

from msgspec import Struct

from bench.roots import MadeRoot
from preroot.boot.machine import DiskSpec, Machine, MachineSpec
from preroot.boot.rootfs import proof
from preroot.boot.scenario import Expect, Scenario, explain, judge, stop_when
from preroot.engine.preparing import IDENTITY
from preroot.errors import BuildError

#: seconds of this host for one boot
TIMEOUT = 240
#: MiB; dracut's generic image needs about 250
MEMORY = 1024
#: steps in which the smallest memory is looked for, in MiB
STEP = 16

#: Of all roots. `quiet`, because a serial console under emulation costs time for each line.
CMDLINE = "rootfstype=ext4 rw quiet"


class Bed(Struct, frozen=True):
    """What all images of one kernel are booted with: the kernel, a root, and where logs go."""

    kernel: Path
    root: MadeRoot
    logs: Path


class Boots(Struct, frozen=True):
    """Medians over the boots of one image: guest uptime in seconds and memory in use in bytes when init runs."""

    uptime: float
    memory: int
    runs: tuple[float, ...]
    #: the smallest guest that reached its root, in MiB; 0 when it was not looked for
    smallest: int = 0


def boot_once(bed: Bed, initrd: Path, name: str, memory: int = MEMORY) -> tuple[float, int]:
    """Boot an image to its root; return the guest's uptime there (seconds) and the memory in use (bytes).

    The accelerator is always TCG, so that figures of machines with and without KVM mean the same.
    Raises BuildError that says how far it came when the root's init does not run.
    """
    token = secrets.token_hex(16)
    expect = Expect(identity=IDENTITY)
    scenario = Scenario(name=name, kernel=str(bed.kernel), expect=expect, timeout=TIMEOUT)
    initrds = (str(initrd), *map(str, bed.root.archives))
    spec = MachineSpec(kernel=str(bed.kernel), initrds=initrds, memory=memory, accel="tcg",
                       cmdline=f"{bed.root.root.cmdline} {CMDLINE} preroot.token={token}",
                       disks=(DiskSpec(image=str(bed.root.disk)),))  # fmt: skip
    with Machine(spec, bed.logs, timeout=TIMEOUT, cache=bed.logs, name=name) as machine:
        machine.wait(stop_when(expect))
        result = judge(scenario, machine.end(), proof(token, IDENTITY))
    if result.problems or result.guest_seconds is None or result.used_memory is None:
        raise BuildError(f"{name}: {explain(result)}", f"see {result.log}")
    return result.guest_seconds, result.used_memory * 1024


def summary(seen: list[tuple[float, int]], smallest: int = 0) -> Boots:
    """Return the medians of what `boot_once` returned for one image, and the smallest memory if it is known."""
    times = tuple(uptime for uptime, _ in seen)
    return Boots(uptime=median(times), memory=int(median(used for _, used in seen)), runs=times, smallest=smallest)


def smallest_memory(bed: Bed, initrd: Path, name: str) -> int:
    """Return the smallest memory in MiB, in steps of `STEP`, with which the image reaches its root.

    Found by halving between nothing and `MEMORY`, which supposes that more memory never hurts.
    """
    low, high = 0, MEMORY // STEP
    while high - low > 1:
        middle = (low + high) // 2
        try:
            boot_once(bed, initrd, f"{name}-memory", memory=middle * STEP)
            high = middle
        except BuildError:
            low = middle
    return high * STEP
