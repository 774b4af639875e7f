# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines, disks, the tiny root and scenarios, with a hand-made initrd: what fails here is not the image's fault."""

from __future__ import annotations

from pathlib import Path

import busybox_initrd
import packages
import pytest

from preroot.boot import rootfs, stage
from preroot.boot.disks import DiskRecipe, Volume, make_disk, volume_uuid
from preroot.boot.host import probe
from preroot.boot.machine import DiskSpec, Machine, MachineSpec
from preroot.boot.platforms import Bus
from preroot.boot.scenario import BootResult, Expect, Scenario, Within, prove, run_scenario
from preroot.boot.serial import ConsoleEnded
from preroot.errors import BuildError
from preroot.run import need_tool

CACHE = packages.cache_directory() / "boot"


@pytest.fixture(scope="session")
def kernel() -> packages.KernelFiles:
    return packages.kernel()


@pytest.fixture(scope="session")
def initrd(kernel: packages.KernelFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = kernel.with_dependencies("virtio_pci", "virtio_blk")
    path = tmp_path_factory.mktemp("initrd") / "initrd.cpio"
    path.write_bytes(busybox_initrd.make(packages.busybox(), {name: kernel.module(name) for name in names}))
    return path


def disk(identity: str, *, gpt: bool = False, power_of_two: bool = False) -> tuple[DiskRecipe, Path]:
    entries = tuple(stage.entries_of(rootfs.tiny_root(packages.busybox(), identity)))
    name = stage.digest(entries)
    volume = Volume("ext4", content=name)
    recipe = DiskRecipe((volume,), power_of_two=power_of_two)
    if gpt:
        recipe = DiskRecipe((Volume("blank", size=1), volume), table="gpt")
    return recipe, make_disk(recipe, {name: lambda: entries}, CACHE)


def boot(kernel: packages.KernelFiles, initrd: Path, where: Path, disks: tuple[tuple[Path, Bus], ...], cmdline: str,
         *, timeout: float = 120, token: str = "", expect: Expect | None = None) -> BootResult:  # fmt: skip
    scenario = Scenario(
        name="smoke", kernel=str(kernel.image), initrds=(str(initrd),), cmdline=cmdline, timeout=timeout, memory=512,
        disks=tuple(DiskSpec(str(image), bus=bus) for image, bus in disks), expect=expect or Expect(),
    )  # fmt: skip
    return run_scenario(scenario, where, CACHE, token=token)


def test_virtio_by_uuid(kernel: packages.KernelFiles, initrd: Path, tmp_path: Path) -> None:
    """The right one of two roots is reached; the report has the time, the memory and the mount."""
    recipe, image = disk("right")
    _, decoy = disk("decoy", power_of_two=True)
    buses: tuple[Bus, ...] = ("virtio", "sata", "usb", "scsi", "mmc", "nvme")  # whether QEMU takes them all
    decoys = tuple(DiskSpec(str(decoy), bus=bus) for bus in buses)
    before = image.stat().st_mtime_ns
    result = prove(
        Scenario(
            name="virtio by UUID", kernel=str(kernel.image), initrds=(str(initrd),), memory=512,
            disks=(*decoys, DiskSpec(str(image))), cmdline=f"root=UUID={volume_uuid(recipe)}",
            expect=Expect(identity="right", within=(Within("root-reached", 60, start="init-started"),)),
        ),
        tmp_path, CACHE,
    )  # fmt: skip
    assert result.reached and not result.cause
    assert result.mount[:2] == ("/dev/vdb", "ext4")
    names = [milestone.name for milestone in result.milestones]
    assert names == ["kernel", "initrd-unpacked", "init-started", "root-device", "sysroot-mounted", "root-reached",
                     "power-off"]  # fmt: skip
    assert result.used_memory is not None and 10_000 < result.used_memory < 512 * 1024
    assert result.guest_seconds and result.guest_seconds < 60
    assert image.stat().st_mtime_ns == before  # writes are discarded
    assert b"preroot.token=" in Path(result.log).read_bytes()  # what the kernel echoes is no proof
    assert (tmp_path / "virtio-by-UUID.argv").read_text().count("-drive") == 7


def test_another_root_on_nvme_is_no_success(kernel: packages.KernelFiles, initrd: Path, tmp_path: Path) -> None:
    """A root is reached, in the second partition of an NVMe disk, but not the one that the scenario is about."""
    _, image = disk("other", gpt=True)
    result = boot(kernel, initrd, tmp_path, ((image, "nvme"),), "root=/dev/nvme0n1p2")
    assert not result.reached
    assert result.problems == ("a root was reached that is not the one of this scenario: its proof does not fit",)
    assert result.mount[:2] == ("/dev/nvme0n1p2", "ext4")


def test_a_hang_ends_by_timeout(kernel: packages.KernelFiles, initrd: Path, tmp_path: Path) -> None:
    """The root device never comes: the run ends, and says how far it came."""
    scenario = Scenario(
        name="hang", kernel=str(kernel.image), initrds=(str(initrd),), cmdline="root=LABEL=nowhere", timeout=6,
        memory=256,
    )  # fmt: skip
    with pytest.raises(BuildError, match="hang: the root was not reached within 6 s; last milestone: ") as caught:
        prove(scenario, tmp_path, CACHE)
    assert "hang.serial.log" in caught.value.hint
    assert "Linux version" in (tmp_path / "hang.serial.log").read_text()


def test_console_is_talked_to(kernel: packages.KernelFiles, initrd: Path, tmp_path: Path) -> None:
    """Waiting, typing, and what a wait says when the machine ends first."""
    recipe, image = disk("right")
    spec = MachineSpec(
        kernel=str(kernel.image), initrds=(str(initrd),), memory=256, disks=(DiskSpec(str(image)),),
        cmdline=f"root=UUID={volume_uuid(recipe)} preroot.after=shell",
    )  # fmt: skip
    with Machine(spec, tmp_path, timeout=60, cache=CACHE) as machine:
        assert float(machine.console.wait_for(r"preroot-root-reached \w{64} uptime=(\S+)")[1]) > 0
        machine.console.wait_for(r"# $")
        machine.console.send("echo $((6 * 7)); exit\n")
        machine.console.wait_for(r"^42$")
        with pytest.raises(ConsoleEnded, match="the machine ended before /never/"):
            machine.console.wait_for("never")
    ended = machine.end()
    assert (ended.status, ended.timed_out) == (0, False)


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_probe_runs_under_emulation(arch: str) -> None:
    """The probe guest itself is sound; whether it runs under KVM is up to the host."""
    program = need_tool({"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[arch], "to test the probe")
    assert probe(arch, program, accel="tcg", timeout=60)


def test_probe_that_hangs_is_stopped(tmp_path: Path) -> None:
    hanging = tmp_path / "qemu"
    hanging.write_text("#!/bin/sh\nexec sleep 1000\n")
    hanging.chmod(0o755)
    assert not probe("amd64", str(hanging), accel="kvm", timeout=0.2)
