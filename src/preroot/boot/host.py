# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this host can emulate: QEMU's version, and whether KVM guests run, found by running one.

/dev/kvm proves nothing: there are hosts on which it opens and guests abort or hang. So a guest of a few
instructions is started under KVM, with a short timeout; what came of it is kept until the host is restarted.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from preroot.boot.platforms import Emulator, platform
from preroot.errors import BuildError
from preroot.facts import arch as arches
from preroot.run import need_tool, run
from preroot.scratch import scratch

#: seconds; the probe takes 0.2 s where KVM works
PROBE_TIMEOUT = 5.0
#: isa-debug-exit ends QEMU with (value << 1) | 1; the probe writes 0x10
_X86_EXIT = 0x21

#: A boot sector: mov dx,0x3f8; mov al,'K'; out dx,al; mov dx,0xf4; mov al,0x10; out dx,al; hlt; jmp $-1.
_X86_PROBE = bytes.fromhex("baf803b04beebaf400b010eef4ebfd").ljust(510, b"\0") + b"\x55\xaa"
#: An image for -M virt: 'K' to the PL011 at 0x9000000, then PSCI SYSTEM_OFF (0x84000008) by hvc (PSCI, DEN0022).
_ARM64_PROBE = b"".join(
    word.to_bytes(4, "little")
    for word in (0xD2A12001, 0x52800962, 0x39000022, 0x52800100, 0x72B08000, 0xD4000002, 0x14000000)
)


def parse_version(text: str) -> tuple[int, int, int]:
    """Return the version in the output of `qemu-system-… --version`. Raises BuildError when there is none."""
    found = re.search(r"version (\d+)\.(\d+)(?:\.(\d+))?", text)
    if found is None:
        raise BuildError(f"cannot read QEMU's version in {text[:60]!r}", "is it really QEMU?")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def find_emulator(arch: str, cache: Path, *, accel: str = "auto") -> Emulator:
    """Return the emulator for `arch`, probing KVM unless `accel` is "tcg".

    `cache` is the directory in which the probe's result is kept. Raises BuildError naming the package to install
    when QEMU is missing, RecipeError for an unknown architecture.
    """
    platform(arch)
    program = need_tool(f"qemu-system-{arches.arch(arch).qemu}", f"to boot {arch} images")
    version = parse_version(run([program, "--version"], purpose="to tell its version").decode("utf-8", "replace"))
    kvm = accel != "tcg" and kvm_runs(arch, program, cache)
    return Emulator(program=program, version=version, kvm=kvm)


def kvm_runs(arch: str, program: str, cache: Path, *, device: Path = Path("/dev/kvm")) -> bool:
    """Return whether a guest of `arch` has run under KVM since this host was started.

    The result is kept in `cache` under the kernel's boot id (random(4)), the user's id (access to the device
    differs) and the program. A cache that cannot be written only costs the next run a probe.
    """
    if arches.ARCHES[arch].uname != os.uname().machine or arch not in ("amd64", "arm64"):
        return False
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot_id = "unknown"
    mark = cache / f"kvm-{arch}-{os.getuid()}-{boot_id}"
    with contextlib.suppress(OSError):
        known = mark.read_text().split("\n")
        if known[:1] == [program]:
            return known[1:2] == ["runs"]
    runs = probe(arch, program, accel="kvm")
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"kvm-{arch}-{os.getuid()}-*"):
            old.unlink()
        aside = mark.with_name(f"{mark.name}.{os.getpid()}")
        aside.write_text(f"{program}\n{'runs' if runs else 'fails'}\n")
        aside.rename(mark)
    return runs


def probe_argv(arch: str, program: str, accel: str, image: Path) -> list[str]:
    """Return the command line of the probe guest; `image` has its instructions."""
    argv = [program, "-accel", accel, "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
    if arch == "amd64":
        argv += ["-M", "pc", "-cpu", "max", "-m", "16", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        return [*argv, "-drive", f"if=floppy,format=raw,readonly=on,file={image}"]
    cpu = "host" if accel == "kvm" else platform(arch).cpu
    return [*argv, "-M", "virt", "-cpu", cpu, "-m", "64", "-kernel", str(image)]


def probe(arch: str, program: str, *, accel: str, timeout: float = PROBE_TIMEOUT) -> bool:
    """Run the probe guest (amd64 or arm64) under `accel`; return whether it said its letter and ended by itself."""
    import subprocess

    with scratch("probe") as directory:
        image = directory / "probe"
        image.write_bytes(_X86_PROBE if arch == "amd64" else _ARM64_PROBE)
        with subprocess.Popen(
            probe_argv(arch, program, accel, image),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        ) as guest:  # fmt: skip
            try:
                said, _ = guest.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                guest.kill()
                return False
    return b"K" in said and guest.returncode == (_X86_EXIT if arch == "amd64" else 0)
