# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hand-over to a distribution's root: ten-line inits hide what goes wrong there."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab

from preroot.boot.realroot import read_system_report
from preroot.boot.scenario import Expect


@pytest.mark.parametrize(
    ("release", "arch"),
    [
        ("trixie", "amd64"),
        pytest.param("bookworm", "amd64", marks=pytest.mark.matrix),
        pytest.param("trixie", "arm64", marks=pytest.mark.matrix),
    ],
)
def test_debian_with_systemd(lab: Lab, release: str, arch: str) -> None:
    disk = lab.debian(release, arch)
    expect = Expect(
        identity=disk.identity,
        must=(r"reboot: Power down",),
        # systemd says so of a job that takes more than five seconds
        must_not=(r"A start job is running for (/dev/|dev-)", r"\[FAILED\]", r"Kernel panic"),
    )
    # The root was never installed: its /usr looks newer than /etc, and everything would be brought up to date first.
    cmdline = "rw systemd.show_status=1 systemd.condition_needs_update=0"
    image = lab.image(release=release, arch=arch)
    result = lab.boot(f"debian-{release}-{arch}", image, disk, cmdline=cmdline, expect=expect, timeout=400)
    report = read_system_report(Path(result.log))
    assert report.units == ()
    assert report.state == "running"
    assert report.journal_lines > 0, "journalctl -b does not show what the initrd did"
