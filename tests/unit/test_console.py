# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read from serial consoles. The logs in data/ are of real boots (trixie's cloud kernel and systemd 257 in an
initrd of another generator; a busybox initrd), with most of the kernel's hardware discovery left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.boot import causes
from preroot.boot.console import (
    FailedUnit,
    clean,
    failed_units,
    gave_up,
    last_milestone,
    milestones,
    parse,
    sanitise,
    unescape,
)
from preroot.boot.rootfs import parse_report

DATA = Path(__file__).parent / "data"


def log(name: str) -> tuple[str, ...]:
    return tuple(sanitise(line) for line in (DATA / name).read_bytes().split(b"\n"))


def times(name: str) -> dict[str, tuple[float | None, bool]]:
    return {each.name: (each.seconds, each.exact) for each in milestones(log(name))}


SYSTEMD = ("kernel", "initrd-unpacked", "init-started", "systemd", "udev", "root-device", "sysroot-mounted",
           "switch-root", "root-reached", "power-off")  # fmt: skip


def test_systemd_in_kmsg() -> None:
    found = times("systemd-kmsg.log")
    assert tuple(found) == SYSTEMD
    assert all(exact for _, exact in found.values())
    assert found["systemd"] == (5.311608, True)
    assert found["udev"] == (7.880276, True)
    assert found["root-device"] == (10.172766, True)
    assert found["sysroot-mounted"] == (10.785596, True)
    assert found["switch-root"] == (12.904886, True)
    assert found["root-reached"] == (13.92, True)  # the uptime that init read, not the stamp before it


def test_systemd_status_lines_have_the_time_seen_last() -> None:
    found = times("systemd-status.log")
    assert tuple(found) == SYSTEMD
    assert [name for name, (_, exact) in found.items() if not exact] == [
        "udev", "root-device", "sysroot-mounted", "switch-root",
    ]  # fmt: skip
    assert failed_units(log("systemd-status.log")) == ()


def test_uptime_may_lag_behind_the_kernel_log() -> None:
    lines = ["[    6.620000] x", "preroot-root-reached " + "0" * 64 + " uptime=5.86"]
    assert [(each.seconds, each.exact) for each in milestones(lines)] == [(6.62, False)]


def test_busybox() -> None:
    assert tuple(times("busybox.log")) == (
        "kernel", "initrd-unpacked", "init-started", "root-device", "sysroot-mounted", "root-reached", "power-off",
    )  # fmt: skip


def test_report() -> None:
    report = parse_report(log("systemd-kmsg.log"))
    assert report is not None
    assert report.uptime == 13.92
    assert report.memory == {"MemTotal": 989884, "MemFree": 938364, "MemAvailable": 869424}
    assert report.mount == ("/dev/vda", "ext4", "ro,relatime")
    assert parse_report(log("device-missing.log")) is None


@pytest.mark.parametrize(
    ("name", "last", "failed", "cause"),
    [
        ("device-missing.log", "udev", ("timeout", "sysroot.mount"),
         "the device /dev/disk/by-uuid/99999999-2222-3333-4444-555555555555 did not appear: "
         "it is missing, or the module for its controller is"),
        ("device-awaited.log", "udev", (),
         "the device /dev/disk/by-uuid/11111111-2222-3333-4444-555555555555 had not appeared "
         "when the machine was stopped"),
        ("wrong-file-system.log", "root-device", ("failed", "sysroot.mount"),
         "the root is not the file system that was asked for, or it is damaged: "
         "XFS (vda): Invalid superblock magic number"),
        ("no-init-in-root.log", "switch-root", ("failed", "initrd-switch-root.service"),
         "switch root failed: the root was mounted, but it has no init that could be run"),
        ("no-initrd.log", "kernel", (),
         "the kernel found no init in an initrd and tried to mount the root (unknown-block(0,0)) by itself, "
         "without a driver for it"),
        ("initrd-cut-short.log", "init-started", (),
         "the kernel could not unpack the initrd, which is damaged or cut short: read error"),
    ],
)  # fmt: skip
def test_failures(name: str, last: str, failed: tuple[str, ...], cause: str) -> None:
    lines = log(name)
    milestone = last_milestone(lines)
    assert milestone is not None and milestone.name == last
    units = failed_units(lines)
    assert bool(units) == bool(failed)
    if failed:
        assert failed[0] in [unit.why for unit in units]
        assert failed[1] in [unit.name for unit in units]
    assert causes.likely_cause(lines) == cause


@pytest.mark.parametrize("name", ["device-missing.log", "wrong-file-system.log", "no-init-in-root.log"])
def test_gave_up(name: str) -> None:
    assert any(gave_up(line) for line in log(name))


@pytest.mark.parametrize("name", ["systemd-status.log", "systemd-kmsg.log", "busybox.log", "device-awaited.log"])
def test_did_not_give_up(name: str) -> None:
    assert not any(gave_up(line) for line in log(name))


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("[    1.0] x", ""),
        ("[    2.100000] Initramfs unpacking failed: write error", "did not fit in memory"),
        ("[    2.100000] Initramfs unpacking failed: compression method zstd not configured", "cannot decompress"),
        ("[    3.100000] Kernel panic - not syncing: No working init found.  Try passing init=", "no init program"),
        ("[    3.100000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b", "killed by SIGSEG"),
        ("[    3.100000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00", "ended with status "
         "127 (a program or library that it needs is missing)"),
        ("[    3.100000] Kernel panic - not syncing: System is deadlocked on memory", "ran out of memory"),
        ("[    3.100000] Kernel panic - not syncing: Fatal exception", "the kernel panicked: Fatal exception"),
        ("[    3.100000] Oops: 0000 [#1] PREEMPT SMP", "the kernel crashed (oops)"),
        ("[    3.100000] BUG: unable to handle page fault for address: 0", "the kernel crashed (oops)"),
        ("[    9.100000] Out of memory: Killed process 211 (udevd) total-vm:1kB", "memory, and udevd was killed"),
        ("mount: /sysroot: unknown filesystem type 'xfs'.", "does not know the file system xfs"),
        ("[    3.615220] EXT4-fs (vda): Cannot load crc32c driver.", "the kernel module crc32c is missing"),
        ("mount: mounting /dev/vda on /root failed: No such file or directory", "could not be mounted on /root: No"),
        ("mount: mounting /dev/vda on /root failed: No such device", "or its module is missing"),
        ("switch_root: can't execute '/sbin/init': No such file", "switch root failed: can't execute"),
        ("ALERT!  UUID=abc does not exist.  Dropping to a shell!", "the device UUID=abc did not appear"),
        ("preroot: The real root was not reached (step 50-root): root device LABEL=a b is missing",
         "root device LABEL=a b is missing (step 50-root)"),
        ("[   95.400000] preroot: The device /dev/disk/by-label/x did not appear. These are there:",
         "the device /dev/disk/by-label/x did not appear"),
        ("[    5.000000] systemd[1]: Specified switch root path '/sysroot' does not seem to be an OS tree. os-release "
         "file is missing.", "/sysroot has no os-release file"),
        ("preroot: There is no space left in /run, so no device", "/run is full"),
        ("preroot: The root has no init: none of usr/lib/systemd/systemd", "mounted, but it has no init program"),
        ("[!!!!!!] Switch root target contains no usable init.", "mounted, but it has no init program"),
        ("preroot: The command line names no root (root=), and none was found", "the command line has no root="),
        ("preroot: failed: systemd-fsck-root.service (loaded failed failed)", "what it does not mend by itself"),
        ("You are in emergency mode. After logging in, type", "went to its emergency shell"),
        ("[FAILED] Failed to mount /sysroot.", "the root could not be mounted"),
    ],
)  # fmt: skip
def test_causes(line: str, cause: str) -> None:
    found = causes.likely_cause(["[    0.000000] Linux version 6.12.0", sanitise(line), "[    9.900000] last words"])
    assert cause in found
    assert bool(cause) == bool(found)
    # The command line's echo, which may have any word in it, is no evidence.
    assert causes.likely_cause([f"[    0.000000] Command line: x={line.replace(' ', '_')}"]) == ""


def test_an_empty_console_is_explained() -> None:
    assert "console=" in causes.likely_cause(["", "  "])


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("[FAILED] Failed to start cryptsetup.service - Cryptography Setup for root.",
         FailedUnit("cryptsetup.service", "failed")),
        ("[FAILED] Failed to start Cryptography Setup for root.",
         FailedUnit("Cryptography Setup for root", "failed")),
        ("[    7.100000] systemd[1]: Failed to mount sysroot.mount - /sysroot.", FailedUnit("sysroot.mount", "failed")),
        ("[    7.100000] systemd[1]: b.service: Failed with result 'exit-code'.", FailedUnit("b.service", "failed")),
        ("[DEPEND] Dependency failed for /sysroot.", FailedUnit("/sysroot", "dependency")),
        (r"[ TIME ] Timed out waiting for device dev-disk-by\x2dlabel-a\x20b.device - /dev/disk/by-label/a b.",
         FailedUnit("/dev/disk/by-label/a b", "timeout")),
        ("[ TIME ] Timed out waiting for device /dev/vda.", FailedUnit("/dev/vda", "timeout")),
    ],
)  # fmt: skip
def test_failed_units(line: str, unit: FailedUnit) -> None:
    assert failed_units([line, line]) == (unit,)


def test_the_same_failure_told_twice() -> None:
    lines = ["[   11.234567] systemd[1]: Dependency failed for initrd-parse-etc.service - Mountpoints Configured in X.",
             "[DEPEND] Dependency failed for initrd-parse…points Configured in X."]  # fmt: skip
    assert len(failed_units(lines)) == 2  # shortened across name and description, the two cannot be told the same
    lines = [
        "[FAILED] Failed to start abc.service - A.",
        "[    1.234567] systemd[1]: abc.service: Failed with result 'x'.",
    ]
    assert failed_units(lines) == (FailedUnit("abc.service", "failed"),)


def test_milestones_are_not_found_in_the_command_line() -> None:
    lines = [
        "[    0.000000] Command line: root=UUID=1 preroot.token=1 x=preroot:_milestone_y Welcome to Started",
        "[    0.100000] Kernel command line: preroot-root-reached " + "0" * 64 + " uptime=1.00",
    ]
    assert milestones(lines) == ()
    assert last_milestone(lines) is None


def test_told_on_the_console_and_in_the_kernel_log() -> None:
    lines = ["[    1.500000] x", "preroot: milestone root-device /dev/vda",
             "[    1.750000] preroot: milestone root-device /dev/vda"]  # fmt: skip
    assert [(each.seconds, each.exact) for each in milestones(lines)] == [(1.75, True)]


def test_a_stamp_after_an_unfinished_line() -> None:
    found = list(parse(["Starting init: [   14.520802][    T1] EXT4-fs (vda): mounted"]))
    assert [(line.seconds, line.text) for line in found] == [
        (None, "Starting init:"),
        (14.520802, "EXT4-fs (vda): mounted"),
    ]


def test_sanitise() -> None:
    assert (
        sanitise(b"\x1b[!p\x1b]104\x07\x1b[?7h[\x1b[0;32m  OK  \x1b[0m] Started\r\n".rstrip(b"\n"))
        == "[  OK  ] Started"
    )
    assert sanitise(b"\x1bM\r\x1b[K[\x1b[0;31m*     \x1b[0m] Job") == "[*     ] Job"
    assert sanitise(b"\x1bP+q6e616d65\x1b\\done  ") == "done"
    assert clean(b"prompt# \x1b[6n") == "prompt# "
    assert sanitise(b"\xff\xfe") == "��"


@given(st.binary(max_size=300))
def test_anything_can_be_on_a_console(raw: bytes) -> None:
    lines = [sanitise(line) for line in raw.split(b"\n")]
    assert not any(character < " " and character != "\t" for line in lines for character in line)
    assert all(clean(line) == line for line in lines)  # nothing that was hidden appears
    milestones(lines)
    failed_units(lines)
    causes.likely_cause(lines)
    parse_report(tuple(lines))


@given(st.lists(st.sampled_from([*log("device-missing.log"), *log("no-init-in-root.log"), *log("systemd-kmsg.log")])))
def test_lines_in_any_order(lines: list[str]) -> None:
    found = milestones(lines)
    assert len({each.name for each in found}) == len(found)
    units = failed_units(lines)
    assert len(set(units)) == len(units)
    causes.likely_cause(lines)


def test_unescape() -> None:
    assert unescape(r"dev-disk-by\x2duuid-1\x2d2.device") == "/dev/disk/by-uuid/1-2"
    assert unescape(r"systemd-fsck@dev-vda.service") == "systemd-fsck@dev-vda.service"
    assert unescape("dev-d…99-22") == "/dev/d…99-22"
