# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the command line says of writable layers and live images, read by the shells that run it; the units for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preroot.boot.causes import likely_cause

RUNTIME = Path(__file__).parents[2] / "src/preroot/runtime"
SHELLS = ("dash", "busybox sh", "bash")
LAYER = ("layer", "layer_size", "layer_device", "layer_path", "layer_readonly", "layer_reset", "layer_wrong")
LIVE = ("live_device", "live_file", "live_iso", "live_directory", "live_images", "live_ram", "live_check", "live_wrong")
PLAIN = {"live_directory": "LiveOS", "live_images": "squashfs.img"}
DEBIAN = {"live_directory": "live", "live_images": "*.squashfs"}


def read(cmdline: str, function: str, names: tuple[str, ...], shell: str = "dash") -> dict[str, str] | None:
    """Return what `function` of options.sh sets, without what stays empty; None where it says that it is false."""
    sources = "".join(
        f". {RUNTIME}/{each}; " for each in ("helpers/cmdline.sh", "helpers/devices.sh", "layers/options.sh")
    )
    values = "".join(f"printf '%s=%s\\n' {name} \"${name}\"; " for name in names)
    script = f"LC_ALL=C; set -eu; cmdline=$1; {sources} {function} || exit 7; {values}"
    command = [*shell.split(), "-c", script, "sh", cmdline]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=60, check=False)
    if done.returncode == 7:
        return None
    assert (done.returncode, done.stderr) == (0, b"")
    pairs = (line.partition("=") for line in done.stdout.decode().splitlines())
    return {name: value for name, _, value in pairs if value}


def on(path: str, **more: str) -> dict[str, str]:
    return {"layer": "device", "layer_device": path, **more}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("root=UUID=1", {}),
        ("rd.overlay", {"layer": "tmpfs"}),
        ("rd.overlay=1", {"layer": "tmpfs"}),
        ("rd.overlay=0", {"layer": "none"}),
        ("rd.overlay rd.overlay=none", {"layer": "none"}),
        ("rd.overlay=tmpfs:size=25%,nr_inodes=7", {"layer": "tmpfs", "layer_size": "size=25%,nr_inodes=7"}),
        ('"rd.overlay=LABEL=my keep"', on(r"/dev/disk/by-label/my\x20keep")),
        ("rd.overlay=UUID=1-2:/a/b rd.overlay=1", on("/dev/disk/by-uuid/1-2", layer_path="/a/b")),
        ("rd.overlay=PARTUUID=1:auto", on("/dev/disk/by-partuuid/1", layer_path="auto")),
        ("rd.overlay=/dev/vda rd.overlay=tmpfs:size=9m", on("/dev/vda", layer_size="size=9m")),
        ("rd.overlay=/dev/vda rd.overlay.reset rd.overlay.readonly=0", on("/dev/vda", layer_reset="yes")),
        ("rd.overlay=/dev/vda rd.overlay.readonly=1", on("/dev/vda", layer_readonly="yes")),
        ("boot=live persistence", on("/dev/disk/by-label/persistence", layer_path="/persistence.conf")),
        ("boot=live persistence nopersistence", {}),
        ("persistence", {}),
    ],
)  # fmt: skip
def test_layers(cmdline: str, expected: dict[str, str], shell: str) -> None:
    assert read(cmdline, "layer_options", LAYER, shell) == expected


@pytest.mark.parametrize(
    "cmdline",
    [
        "rd.overlay=LABLE=x",
        "rd.overlay=keep",
        "rd.overlay=tmpfs:mode=0777",
        "rd.overlay=tmpfs:size=1,",
        "rd.overlay=/dev/vda:/a,lowerdir=/etc",
        "rd.overlay=/dev/vda:/../x",
    ],
)
def test_wrong_layers(cmdline: str) -> None:
    found = read(cmdline, "layer_options", LAYER) or {}
    assert cmdline.partition(":")[0] in found["layer_wrong"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("root=live:LABEL=a/b", {"live_device": r"/dev/disk/by-label/a\x2fb", **PLAIN}),
        ('"root=live:CDLABEL=My CD" rd.live.check',
         {"live_device": r"/dev/disk/by-label/My\x20CD", "live_check": "yes", **PLAIN}),
        ("root=live:/dev/sr0 rd.live.ram=1", {"live_device": "/dev/sr0", "live_ram": "yes", **PLAIN}),
        ("root=live:/image.erofs", {"live_file": "/image.erofs", **PLAIN}),
        ("root=LABEL=x rd.live.image", {"live_device": "/dev/disk/by-label/x", **PLAIN}),
        ("root=live:UUID=1 rd.live.dir=/os rd.live.squashimg=a.img iso-scan/filename=/b.iso",
         {"live_device": "/dev/disk/by-uuid/1", "live_directory": "os", "live_images": "a.img", "live_iso": "b.iso"}),
        ("boot=live", DEBIAN),
        ("boot=live toram live-media=/dev/sda1 live-media-path=/x findiso=/d.iso",
         {"live_device": "/dev/sda1", "live_iso": "d.iso", "live_ram": "yes", **DEBIAN, "live_directory": "x"}),
        ("root=UUID=1 rd.live.ram", None),
        ("root=UUID=1 boot=isolinux", None),
        ("root=live:http://example.org/x.img", None),
    ],
)  # fmt: skip
def test_live_images(cmdline: str, expected: dict[str, str] | None, shell: str) -> None:
    assert read(cmdline, "live_options", LIVE, shell) == expected


@pytest.mark.parametrize(
    "cmdline",
    ["root=live:LABLE=x", "root=live:/dev/sda rd.writable.fsimg", "boot=live toram=x", "boot=live fetch=http://x",
     "boot=live live-media=removable"],
)  # fmt: skip
def test_what_is_refused_by_name(cmdline: str) -> None:
    found = read(cmdline, "live_options", LIVE) or {}
    option = cmdline.rpartition(" ")[2].partition("=")[0]
    assert found["live_wrong"].startswith(option)


def generated(cmdline: str, tmp_path: Path, *, live: bool = True) -> dict[str, str]:
    """Return what the generator writes: path → content, of links their target."""
    library, generator = tmp_path / "lib/preroot", tmp_path / "lib/systemd/system-generators/overlay"
    sources = {
        generator: "layers/overlay-generator", library / "cmdline.sh": "helpers/cmdline.sh",
        library / "devices.sh": "helpers/devices.sh", library / "layers-options.sh": "layers/options.sh",
        **({library / "live": "layers/live"} if live else {}),
    }  # fmt: skip
    for path, source in sources.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((RUNTIME / source).read_bytes())
    normal, early = tmp_path / "normal", tmp_path / "early"
    normal.mkdir()
    early.mkdir()
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_PROC_CMDLINE": cmdline}
    command = ["dash", str(generator), str(normal), str(early), "/nowhere"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    files = [each for top in (normal, early) for each in top.rglob("*") if each.is_symlink() or each.is_file()]
    return {
        str(each.relative_to(tmp_path)): str(each.readlink()) if each.is_symlink() else each.read_text()
        for each in files
    }


UNITS = "/usr/lib/systemd/system"
OVERLAY = {
    "normal/initrd-root-fs.target.requires/preroot-overlay.service": f"{UNITS}/preroot-overlay.service",
}


def test_units_of_a_layer(tmp_path: Path) -> None:
    found = generated("root=UUID=1 rd.overlay=LABEL=a-b", tmp_path)
    device = r"dev-disk-by\x2dlabel-a\x2db.device"
    assert found == OVERLAY | {
        "normal/preroot-overlay.service.d/50-device.conf": f"[Unit]\nRequires={device}\nAfter={device}\n"
    }


def test_units_of_a_live_image(tmp_path: Path) -> None:
    found = generated("root=live:/dev/sr0", tmp_path)
    assert found["early/sysroot.mount"].splitlines()[-3:] == [
        "What=/run/initramfs/live-root", "Where=/sysroot", "Options=ro"
    ]  # fmt: skip
    assert found.keys() - {"early/sysroot.mount"} == OVERLAY.keys() | {
        "normal/initrd-root-fs.target.requires/sysroot.mount",
        "normal/initrd-root-device.target.requires/preroot-live.service",
        "normal/preroot-live.service.d/50-device.conf",
    }


@pytest.mark.parametrize(
    ("cmdline", "live"),
    [("root=live:/dev/sr0", False), ("root=UUID=1", True), ("root=live:http://x/y rd.overlay=0", True), ("", True)],
)
def test_no_units(cmdline: str, live: bool, tmp_path: Path) -> None:
    assert generated(cmdline, tmp_path, live=live) == {}


def test_an_iso_image_is_waited_for_by_the_service_alone(tmp_path: Path) -> None:
    found = generated("root=live:CDLABEL=x iso-scan/filename=/x.iso rd.overlay=none", tmp_path)
    assert not any("preroot-overlay" in path or "50-device" in path for path in found)


@settings(max_examples=40, deadline=None)
@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters='"', exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30
    )
)
def test_any_value_is_taken_or_refused(text: str) -> None:
    """No value makes the shell fail, or gets into the options of overlayfs."""
    found = read(f'"rd.overlay=/dev/x:/{text}"', "layer_options", LAYER)
    assert found is not None
    if "layer_wrong" not in found:
        assert found["layer_path"] == f"/{text}" and not set(text) & set(",:\\")


def test_the_reason_is_the_likely_cause() -> None:
    lines = (
        "Linux version 6.12",
        "[    9.100000] preroot: No live image: the medium /dev/vda has no LiveOS/squashfs.img, and is no root itself.",
        "[FAILED] Failed to start preroot-live.service - Find the Live Image.",
    )
    assert likely_cause(lines) == (
        "there is no live image: the medium /dev/vda has no LiveOS/squashfs.img, and is no root itself"
    )
