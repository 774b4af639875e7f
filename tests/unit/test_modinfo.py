# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules: what .modinfo says, read whole and at a glance, and how they are compressed."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from module_samples import VERMAGIC, modinfo, module
from msgspec import structs

from elf_samples import make_elf
from preroot.facts.kernel import module_name
from preroot.packages.codec import CodecError, decompress, decompressed
from preroot.packages.learn import modinfo as modinfo_module
from preroot.packages.learn.modinfo import (
    decompress_module,
    glance_modinfo,
    is_module,
    is_signed,
    read_builtin_modinfo,
    read_modinfo,
    same_facts,
)
from preroot.packages.model import ModuleInfo

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".ko.xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
    ".ko.zst": lambda data: zstandard.ZstdCompressor().compress(data),
    ".ko.gz": lambda data: gzip.compress(data, mtime=0),
}
SECTION = modinfo(
    "snd-hda", ("alias", "pci:v00008086d*"), ("alias", "snd-hda"), ("softdep", "pre: a-b c post: d"),
    ("firmware", "x/y.bin"), ("softdep", "post: e"), ("weakdep", "f g-h"), ("license", "GPL"), ("description", "a=b"),
    ("license", "MIT"), depends="x-one,two",
)  # fmt: skip


def expected(data: bytes) -> ModuleInfo:
    return ModuleInfo(
        name="snd_hda", depends=("x_one", "two"), pre=("a_b", "c"), post=("d", "e"), weak=("f", "g_h"),
        aliases=("pci:v00008086d*", "snd-hda"), firmware=("x/y.bin",), vermagic=VERMAGIC,
        sha256=hashlib.sha256(data).hexdigest(), size=len(data), license="GPL",
    )  # fmt: skip


@pytest.mark.parametrize("suffix", PACK)
def test_a_module_is_read_whole(suffix: str) -> None:
    data = module(SECTION)
    path = "kernel/sound/snd-hda" + suffix
    assert decompress_module(path, PACK[suffix](data)) == data
    assert read_modinfo(data, path) == expected(data)


@pytest.mark.parametrize("suffix", PACK)
def test_a_glance_says_the_same(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = module(SECTION)
    path = "kernel/sound/snd-hda" + suffix
    if suffix != ".ko":
        monkeypatch.setattr(modinfo_module, "decompress_module", None)  # not needed: the section was found for certain
    found = glance_modinfo(PACK[suffix](data), path)
    assert found is not None
    assert same_facts(found, expected(data))
    assert (found.sha256 == "") == (suffix != ".ko")


@pytest.mark.parametrize(
    "data",
    [
        # .rodata that does not end in NUL, as ntfs3 and xt_time of 6.12 have it
        module(b"alias=first\0" + SECTION, before=b"\x12\0\0\0time"),
        # a key that this version does not know, in the middle
        module(b"alias=first\0new_key=1\0" + SECTION),
        # vermagic not at the end
        module(f"vermagic={VERMAGIC}\0name=snd_hda\0depends=a\0alias=first\0".encode(), after=b"\xff"),
        # nearly at the end
        module(modinfo("snd-hda", ("alias", "first")) + b"alias=last\0", after=b"\xff"),
        # an older kernel: no name
        module(f"depends=a\0alias=first\0vermagic={VERMAGIC}\0".encode()),
        # somebody else's name
        module(modinfo("other", ("alias", "first"), depends="a")),
        # a string that looks like an entry behind it
        module(b"alias=first\0" + SECTION, after=b"alias=not\0"),
        # twice the same
        module(b"name=x\0alias=first\0" + SECTION),
        # no vermagic
        module(b"name=snd_hda\0alias=first\0"),
    ],
)
def test_a_glance_that_is_not_certain_reads_the_whole_module(data: bytes) -> None:
    found = glance_modinfo(PACK[".ko.xz"](data), "snd-hda.ko.xz")
    whole = read_modinfo(data, "snd-hda.ko.xz")
    assert found is not None
    assert whole is not None
    assert same_facts(found, whole)
    assert found.aliases[0] == "first"


ENTRY = st.tuples(
    st.sampled_from(["alias", "firmware", "softdep", "parm", "author", "unknown"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)
BYTES = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"key=1\0", b"a=", b"\0vermagic=\0", b"text\0", b"name=x\0"])
)


@given(st.lists(ENTRY, max_size=6), st.lists(BYTES, max_size=4).map(b"".join), BYTES)
def test_a_glance_is_never_short_of_an_entry(entries: list[tuple[str, str]], before: bytes, after: bytes) -> None:
    data = module(modinfo("m", *entries), before, after, size=12_000)
    found = glance_modinfo(PACK[".ko.gz"](data), "m.ko.gz")
    whole = read_modinfo(data, "m.ko.gz")
    assert found is not None
    assert whole is not None
    # Strings before the section that are written exactly as an entry would be are the stated limit of a glance.
    for field in ("aliases", "firmware", "pre", "post", "depends", "name", "vermagic"):
        taken, true = getattr(found, field), getattr(whole, field)
        assert taken == true or (isinstance(taken, tuple) and set(true) <= set(taken))


def test_what_is_no_module() -> None:
    assert read_modinfo(b"", "a.ko") is None
    assert read_modinfo(make_elf(), "a.ko") is None
    assert glance_modinfo(PACK[".ko.xz"](make_elf()), "a.ko.xz") is None
    assert glance_modinfo(PACK[".ko.xz"](b""), "a.ko.xz") is None


def test_names() -> None:
    assert module_name("usr/lib/modules/6.12/kernel/a-b.ko.xz") == "a_b"
    assert is_module("a.ko.zst")
    assert not is_module("a.ko.sig")
    assert not is_module("modules.builtin")
    nameless = module(b"license=GPL\0")
    assert structs.asdict(read_modinfo(nameless, "x/a-b.ko") or expected(b""))["name"] == "a_b"


def test_builtin_modules() -> None:
    data = b"ext4.alias=fs-ext4\0ext4.file=fs/ext4/ext4\0nvme-core.softdep=pre: x\0junk\0ext4.alias=ext3\0a.b.c=d\0"
    found = {module.name: module for module in read_builtin_modinfo(data)}
    assert list(found) == ["ext4", "nvme_core", "a"]
    assert found["ext4"].aliases == ("fs-ext4", "ext3")
    assert found["nvme_core"].pre == ("x",)


@given(st.binary(max_size=500))
def test_random_bytes_raise_nothing_unexpected(noise: bytes) -> None:
    read_builtin_modinfo(noise)
    read_modinfo(noise, "a.ko")
    read_modinfo(module(noise, size=0), "a.ko")
    for suffix, pack in PACK.items():
        glance_modinfo(pack(b"\0vermagic=" + noise), "a" + suffix)
        if suffix != ".ko":
            with pytest.raises(CodecError):
                glance_modinfo(noise, "a" + suffix)


@pytest.mark.parametrize("suffix", [".ko.xz", ".ko.zst", ".ko.gz"])
def test_each_truncation_is_an_error(suffix: str) -> None:
    data = PACK[suffix](module(SECTION, size=2000))
    for end in range(0, len(data), 7):
        with pytest.raises(CodecError):
            decompress_module("a" + suffix, data[:end])


@given(
    st.lists(st.binary(max_size=3000), min_size=1, max_size=4),
    st.sampled_from(["xz", "zst", "gz"]),
    st.integers(1, 700),
)
def test_several_streams_are_one_whatever_the_sizes_of_reads(parts: list[bytes], codec: str, step: int) -> None:
    data = b"".join(PACK[".ko." + codec](part) for part in parts)
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        piece = data[at : at + min(size, step)]
        at += len(piece)
        return piece

    assert b"".join(decompressed(read, codec, 1 << 20, 100)) == b"".join(parts) == decompress(data, codec, 1 << 20)


@pytest.mark.parametrize("codec", ["xz", "zst", "gz"])
def test_the_bound_holds(codec: str) -> None:
    data = PACK[".ko." + codec](bytes(100_000))
    assert len(decompress(data, codec, 100_000)) == 100_000
    with pytest.raises(CodecError, match="more than 99999 bytes"):
        decompress(data, codec, 99_999)


def test_a_signature_is_at_the_end() -> None:
    data = module(modinfo("a"))
    assert is_signed(data + b"PKCS#7~Module signature appended~\n")
    assert not is_signed(data)
    assert not is_signed(data + b"~Module signature appended~\n\0")
