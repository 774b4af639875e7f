# SPDX-License-Identifier: LGPL-2.1-or-later
"""The likely cause of a failed boot, in plain words, from what the console said. Pure.

Rules are tried in order, the most telling first: a kernel panic says more than the units that failed before it, and
those say more than the shell that they led to.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterable

from msgspec import Struct

from preroot.boot.console import parse, unescape


class Rule(Struct, frozen=True):
    """What a message looks like, and what it means (`{1}` is the pattern's first group)."""

    pattern: re.Pattern[str]
    meaning: str | Callable[[re.Match[str]], str]


def _init_ended(found: re.Match[str]) -> str:
    """Explain the wait status in "Attempted to kill init! exitcode=0x…" (kernel/exit.c; wait(2))."""
    code = int(found[1], 16)
    if code & 0x7F:
        try:
            name = signal.Signals(code & 0x7F).name
        except ValueError:
            name = f"signal {code & 0x7F}"
        return f"the init program was killed by {name}, so the kernel panicked"
    status = code >> 8
    why = {127: " (a program or library that it needs is missing)", 126: " (a program could not be executed)"}
    return f"the init program ended with status {status}{why.get(status, '')}, so the kernel panicked"


def _unpacking(found: re.Match[str]) -> str:
    """Explain what init/initramfs.c says when it gives up."""
    said = found[1]
    if "write error" in said or "ENOSPC" in said:
        return "the initrd did not fit in memory when the kernel unpacked it: the machine needs more memory"
    if "not configured" in said:
        return f"the kernel cannot decompress the initrd: {said}"
    return f"the kernel could not unpack the initrd, which is damaged or cut short: {said}"


def _device_name(text: str) -> str:
    """Return the path of a device of a device unit's name and description, a path, or a `UUID=…`."""
    name = re.split(r" - |\.device|/start", text)[0].rstrip(".")
    name = re.sub(r"\\x2….*", "…", name)  # cut within an escape: what follows is of the unit's suffix
    return unescape(name)


def _device(found: re.Match[str]) -> str:
    return f"the device {_device_name(found[1])} did not appear: it is missing, or the module for its controller is"


def _waiting(found: re.Match[str]) -> str:
    return f"the device {_device_name(found[1])} had not appeared when the machine was stopped"


def _whole_names(text: str, messages: list[str]) -> str:
    """Return `text` with a device that systemd shortened (`/dev/d…9999`) in full, if the console has it elsewhere."""
    for shortened in re.findall(r"/dev/\S*…[^\s:]*", text):
        head, _, tail = shortened.partition("…")
        for message in messages:
            for word in re.findall(r"(?:root=|/dev/|Expecting device )\S+", message):
                name = word.removeprefix("Expecting device ")
                tag = re.fullmatch(r"root=(UUID|LABEL|PARTUUID|PARTLABEL)=(\S+)", name)
                name = f"/dev/disk/by-{tag[1].lower()}/{tag[2]}" if tag else unescape(name.removeprefix("root="))
                if "…" not in name and name.startswith(head) and name.endswith(tail):
                    return text.replace(shortened, name)
    return text


def _rules(*rules: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[Rule, ...]:
    return tuple(Rule(re.compile(pattern), meaning) for pattern, meaning in rules)


_RULES = _rules(
    (r"Initramfs unpacking failed: (.*)", _unpacking),
    (r"Kernel panic - not syncing: System is deadlocked on memory", "the machine ran out of memory"),
    (r"Kernel panic - not syncing: Out of memory", "the machine ran out of memory"),
    (r"Kernel panic - not syncing: VFS: Unable to mount root fs on (\S+)",
     "the kernel found no init in an initrd and tried to mount the root ({1}) by itself, without a driver for it"),
    (r"Kernel panic - not syncing: No working init found",
     "no init program could be run: it is missing, not executable, or lacks its interpreter or a library"),
    (r"Kernel panic - not syncing: Requested init (\S+) failed \(error (-?\d+)\)",
     "the init program {1} of the command line could not be run (error {2})"),
    (r"Kernel panic - not syncing: Attempted to kill init! exitcode=0x([0-9a-f]+)", _init_ended),
    (r"Kernel panic - not syncing: (.*)", "the kernel panicked: {1}"),
    (r"(?:BUG: |Oops: |general protection fault|Internal error: |Unable to handle kernel )(.*)",
     "the kernel crashed (oops): {0}"),
    (r"(?:watchdog: BUG: soft lockup|rcu: INFO: \S+ detected stalls|INFO: task .* blocked for more than)",
     "the kernel is stuck: {0}"),
    (r"(?:.*: )?(?:Out of memory|Memory cgroup out of memory): Killed process \d+ \(([^)]*)\)",
     "the machine ran out of memory, and {1} was killed"),
    (r"(?:preroot: )?There is no space left in /run\b.*",
     "/run is full, so neither udev nor systemd could note anything there"),
    (r"(?:preroot: )?The root has no init: .*|Switch root target contains no usable init",
     "the root was mounted, but it has no init program"),
    (r"(?:preroot: )?The command line names no root \(root=\).*",
     "the command line has no root=, and no partition's type says that it is one"),
    (r"(?:preroot: )?failed: systemd-fsck(?:-root|@\S+)\.service .*",
     "the check of a file system found what it does not mend by itself (fsck.repair=yes does)"),
    (r".*Specified switch root path '?([^' ]*)'? does not seem to be an OS tree",
     "switch root failed: {1} has no os-release file, so it is no root file system (or the wrong one)"),
    (r"(?:preroot: )?The real root was not reached \(step (\S+)\): (.+)", "{2} (step {1})"),
    (r"switch_root: (.*)", "switch root failed: {1}"),
    (r"Failed to (?:start|execute) (?:initrd-switch-root\.service|Switch Root)",
     "switch root failed: the root was mounted, but it has no init that could be run"),
    (r"(?:.*: )?unknown filesystem type '([^']*)'",
     "the kernel does not know the file system {1}: its module is missing"),
    (r"(?:EXT4-fs|XFS|BTRFS|erofs|squashfs|SQUASHFS|FAT-fs)\b.*(?:Invalid superblock magic|[Cc]an't find|"
     r"[Cc]annot find|bad superblock|open_ctree failed|Superblock checksum|bogus number of FAT).*",
     "the root is not the file system that was asked for, or it is damaged: {0}"),
    (r"(?:EXT4-fs|BTRFS|XFS)\b.*: Cannot load (\S+) driver",
     "the root could not be mounted, because the kernel module {1} is missing"),
    (r"mount: .*(?:Invalid argument|wrong fs type|No such device).*",
     "the root could not be mounted, its file system is not the one asked for, or its module is missing: {0}"),
    (r"(?:preroot: )?No (live image|writable layer): (.+?)\.?$", "there is no {1}: {2}"),
    (r'Warning: "?(/dev/[^" ]+)"? does not exist', _device),
    (r"(?:preroot: )?The device (\S+) did not appear\.", _device),
    (r"Timed out waiting for device (.+)", _device),
    (r"ALERT! +(\S+) does not exist", _device),
    (r"Failed to mount (?:sysroot\.mount|/sysroot)",
     "the root could not be mounted: its file system is not the one asked for, damaged, or its module is missing"),
    (r"(?:\[[ *]*\] )?(?:A start job is running for|Job) ((?:dev-|/dev/)\S+).* \((?:\d+h )?(?:\d+min )?\d+s / .*",
     _waiting),
    (r"mount: mounting (\S+) on (\S+) failed: (.*)", "{1} could not be mounted on {2}: {3}"),
    (r"modprobe: (?:FATAL: |can't load module |.*not found).*", "a kernel module could not be loaded: {0}"),
    (r"(?:You are in emergency mode|Entering emergency mode|Started (?:emergency\.service|Emergency Shell)"
     r"|Generating \"/run/initramfs/rdsosreport)",
     "the initrd gave up and went to its emergency shell"),
    (r"(?:preroot: )?The root file system was not mounted: (.+)", "the root file system was not mounted: {1}"),
    (r"\(initramfs\)", "the initrd gave up and opened a shell"),
    (r"Cannot open access to console, the root account is locked", "the initrd gave up, and its shell is locked"),
)  # fmt: skip


def likely_cause(lines: Iterable[str]) -> str:
    """Return what probably went wrong, as one sentence without a full stop; empty when nothing known was seen.

    A console that stayed empty is told too, since that has causes of its own.
    """
    messages = [line.text for line in parse(lines)]
    if not messages:
        return "nothing was printed on the serial console: the kernel did not start, or console= names another device"
    for rule in _RULES:
        for text in messages:
            if found := rule.pattern.match(text):
                groups = (found[0], *found.groups(default=""))
                meaning = rule.meaning(found) if callable(rule.meaning) else rule.meaning.format(*groups)
                return _whole_names(meaning, messages)
    return ""
