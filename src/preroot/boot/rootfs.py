# SPDX-License-Identifier: LGPL-2.1-or-later
"""A root file system whose init proves that it has run, and nothing else: a static busybox and a short script.

What the kernel prints is no proof: it echoes its command line, with the token in it, before any program runs. So
init prints the SHA-256 of the token *and* of a word that only that root file system holds (`identity`). The line
can only come from a program that read both: the right root, in this boot.
"""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

from msgspec import Struct

from preroot.errors import BuildError

#: first words of the lines that the root's init prints
REACHED = "preroot-root-reached"
MEMORY = "preroot-root-memory"
#: where a root holds its identity
IDENTITY_PATH = "etc/preroot-root"

#: A tiny root works after systemd's switch_root (which has moved /proc, /sys, /dev and /run), after busybox's
#: switch_root (which may have moved nothing), and as what a kernel starts by itself.
#: The uptime is read before anything else, so that the figure does not include our own work.
_INIT = r"""#!/bin/busybox sh
# Prints the proof that this root was reached, and powers off.
PATH=/usr/bin

# Sleeps in the swap area $swap, and goes on right here once an initrd has resumed it: with the proof of its own token,
# which by then only its memory has. What it writes before and after is for who looks at the file system later.
hibernate() {
    busybox mount -o remount,rw /
    busybox swapon "$swap"
    printf 'before %s\n' "$token" >/mnt/hibernated
    printf 'shutdown\n' >/sys/power/disk
    printf '\npreroot-root-hibernates\n'
    if ! printf 'disk\n' >/sys/power/state; then
        printf '\npreroot-root-stayed-awake\n'
        return
    fi
    printf 'after %s\n' "$token" >>/mnt/hibernated
    read -r uptime rest </proc/uptime
    printf '\npreroot-root-resumed\n'
    printf '\n%s %s uptime=%s\n' preroot-root-reached "${proof%% *}" "$uptime"
}

[ -e /proc/uptime ] || busybox mount -t proc proc /proc
read -r uptime rest </proc/uptime
[ -c /dev/console ] || busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
token= after=poweroff swap=
read -r cmdline </proc/cmdline
set -f
for word in $cmdline; do
    case $word in
    preroot.token=*) token=${word#*=} ;;
    preroot.after=*) after=${word#*=} ;;
    preroot.swap=*) swap=${word#*=} ;;
    esac
done
read -r identity </etc/preroot-root
proof=$(printf '%s\n%s\n' "$token" "$identity" | busybox sha256sum)
memory=
while read -r name kib rest; do
    case $name in
    MemTotal: | MemFree: | MemAvailable:) memory="$memory ${name%:}=$kib" ;;
    esac
done </proc/meminfo
# A line of its own, whatever the console was in the middle of.
printf '\n%s %s uptime=%s\n' preroot-root-reached "${proof%% *}" "$uptime"
[ "$after" != hibernate ] || hibernate
printf '%s%s\n' preroot-root-memory "$memory"
while read -r device place type options rest; do
    [ "$place" != / ] || printf 'preroot-root-mount %s %s %s\n' "$device" "$type" "$options"
done </proc/mounts
[ "$after" != shell ] || busybox sh
busybox sync
busybox poweroff -f
"""

_OS_RELEASE = 'NAME="preroot test root"\nID=preroot-test\nPRETTY_NAME="preroot test root"\n'

#: path → (mode, content); the content of a symbolic link (mode 0) is its target, of a directory None
RootFiles = dict[str, tuple[int, bytes | str | None]]


class RootReport(Struct, frozen=True):
    """What the root's init printed: the proof, the guest's uptime (seconds), and memory in KiB, by meminfo's names."""

    proof: str
    uptime: float
    memory: dict[str, int]
    #: device, type and options of the root mount
    mount: tuple[str, str, str]


def proof(token: str, identity: str) -> str:
    """Return what the init of the root with this identity prints for `token`."""
    return hashlib.sha256(f"{token}\n{identity}\n".encode()).hexdigest()


def tiny_root(busybox: bytes, identity: str = "root") -> RootFiles:
    """Return the files of the tiny root.

    `busybox` is the content of a static busybox program for the guest's architecture (`busybox_from_deb`);
    `identity` (one word) tells this root from others in the same machine. Command line options that its init
    knows: preroot.token=, and preroot.after=shell for a shell instead of power-off; preroot.after=hibernate with
    preroot.swap=DEVICE or FILE sleeps there first.
    Directories are merged (/bin is a link to usr/bin), and there is an os-release file: `systemctl switch-root`
    refuses a root without one (path_is_os_tree() of systemd).
    """
    if re.fullmatch(r"[\w.:-]+", identity, re.ASCII) is None:
        raise ValueError(f"an identity is one word: {identity!r}")
    files: RootFiles = {
        "usr/bin/busybox": (0o755, busybox),
        "usr/bin/sh": (0, "busybox"),
        "usr/sbin/init": (0o755, _INIT.encode()),
        "usr/lib/os-release": (0o644, _OS_RELEASE.encode()),
        "etc/os-release": (0, "../usr/lib/os-release"),
        IDENTITY_PATH: (0o644, f"{identity}\n".encode()),
        "bin": (0, "usr/bin"),
        "sbin": (0, "usr/sbin"),
        "lib": (0, "usr/lib"),
        "lib64": (0, "usr/lib64"),
        "usr/lib64": (0o755, None),
        "tmp": (0o1777, None),
    }
    files |= dict.fromkeys(("dev", "proc", "sys", "run", "var", "mnt", "root"), (0o755, None))
    return dict(sorted(files.items()))


def parse_report(lines: tuple[str, ...]) -> RootReport | None:
    """Return what a root's init printed on the console, or None when its first line is not there, whole."""
    report: RootReport | None = None
    memory: dict[str, int] = {}
    mount = ("", "", "")
    for line in lines:
        if found := re.search(rf"(?:^|\s){REACHED} ([0-9a-f]{{64}}) uptime=(\d+\.\d+)\s*$", line):
            report = RootReport(found[1], float(found[2]), {}, mount)
        elif found := re.search(rf"(?:^|\s){MEMORY}((?: \w+=\d+)+)\s*$", line):
            memory = {name: int(kib) for name, _, kib in (pair.partition("=") for pair in found[1].split())}
        elif found := re.search(r"(?:^|\s)preroot-root-mount (\S+) (\S+) (\S+)\s*$", line):
            mount = (found[1], found[2], found[3])
    return RootReport(report.proof, report.uptime, memory, mount) if report else None


def busybox_from_deb(package: BinaryIO, name: str) -> bytes:
    """Return the static busybox in an open package file (Debian's busybox-static, of any architecture).

    Raises BuildError naming the package (`name`) when it cannot be read or has no busybox.
    """
    from preroot.packages.deb import Deb

    deb = Deb(package, name)
    for member in deb.members():
        if member.type == "file" and member.path in ("bin/busybox", "usr/bin/busybox"):
            return b"".join(deb.content())
    raise BuildError(f"there is no busybox in the package {name}", "it must be busybox-static")
