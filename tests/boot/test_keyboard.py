# SPDX-License-Identifier: LGPL-2.1-or-later
"""A key pressed on a keyboard whose drivers are all modules reaches the console before there is a root; and udev reads
the hardware database that was compiled for the image, by this machine's systemd-hwdb and not the image's own."""

from __future__ import annotations

import random
import string

import pytest
from lab import Lab

from preroot.boot.machine import Keyboard, Machine, MachineSpec
from preroot.engine.testing import Image

READER = """\
unit=[{name="typed.service", content='''
[Unit]
DefaultDependencies=no
After=systemd-udev-trigger.service
[Service]
Type=oneshot
StandardOutput=journal+console
ExecStart=udevadm hwdb --test=evdev:atkbd:dmi:bvnX:bvr1:bdX:svnAcer:pnX:
ExecStart=/bin/sh -c 'echo "waiting for keys" >/dev/console; \\
  while read -r line; do echo "typed=$line" >/dev/console; done </dev/tty1'
[Install]
WantedBy=sysinit.target
'''}]"""


@pytest.fixture(scope="module")
def image(lab: Lab) -> Image:
    features = 'part.base.features=["...", "-btrfs", "-xfs", "-sata"]'
    return lab.image("kernel.modules=generic", "features.input.hwdb=true", features, READER,
                     kernel="linux-image-amd64")  # fmt: skip


@pytest.mark.parametrize("keyboard", ["usb", pytest.param("virtio", marks=pytest.mark.matrix)])
def test_keys_reach_the_console(lab: Lab, image: Image, keyboard: Keyboard) -> None:
    token = "".join(random.choices(string.ascii_lowercase, k=6))
    spec = MachineSpec(str(image.kernel), initrds=(str(image.initrd),), keyboard=keyboard,
                       cmdline="root=UUID=none quiet")  # fmt: skip
    with Machine(spec, lab.session / "logs", timeout=180, cache=lab.cache / "boot", name=f"keys-{keyboard}") as machine:
        machine.console.wait_for("waiting for keys")
        # What is pressed before the driver is there is lost, so again until it arrives.
        for _ in range(90):
            machine.press(f"{token}\n")
            if machine.console.drain(lambda line: f"typed={token}" in line, timeout=1):
                break
        lines = machine.end().lines
    assert any(line.endswith(f"typed={token}") for line in lines), "\n".join(lines[-20:])
    assert any(line.endswith("KEYBOARD_KEY_86=wlan") for line in lines), "\n".join(lines[-20:])
    assert not any("systemd-udevd" in line and "ailed" in line for line in lines)
