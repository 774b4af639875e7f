# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a busybox part finds devices: the step's own functions in a POSIX shell, with a made-up blkid."""

from __future__ import annotations

import os
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STEP = files("preroot") / "runtime/busybox/steps/10-devices.sh"

#: device → (LABEL, UUID)
DEVICES = {
    "/dev/vda": ("my root", "1111"),
    "/dev/vdb": ('"quoted"', "2222"),
    "/dev/vdc": ("a/b", "1111"),
    "/dev/vdd": ("größe", "ABCD-1234"),
    "/dev/vde": ("back\\slash", "5555"),
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a blkid that knows DEVICES."""
    directory = tmp_path_factory.mktemp("tools")
    cases = "\n".join(
        f"LABEL:{device}) cat <<'X'\n{label}\nX\n;;\nUUID:{device}) echo {uuid} ;;"
        for device, (label, uuid) in DEVICES.items()
    )
    blkid = directory / "blkid"
    blkid.write_text(
        f'#!/bin/sh\ncase "$*" in *"-o device"*) printf "%s\\n" {" ".join(DEVICES)}; exit ;; esac\n'
        f'case "$6:$7" in {cases}\n*) exit 2 ;; esac\n'
    )
    blkid.chmod(0o755)
    return directory


def shell(script: str, *arguments: str, tools: Path | None = None) -> str:
    """Run `script` with the step's functions and return what it prints; it must end with 0."""
    environment = {"PATH": f"{tools}:{os.environ['PATH']}" if tools else os.environ["PATH"], "LC_ALL": "C"}
    done = subprocess.run(
        ["sh", "-euc", f". {STEP}\n{script}", "sh", *arguments], env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().removesuffix("\n")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("UUID=1111", "UUID=1111"),
        ('LABEL="my root"', "LABEL=my root"),
        ("LABEL='my root'", "LABEL=my root"),
        ("LABEL=my\\x20root", "LABEL=my root"),
        ("LABEL=gr\\xc3\\xb6\\xC3\\x9fe", "LABEL=größe"),
        ("LABEL=100%\\n", "LABEL=100%\\n"),
        ("block:LABEL=x", "LABEL=x"),
        ("/dev/disk/by-label/a\\x2fb", "LABEL=a/b"),
        ("/dev/disk/by-uuid/1111", "UUID=1111"),
        ("/dev/disk/by-partlabel/root", "PARTLABEL=root"),
        ("/dev/disk/by-partuuid/9", "PARTUUID=9"),
        ("block:/dev/vda", "/dev/vda"),
        ("/dev/vda1", "/dev/vda1"),
        ("8:1", "8:1"),
    ],
)
def test_spellings(name: str, plain: str) -> None:
    assert shell('plain_name "$1"', name) == plain


@given(st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_name_of_udevs_link_is_read_back(label: str) -> None:
    """udev's link of a label (encode_devnode_name() of systemd) leads to just that label."""
    kept = "#+-.:=@_"
    link = "".join(
        each if each.isascii() and (each.isalnum() or each in kept) else
        "".join(f"\\x{byte:02x}" for byte in each.encode()) if each.isascii() else each
        for each in label
    )  # fmt: skip
    assert shell('plain_name "$1"', f"/dev/disk/by-label/{link}") == f"LABEL={label}"


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("LABEL=my root", "/dev/vda"),
        ("LABEL=my", ""),
        ('LABEL=""quoted""', "/dev/vdb"),
        ("/dev/disk/by-label/\\x22quoted\\x22", "/dev/vdb"),
        ("LABEL=a/b", "/dev/vdc"),
        ("LABEL=größe", "/dev/vdd"),
        ("LABEL=back\\x5cslash", "/dev/vde"),
        ("UUID=ABCD-1234", "/dev/vdd"),
        ("UUID=1111", "/dev/vda"),  # the first of two
        ("UUID=", ""),
        ("/dev/nowhere", ""),
        ("4095:1048575", ""),
    ],
)
def test_devices_by_name(name: str, device: str, tools: Path) -> None:
    assert shell('find_device "$1" || :', name, tools=tools) == device


def test_another_device_of_the_same_name_is_told(tools: Path) -> None:
    said = shell('say() { echo "$1"; }; warn_of_others UUID=1111 /dev/vda', tools=tools)
    assert said == "Warning: UUID=1111 is the name of both /dev/vda, which is taken, and /dev/vdc."
    assert shell('say() { echo "$1"; }; warn_of_others UUID=2222 /dev/vdb', tools=tools) == ""


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("/dev/disk/by-id/virtio-x", True),
        ("/dev/disk/by-path/pci-1", True),
        ("gpt-auto", True),
        ("", True),
        ("UUID=", True),
        ("vda1", True),
        ("LABEL=vda1", False),
        ("/dev/vda1", False),
        ("8:1", False),
        ("fe01", False),
    ],
)
def test_names_that_no_waiting_makes_good(name: str, refused: bool) -> None:
    said = shell('fail() { echo "$1"; exit 0; }; refuse_name "$1"', name)
    assert bool(said) is refused


def test_device_numbers_as_the_kernel_reads_them() -> None:
    """new_decode_dev() (include/linux/kdev_t.h): 12 bits of major in the middle of 20 bits of minor."""
    node = 'node_of() { echo "$1"; }; devices_of "$1"'
    assert shell(node, "fe01") == "254:1"
    assert shell(node, "801") == "8:1"
    assert shell(node, "0010fe00") == "254:256"
