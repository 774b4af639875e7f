# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must happen when the root is not reached: the policy, in time, with the reason on the console."""

from __future__ import annotations

import json

from lab import BUSYBOX, Lab

from preroot.boot.scenario import Expect

MISSING = "UUID=dead0000-0000-4000-8000-000000000000"


#: What a feature would put there, to tell why the root did not come.
REASON = '{path = "usr/lib/preroot/reasons/50-moon.sh", content = "tell \\"the moon is full\\"\\n"}'


def test_missing_root_reboots(lab: Lab) -> None:
    """The configured time, the reason, the action; the disk that is there is named."""
    image = lab.image("failure.timeout=25", "failure.action=reboot", "failure.delay=2")
    expect = Expect(
        reached=False,
        must=(
            r"The device /dev/disk/by-uuid/dead0000-0000-4000-8000-000000000000 did not appear",
            r"  /dev/vda: ext4 LABEL=other UUID=",
            r"The machine will reboot in 2 seconds",
            r"reboot: Restarting system",
        ),
    )
    lab.boot("missing-reboot", image, lab.disk("ext4", label="other"), root=MISSING, expect=expect)


def test_missing_root_locked(lab: Lab) -> None:
    """By default no shell opens, and the console says how one would; the command line changes nothing of it."""
    expect = Expect(
        reached=False,
        must=(r"the moon is full", r"The shell is locked. To open it, build the image with"),
        must_not=(r"A shell is open", r"[#$] $"),
    )
    image = lab.image("failure.timeout=5", f"file=[{REASON}]")
    lab.boot(
        "missing-locked", image, lab.disk("ext4", label="other"), root=MISSING, expect=expect,
        cmdline="systemd.setenv=SYSTEMD_SULOGIN_FORCE=1 rd.shell=1",
    )  # fmt: skip


def test_missing_root_busybox(lab: Lab) -> None:
    image = lab.image(*BUSYBOX, "failure.timeout=3", "failure.action=poweroff", "failure.delay=1")
    expect = Expect(
        reached=False,
        must=(r"root device UUID=dead0000\S+ is missing", r"The machine will poweroff in 1 seconds", r"Power down"),
    )
    lab.boot("missing-busybox", image, lab.disk("ext4", label="other"), root=MISSING, expect=expect, memory=256)


def test_root_that_is_not_ready_busybox(lab: Lab) -> None:
    """A feature's say in the wait: set up once a turn, the root held back, the reason told."""
    step = (
        "turn=0\n"
        "count() { turn=$((turn + 1)); }\n"
        'hold() { say "held back: $device, turn $turn"; }\n'
        'rounds="$rounds count" holds="$holds hold"\n'
    )
    files = f"file=[{REASON}, {{path = 'usr/lib/preroot/steps/40-hold.sh', content = {json.dumps(step)}}}]"
    image = lab.image(*BUSYBOX, "failure.timeout=3", "failure.action=poweroff", files)
    expect = Expect(
        reached=False,
        must=(r"held back: /dev/vda, turn 2", r"root device /dev/vda \S+ is there, but was not ready within 3 seconds",
              r"the moon is full"),
    )  # fmt: skip
    lab.boot("not-ready-busybox", image, lab.disk("ext4", label="other"), root="LABEL", expect=expect, memory=256)
