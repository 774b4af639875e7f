# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finding a kernel in a directory, in whichever arrangement; and what its image says of itself."""

from __future__ import annotations

import gzip
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from preroot.errors import BuildError
from preroot.facts.kernel_directory import KernelDirectory, choose, enter, images, named_release, wanted
from preroot.packages.learn.kernel_image import bzimage_release, kernel_release

V = "6.12.9-own"
TREE = [f"lib/modules/{V}/kernel/fs/xfs.ko", f"lib/modules/{V}/modules.builtin", f"lib/modules/{V}/modules.order"]


def arranged(
    paths: list[str], version: str = "", monolithic: bool = False, releases: dict[str, str] | None = None
) -> KernelDirectory:
    assert all(wanted(path) for path in paths)
    said = dict.fromkeys(images(paths), "") | (releases or {})
    return choose(paths, said, version, monolithic=monolithic, where="k")


@pytest.mark.parametrize(
    ("image", "config"),
    [
        (f"boot/vmlinuz-{V}", f"boot/config-{V}"),
        (f"lib/modules/{V}/vmlinuz", f"lib/modules/{V}/config"),
        (f"lib/modules/{V}/Image", f"lib/modules/{V}/.config"),
        ("vmlinuz", "config"),
        ("bzImage", ".config"),
        ("boot/Image.gz", "boot/config"),
        (f"vmlinuz-{V}", f"config-{V}"),
        ("vmlinux", ""),
    ],
)
def test_arrangements(image: str, config: str) -> None:
    found = arranged([image, *filter(None, [config]), *TREE])
    assert found.release == V
    expected = {f"boot/vmlinuz-{V}": image, **{path: path for path in TREE}}
    assert found.files == expected | ({f"boot/config-{V}": config} if config else {})


def test_usr_is_as_good_and_one_tree_is_taken() -> None:
    merged = [f"usr/{path}" for path in TREE]
    found = arranged(["vmlinuz", *merged])
    assert {path: f"usr/{path}" for path in TREE}.items() <= found.files.items()
    assert arranged(["vmlinuz", *merged, *TREE]).files == arranged(["vmlinuz", *TREE]).files


def test_the_content_of_an_image_goes_before_its_name() -> None:
    paths = ["boot/vmlinuz-6.1", f"boot/vmlinuz-{V}.old", *TREE]
    found = arranged(paths, releases={f"boot/vmlinuz-{V}.old": V, "boot/vmlinuz-6.1": "6.1"})
    assert (found.release, found.files[f"boot/vmlinuz-{V}"]) == (V, f"boot/vmlinuz-{V}.old"), "the one with modules"
    both = [f"boot/vmlinuz-{V}.old", f"boot/vmlinuz-{V}", "vmlinuz", *TREE]
    found = arranged(both, releases=dict.fromkeys(images(both), V))
    assert found.files[f"boot/vmlinuz-{V}"] == f"boot/vmlinuz-{V}"


def test_one_of_several() -> None:
    paths = ["boot/vmlinuz-6.1", "boot/config-6.1", f"boot/vmlinuz-{V}", "config", "lib/modules/6.1/kernel/a.ko", *TREE]
    with pytest.raises(BuildError, match=rf"several kernels in k: 6\.1, {V} .*--kernel"):
        arranged(paths)
    with pytest.raises(BuildError, match=rf"no kernel 6\.12 in k; there is 6\.1, {V}"):
        arranged(paths, "6.12")
    found = arranged(paths, "6.1")
    assert found.files == {
        "boot/vmlinuz-6.1": "boot/vmlinuz-6.1", "boot/config-6.1": "boot/config-6.1",
        "lib/modules/6.1/kernel/a.ko": "lib/modules/6.1/kernel/a.ko",
    }  # fmt: skip
    assert f"boot/config-{V}" not in arranged(paths, V).files, "a configuration that may be of either is of neither"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(BuildError, match=r"no kernel in k \(looked for vmlinuz, bzImage, .* in boot/ and in lib/mod"):
        arranged(TREE)
    with pytest.raises(
        BuildError, match=rf"kernel {V} in k \(vmlinuz\) has no modules: looked for lib/modules/{V} and"
    ):
        arranged(["vmlinuz"], releases={"vmlinuz": V})
    with pytest.raises(BuildError, match=rf"kernel 6\.1 in k .*there are modules of {V}"):
        arranged(["vmlinuz-6.1", *TREE])
    with pytest.raises(BuildError, match="of which release bzImage is can't be told"):
        arranged(["bzImage"], monolithic=True)
    assert arranged(["bzImage"], "6.1", monolithic=True).files == {"boot/vmlinuz-6.1": "bzImage"}


def test_without_modules() -> None:
    found = arranged(["vmlinuz", "config", *TREE], monolithic=True, releases={"vmlinuz": V})
    assert found.files == {
        f"boot/vmlinuz-{V}": "vmlinuz", f"boot/config-{V}": "config",
        f"lib/modules/{V}/modules.builtin": TREE[1], f"lib/modules/{V}/modules.order": TREE[2],
    }  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "vmlinuz.old", "boot/grub/vmlinuz", "etc/config", f"lib/modules/{V}/modules.dep", f"lib/modules/{V}/vdso/x.so",
        f"lib/modules/{V}/modules.alias.bin", f"lib/modules/{V}/kernel/config", "boot/initrd.img-6.1", "initrd",
        f"boot/System.map-{V}",
    ],
)  # fmt: skip
def test_what_is_not_wanted(path: str) -> None:
    assert not wanted(path)


def test_where_is_looked() -> None:
    yes = ["boot", "lib", "usr", "usr/lib", "lib/modules", f"lib/modules/{V}", f"usr/lib/modules/{V}/updates/dkms"]
    no = [
        "home",
        "usr/share",
        "boot/efi",
        "lib/systemd",
        f"lib/modules/{V}/build",
        f"lib/modules/{V}/source",
        "library",
    ]
    assert [path for path in yes if not enter(path)] == []
    assert [path for path in no if enter(path)] == []


NAMES = st.sampled_from(["vmlinuz", "config", "lib", "modules", "usr", "boot", V, "6.1", "x.ko", "kernel", "Image-6.1",
                         "modules.builtin", "build", "", ".config", "vmlinux-"])  # fmt: skip


@given(st.lists(st.lists(NAMES, min_size=1, max_size=6).map("/".join), max_size=12), st.sampled_from(["", V, "9"]))
def test_any_paths_give_a_kernel_of_theirs_or_an_error(paths: list[str], version: str) -> None:
    listed = sorted({path for path in paths if wanted(path)})
    for monolithic in (True, False):
        try:
            found = choose(listed, dict.fromkeys(images(listed), ""), version, monolithic=monolithic, where="k")
        except BuildError:
            continue
        assert set(found.files.values()) <= set(listed)
        assert f"boot/vmlinuz-{found.release}" in found.files
        assert all(found.release in path for path in found.files)


def bzimage(release: bytes, at: int = 0x400) -> bytes:
    """Return the start of a bzImage, as Documentation/arch/x86/boot.rst has it."""
    data = bytearray(0x1000)
    data[0x1FE:0x200] = b"\x55\xaa"
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = struct.pack("<H", at - 0x200 if at else 0)
    data[at : at + len(release)] = release
    return bytes(data)


BANNER = b"\0junk Linux version %s\0Linux version 6.12.9-own (me@here) (gcc 14) #1 SMP\n\0"


def test_the_release_in_an_image() -> None:
    assert kernel_release(bzimage(b"6.12.9-own (me@here) #1 SMP\0")) == V
    assert bzimage_release(bzimage(b"", at=0)) == ""
    assert bzimage_release(b"MZ" + bytes(4096)) is None
    assert kernel_release(bytes(5000) + BANNER) == V
    assert kernel_release(gzip.compress(BANNER)) == V
    packed = zstandard.compress(BANNER)
    header = b"MZ\0\0zimg" + struct.pack("<II8x", 64, len(packed)) + b"zstd22".ljust(40, b"\0")
    assert kernel_release(header + packed + b"\0trailer") == V
    assert kernel_release(header.replace(b"zstd22", b"lz4\0\0\0") + packed) == ""
    assert kernel_release(gzip.compress(BANNER)[:-9]) == ""
    assert named_release("boot/vmlinuz-6.1") == "6.1"


@given(
    st.binary(max_size=2000), st.sampled_from([b"", b"\x1f\x8b\x08", b"MZ\0\0zimg", BANNER, bzimage(b"\xff", 0xF00)])
)
def test_any_bytes_are_read_as_a_kernel(data: bytes, start: bytes) -> None:
    assert kernel_release(start + data).isascii()
