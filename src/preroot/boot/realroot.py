# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is added to a distribution's root so that it proves itself: a unit that looks at the whole system, once booted.

A ten-line init shows that the root was reached; what an initrd hands over wrongly shows only here: units that fail
or are not found, devices that systemd waits for, a journal without the initrd's part, a power-off that hangs.
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from preroot.boot.console import sanitise
from preroot.boot.rootfs import IDENTITY_PATH
from preroot.boot.stage import DiskEntry

#: first words of the lines that the unit prints
STATE = "preroot-root-state"
UNIT = "preroot-root-unit"
JOURNAL = "preroot-root-journal"

_UNIT = """[Unit]
Description=Prove that this root was reached
After=multi-user.target

[Service]
Type=exec
ExecStart=/usr/lib/preroot-proof
StandardOutput=null
"""

#: The state is asked for until it is final: the job of this very unit keeps it at "starting" for a moment.
_SCRIPT = r"""#!/bin/sh
exec > /dev/console 2>&1
read -r uptime rest < /proc/uptime
state=$(systemctl is-system-running --wait)
token=
read -r cmdline < /proc/cmdline
for word in $cmdline; do
    case $word in preroot.token=*) token=${word#*=} ;; esac
done
read -r identity < /etc/preroot-root
proof=$(printf '%s\n%s\n' "$token" "$identity" | sha256sum)
systemctl list-units --all --plain --no-legend --no-pager --state=failed |
    while read -r unit rest; do printf '\npreroot-root-unit failed %s\n' "$unit"; done
# A unit that is only wished for (After=, Wants= of something absent) is listed as not-found too; what counts is
# one that a unit of this system requires.
systemctl list-units --all --plain --no-legend --no-pager --state=not-found |
    while read -r unit rest; do
        for other in $(systemctl show -P RequiredBy -P BoundBy -P RequisiteOf "$unit"); do
            printf '\npreroot-root-unit not-found %s (required by %s)\n' "$unit" "$other"
        done
    done
lines=$(journalctl -b -o cat --no-pager UNIT=initrd-switch-root.target + UNIT=initrd-switch-root.service | wc -l)
# A part without journald tells the kernel's log.
[ "$lines" != 0 ] || lines=$(journalctl -b -o cat --no-pager -t preroot | wc -l)
printf '\npreroot-root-journal %s\n' "$lines"
printf '\npreroot-root-state %s\n' "$state"
printf '\npreroot-root-reached %s uptime=%s\n' "${proof%% *}" "$uptime"
exec systemctl --no-block poweroff
"""


def proof_entries(identity: str, root_device: str) -> list[DiskEntry]:
    """Return what makes a distribution's root prove itself.

    `identity` is a word that only this root has; `root_device` is its fstab entry (`UUID=…`).
    """
    texts = {
        IDENTITY_PATH: (f"{identity}\n", 0o644),
        "etc/fstab": (f"{root_device} / auto defaults 0 1\n", 0o644),
        "etc/hostname": ("preroot-test\n", 0o644),
        # fixed: an empty one would make this a first boot, with everything that asks for
        "etc/machine-id": ("70726572" * 4 + "\n", 0o444),
        "usr/lib/preroot-proof": (_SCRIPT, 0o755),
        "usr/lib/systemd/system/preroot-proof.service": (_UNIT, 0o644),
    }
    entries = [DiskEntry(path, "file", mode, data=text.encode()) for path, (text, mode) in texts.items()]
    link = "etc/systemd/system/multi-user.target.wants/preroot-proof.service"
    entries.append(DiskEntry(link, "symlink", 0o777, target="/usr/lib/systemd/system/preroot-proof.service"))
    return entries


class SystemReport(Struct, frozen=True):
    """What a distribution's root said of itself."""

    #: `systemctl is-system-running`
    state: str
    #: "failed NAME", "not-found NAME (required by OTHER)"
    units: tuple[str, ...]
    #: lines of the initrd's last units that `journalctl -b` shows
    journal_lines: int


def parse_system_report(lines: tuple[str, ...]) -> SystemReport:
    """Return what the proof unit printed on the console; an empty state when it printed nothing."""
    state, units, journal = "", [], 0
    for line in lines:
        if found := re.search(rf"(?:^|\s){STATE} (\S+)\s*$", line):
            state = found[1]
        elif found := re.search(rf"(?:^|\s){UNIT} (.+?)\s*$", line):
            units.append(found[1])
        elif found := re.search(rf"(?:^|\s){JOURNAL} (\d+)\s*$", line):
            journal = int(found[1])
    return SystemReport(state, tuple(units), journal)


def read_system_report(log: Path) -> SystemReport:
    """Return what the proof unit printed on the console with the raw log `log`; where there is none, nothing."""
    raw = log.read_bytes() if log.exists() else b""
    return parse_system_report(tuple(sanitise(line) for line in raw.split(b"\n")))


def system_problems(report: SystemReport) -> list[str]:
    """Return what a whole system is not as it must be: its state, and its units; one line each."""
    found = []
    if report.state != "running":
        found.append(f"the root's systemd says that it is {report.state or 'in no state'}, not running")
    return found + [f"a unit of the root is {unit.replace(' ', ': ', 1)}" for unit in report.units]
