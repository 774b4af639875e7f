# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel configuration, built-in lists, and finding a kernel by its files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.errors import BuildError
from preroot.facts.kernel import (
    codec_option,
    compressors,
    kernel_version_from_path,
    module_name,
    parse_builtin,
    parse_builtin_aliases,
    parse_config,
)
from preroot.tree.kernel import KernelFiles, choose_kernel, find_kernels

CONFIG = """\
# Automatically generated file; DO NOT EDIT.
CONFIG_BLK_DEV_INITRD=y
CONFIG_RD_GZIP=y
# CONFIG_RD_BZIP2 is not set
CONFIG_RD_ZSTD=y
CONFIG_EXT4_FS=m
CONFIG_OLD=n
CONFIG_DEFAULT_HOSTNAME="(none)"
CONFIG_EMPTY=""
CONFIG_HZ=250
"""


def test_config_is_read() -> None:
    assert parse_config(CONFIG) == {
        "BLK_DEV_INITRD": "y", "RD_GZIP": "y", "RD_ZSTD": "y", "EXT4_FS": "m", "DEFAULT_HOSTNAME": "(none)",
        "EMPTY": "", "HZ": "250",
    }  # fmt: skip


@given(st.text())
def test_any_text_is_read_as_config(text: str) -> None:
    for name, value in parse_config(text).items():
        assert "=" not in name
        assert "\n" not in value


def test_compressors_come_from_the_config() -> None:
    assert compressors(parse_config(CONFIG)) == {"none", "gzip", "zstd"}
    assert compressors({"RD_ZSTD": "y"}) == frozenset(), "without CONFIG_BLK_DEV_INITRD there is no initrd at all"
    assert codec_option("zstd") == "CONFIG_RD_ZSTD"
    assert codec_option("none") == ""


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("dm-crypt", "dm_crypt"),
        ("kernel/drivers/md/dm-crypt.ko", "dm_crypt"),
        ("usr/lib/modules/6.12/kernel/fs/xfs/xfs.ko.xz", "xfs"),
        ("a/nls_cp437.ko.zst", "nls_cp437"),
        ("snd-pcm.kobject", "snd_pcm.kobject"),
    ],
)
def test_module_names(path: str, name: str) -> None:
    assert module_name(path) == name


def test_builtin_lists() -> None:
    assert parse_builtin("kernel/drivers/nvme/host/nvme-core.ko\n\nkernel/fs/ext4/ext4.ko\n") == {
        "nvme_core": "kernel/drivers/nvme/host/nvme-core.ko",
        "ext4": "kernel/fs/ext4/ext4.ko",
    }
    data = b"ext4.alias=fs-ext4\0ext4.license=GPL\0ext4.parm=alias=x\0crc32c_generic.alias=crypto-crc32c\0"
    assert parse_builtin_aliases(data) == (("fs-ext4", "ext4"), ("crypto-crc32c", "crc32c_generic"))


@given(st.binary())
def test_any_bytes_are_read_as_builtin_modinfo(data: bytes) -> None:
    assert all("\0" not in alias for alias, _ in parse_builtin_aliases(data))


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("boot/vmlinuz-6.12.9+deb13-amd64", "6.12.9+deb13-amd64"),
        ("boot/grub/grub.cfg-x", None),
        ("boot/memtest-1", None),
        ("usr/lib/modules/6.1/modules.order", "6.1"),
        ("lib/modules/6.1/kernel/a.ko", "6.1"),
        ("lib/modules/6.1", None),
        ("usr/lib/modules-load.d/x.conf", None),
    ],
)
def test_version_of_a_path(path: str, version: str | None) -> None:
    assert kernel_version_from_path(path) == version


DEBIAN = [
    "boot/vmlinuz-6.1-amd64", "boot/config-6.1-amd64", "boot/System.map-6.1-amd64",
    "lib/modules/6.1-amd64/kernel/fs/xfs/xfs.ko", "lib/modules/6.1-amd64/modules.builtin",
    "lib/modules/6.1-amd64/modules.builtin.modinfo", "lib/modules/6.1-amd64/modules.order",
]  # fmt: skip


def test_a_debian_kernel_is_found() -> None:
    assert find_kernels([*DEBIAN, "usr/bin/true"]) == (
        KernelFiles(
            "6.1-amd64",
            image="boot/vmlinuz-6.1-amd64",
            config="boot/config-6.1-amd64",
            modules_directory="lib/modules/6.1-amd64",
            builtin="lib/modules/6.1-amd64/modules.builtin",
            builtin_modinfo="lib/modules/6.1-amd64/modules.builtin.modinfo",
            order="lib/modules/6.1-amd64/modules.order",
            system_map="boot/System.map-6.1-amd64",
            modules=("lib/modules/6.1-amd64/kernel/fs/xfs/xfs.ko",),
        ),
    )


def test_a_fedora_kernel_is_found() -> None:
    base = "lib/modules/6.11.4-301.fc41.x86_64"
    files = [f"{base}/vmlinuz", f"{base}/config", f"{base}/System.map", f"{base}/kernel/fs/xfs/xfs.ko.xz"]
    (kernel,) = find_kernels(files)
    assert (kernel.image, kernel.config, kernel.modules_directory) == (f"{base}/vmlinuz", f"{base}/config", base)


def test_headers_are_no_kernel_and_boot_wins() -> None:
    files = ["usr/lib/modules/6.2/build", "usr/lib/modules/6.1-amd64/vmlinuz", *DEBIAN]
    for order in (files, files[::-1]):
        (kernel,) = find_kernels(order)
        assert kernel.image == "boot/vmlinuz-6.1-amd64"


def test_modules_alone_are_no_kernel() -> None:
    """A package of single modules, for this kernel or for another one."""
    more = [
        "lib/modules/6.1-amd64/updates/dkms/own.ko",
        "lib/modules/6.2/updates/dkms/own.ko",
        "lib/modules/6.3/extra/x.ko",
    ]
    (kernel,) = find_kernels([*DEBIAN, *more])
    assert kernel.version == "6.1-amd64" and more[0] in kernel.modules
    assert [each.version for each in find_kernels([*more, "lib/modules/6.2/modules.order"])] == ["6.2"]


def test_choosing() -> None:
    one, other = KernelFiles("6.1", image="a"), KernelFiles("6.12", image="b")
    assert choose_kernel([one], "", "linux-image") is one
    assert choose_kernel([one, other], "6.12", "linux-image") is other
    with pytest.raises(BuildError, match=r"several kernels in linux-image: 6\.1, 6\.12"):
        choose_kernel([one, other], "", "linux-image")
    with pytest.raises(BuildError, match=r"no kernel 6\.13 in linux-image"):
        choose_kernel([one, other], "6.13", "linux-image")
    with pytest.raises(BuildError, match="no kernel in linux-image"):
        choose_kernel([], "", "linux-image")
