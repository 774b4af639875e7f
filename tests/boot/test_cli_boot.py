# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot boot`: an image that reaches its root, and one that does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from lab import BUSYBOX, Lab

from preroot.engine.testing import Image


@pytest.fixture(scope="module")
def image(lab: Lab) -> Image:
    """The smallest image that there is: it boots in a few seconds also where it is emulated."""
    return lab.image(*BUSYBOX)


def preroot(lab: Lab, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PREROOT_CACHE": str(lab.workspace.cache)}
    argv = [sys.executable, "-m", "preroot", *map(str, arguments)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_an_image_is_booted_and_its_timeline_drawn(lab: Lab, image: Image, tmp_path: Path) -> None:
    plot = tmp_path / "boot.svg"
    done = preroot(lab, "boot", image.initrd, "--memory", "512", "--plot", plot, "--", "v=w", "x=y")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[0] == "kernel" and "root-reached" in names
    assert lines[-1].startswith("the root was reached after ") and lines[-1].endswith("/dev/vda ext4")
    log = Path(lines[-2].removeprefix("serial console: "))
    assert b"v=w x=y preroot.token=" in log.read_bytes()
    title = ET.parse(plot).getroot().find("{http://www.w3.org/2000/svg}title")
    assert title is not None and title.text == "Boot of preroot-ext4"


def test_a_recipe_is_built_and_booted(lab: Lab, tmp_path: Path) -> None:
    sets = [word for value in BUSYBOX for word in ("--set", value)]
    done = preroot(lab, "boot", *sets, "--output", tmp_path / "out", "--bus", "nvme", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["reached"] and found["problems"] == [] and found["mount"][:2] == ["/dev/nvme0n1", "ext4"]
    assert (tmp_path / "out" / "preroot.initrd").exists()


def test_a_root_that_is_not_there_is_explained(lab: Lab, image: Image) -> None:
    done = preroot(lab, "boot", image.initrd, "--timeout", "25", "--", "root=LABEL=nowhere")
    assert done.returncode == 1, done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0] == "error: the root was not reached within 25 s"
    assert errors[1].startswith("error: the last milestone was ")
    assert "hint:  the serial console is in " in done.stderr and "Traceback" not in done.stderr


SCENARIOS = """
[disks.two]
size = { data = 32 }
root = "tiny"
script = '''
fill $data ext4 "" 2b1c1f8e-57c0-4a0e-9a0d-6f9a3f0c7e55
value where UUID=2b1c1f8e-57c0-4a0e-9a0d-6f9a3f0c7e55'''

[scenario.twice]
summary = "what the first boot wrote is there in the second, and on the disk afterwards"
disks = "two"
[[scenario.twice.boot]]
cmdline = "root={where} rw"
memory = 256
check = "mkdir /d; mount -t ext4 $data /d; [ -e /d/sbin/init ]"
[[scenario.twice.boot]]
cmdline = "root={where} ro"
memory = 256
must = ["preroot-root-mount /dev/vda ext4 ro"]

[scenario.wrong]
summary = "a root that is reached, and should not be"
disks = "two"
[[scenario.wrong.boot]]
cmdline = "root={where}"
memory = 256
reached = false
[[scenario.wrong.boot]]
cmdline = "root=never-booted"
"""


def test_scenarios_run_with_an_image_of_ones_own(lab: Lab, image: Image, tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(SCENARIOS)
    done = preroot(lab, "test", file, "--image", image.initrd, "--logs", tmp_path / "logs", "--jobs", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["ok", "twice"] and lines[1].split()[:2] == ["failed", "wrong"]
    assert lines[2].strip().startswith("the root was reached, and should not have been")
    assert "error: 1 of 2 scenarios failed: wrong" in done.stderr and str(tmp_path / "logs") in done.stderr
    assert not (tmp_path / "logs/logs/wrong/wrong-2.serial.log").exists()
    assert not list((tmp_path / "logs").glob("image-*"))
