# SPDX-License-Identifier: LGPL-2.1-or-later
"""The generator that has devices wait for what is unlocked first: which units it writes, by the shells that run it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preroot.boot.console import unescape

RUNTIME = Path(__file__).parents[2] / "src/preroot/runtime"
LUKS = "rd.luks.name=x=root"


def written(cmdline: str, crypttab: str = "/nowhere", shell: str = "dash") -> dict[str, str]:
    """Return the units that the generator writes, by name."""
    # the image's environment is PID 1's: LC_ALL is not set, LANG may be
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_PROC_CMDLINE": cmdline, "SYSTEMD_CRYPTTAB": crypttab}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        generator, helpers = root / "lib/systemd/system-generators/unlock", root / "lib/preroot"
        for path, source in (
            (generator, "systemd/unlock-generator"),
            (helpers / "cmdline.sh", "helpers/cmdline.sh"),
            (helpers / "devices.sh", "helpers/devices.sh"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((RUNTIME / source).read_bytes())
        late = root / "late"
        late.mkdir()
        command = [*shell.split(), str(generator), "/nowhere", "/nowhere", str(late)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return {path.name: path.read_text() for path in late.iterdir()}


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "bash"])
@pytest.mark.parametrize(
    ("cmdline", "units"),
    [
        (f"{LUKS} root=UUID=3b6294f4-2cb4", {r"dev-disk-by\x2duuid-3b6294f4\x2d2cb4.device"}),
        (f"{LUKS} root=/dev/mapper/vg-root", {r"dev-mapper-vg\x2droot.device"}),
        (f"{LUKS} root=/dev//vg/root quiet", {"dev-vg-root.device"}),
        (f'{LUKS} "root=LABEL=my root"', {r"dev-disk-by\x2dlabel-my\x5cx20root.device"}),
        (f'{LUKS} root=LABEL="a/b"', {r"dev-disk-by\x2dlabel-a\x5cx2fb.device"}),
        (f"{LUKS} root=PARTLABEL=größe", {r"dev-disk-by\x2dpartlabel-gr\xc3\xb6\xc3\x9fe.device"}),
        (f"root=PARTUUID=1 mount.usr=LABEL=usr resume=/dev/sda2 {LUKS}",
         {r"dev-disk-by\x2dpartuuid-1.device", r"dev-disk-by\x2dlabel-usr.device", "dev-sda2.device"}),
        (f"{LUKS} root=gpt-auto", set()),
        (f"{LUKS} root=live:/x aroot=UUID=1", set()),
        ("root=UUID=1", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_units(cmdline: str, units: set[str], shell: str) -> None:
    assert written(cmdline, shell=shell).keys() == units


def test_a_unit_waits_for_all_that_is_unlocked(tmp_path: Path) -> None:
    crypttab = tmp_path / "crypttab"
    crypttab.touch()
    found = written("root=/dev/sda1", str(crypttab))
    assert found == {"dev-sda1.device": "[Unit]\nAfter=cryptsetup.target remote-cryptsetup.target\n"}


@settings(max_examples=40, deadline=None)
@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\"'"), min_size=1, max_size=12
    )
)
def test_any_label_becomes_the_name_of_its_link(label: str) -> None:
    """The unit's name, unescaped, is the link that udev makes (encode_devnode_name())."""
    (unit,) = written(f"{LUKS} root=LABEL={label}")
    link = re.sub(r"[^\w#+.:=@-]", lambda one: one[0] if one[0] > "~" else f"\\x{ord(one[0]):02x}", label)
    raw = re.sub(
        rb"\\x([0-9a-f]{2})",
        lambda one: bytes([int(one[1], 16)]),
        unit.removesuffix(".device").replace("-", "/").encode(),
    )
    assert "/" + raw.decode() == f"/dev/disk/by-label/{link}"
    assert unescape(unit).startswith("/dev/disk/by-label/")
