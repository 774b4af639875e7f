# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages: what a sound one says, and that a hostile or damaged one is refused by name."""

from __future__ import annotations

import io
import lzma
import tarfile
import tracemalloc
import zlib
from typing import Any

import deb_samples as samples
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from preroot.errors import BuildError
from preroot.packages import deb as deb_module
from preroot.packages.deb import Deb, parse_control
from preroot.packages.tar import Member

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/"), min_size=1)
PATHS = st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4).map("/".join)


def read(data: bytes) -> dict[str, tuple[Member, bytes]]:
    package = Deb(io.BytesIO(data), "sample.deb")
    return {each.path: (each, b"".join(package.content())) for each in package.members()}


def refusal(data: bytes) -> str:
    with pytest.raises(BuildError) as caught:
        read(data)
    assert "sample.deb" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


TREE = (
    samples.member(b"./", type_=b"5", mode=b"0000755\0")
    + samples.member(b"./usr/", type_=b"5", mode=b"0000755\0")
    + samples.member(b"./usr/tool", b"\x7fcontent", mode=b"0004755\0", uid=b"0000017\0", gid=b"0000052\0")
    + samples.member(b"./usr/hard", type_=b"1", link=b"./usr/tool")
    + samples.member(b"./usr/soft", type_=b"2", link=b"../etc/x")
    + samples.END
)


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_a_sound_package_is_read_whatever_its_compression(suffix: str) -> None:
    found = read(samples.deb(TREE, suffix))
    assert list(found) == ["usr", "usr/tool", "usr/hard", "usr/soft"]
    assert found["usr/tool"] == (Member("usr/tool", "file", 0o4755, 15, 42, 8, ""), b"\x7fcontent")
    assert found["usr/hard"][0][1:] == ("hardlink", 0o644, 0, 0, 0, "usr/tool")
    assert found["usr/soft"][0].target == "../etc/x"


def test_control_is_read_with_scripts_and_conffiles() -> None:
    control = samples.control_tar(
        postinst="#!/bin/sh\nset -e\n", conffiles="/etc/a\nremove-on-upgrade /etc/b\n", md5sums="x"
    )
    package = Deb(io.BytesIO(samples.deb(TREE, control=control)), "sample.deb")
    assert package.control.fields["Version"] == "1:2.0-1"
    assert "Description" not in package.control.fields
    assert package.control.conffiles == ("etc/a", "etc/b")
    assert package.control.scripts == {"postinst": "#!/bin/sh\nset -e\n"}


def test_members_that_start_with_an_underscore_are_passed_over() -> None:
    assert "usr/tool" in read(samples.deb(TREE, extra=[samples.ar_member(b"_gpgorigin", b"odd")]))


def test_control_fields_keep_their_continuation_lines() -> None:
    fields = parse_control("A: 1\nDepends: a,\n b\n# no\n\nB: 2\n")
    assert fields == {"A": "1", "Depends": "a,\nb"}


@given(
    st.dictionaries(PATHS, st.binary(max_size=2000), max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_what_another_writer_wrote_is_read_back(files: dict[str, bytes], form: int) -> None:
    below = {path for path in files if any(path.startswith(other + "/") for other in files)}
    files = {path: data for path, data in files.items() if path not in below}
    found = read(samples.deb(samples.plain_tar(files.items(), form), ""))
    assert {path: data for path, (_, data) in found.items()} == files


def test_long_names_and_large_numbers_of_both_dialects() -> None:
    path = "/".join([f"directory-{number:02}" for number in range(40)])
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            info = tarfile.TarInfo("./" + path)
            info.type, info.linkname, info.uid = tarfile.SYMTYPE, "/" + path, 3_000_000
            tar.addfile(info)
        assert read(samples.deb(out.getvalue()))[path][0] == Member(path, "symlink", 0o644, 3_000_000, 0, 0, "/" + path)


def test_ustar_prefix_is_part_of_the_name() -> None:
    tree = samples.member(b"name", b"x", prefix=b"./usr/share") + samples.END
    assert list(read(samples.deb(tree))) == ["usr/share/name"]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (samples.member(b"/etc/passwd", b"x"), ("/etc/passwd", "absolute")),
        (samples.member(b"./usr/../../etc/passwd", b"x"), ("./usr/../../etc/passwd", "'..'")),
        (samples.member(b"..", b"x"), ("'..'",)),
        (samples.member(b"./a", type_=b"1", link=b"../../etc/shadow"), ("../../etc/shadow", "'..'")),
        (samples.member(b"./a", type_=b"1", link=b"/etc/shadow"), ("/etc/shadow", "absolute")),
        (samples.member(b"./a", type_=b"1", link=b"./b") + samples.member(b"./b", b"x"), ("hard link a", "b")),
        (samples.member(b"./usr/a", type_=b"2", link=b"../../x"), ("usr/a", "../../x", "out of the root")),
        (samples.member(b"./a", type_=b"2", link=b"/etc") + samples.member(b"./a/b", b"x"), ("through a", "symlink")),
        (samples.member(b"./a/b/c", b"x") + samples.member(b"./a", type_=b"2", link=b"/"), ("through a", "symlink")),
        (samples.member(b"./a", b"x") + samples.member(b"./a/b", b"x"), ("through a", "file")),
        (samples.member(b"./dev/sda", type_=b"4"), ("dev/sda", "block device")),
        (samples.member(b"./dev/null", type_=b"3"), ("dev/null", "character device")),
        (samples.member(b"./run/fifo", type_=b"6"), ("run/fifo", "named pipe")),
        (samples.member(b"./a", b"1") + samples.member(b"./a", b"2"), ("a is there twice",)),
        (samples.member(b"./a", b"1") + samples.member(b".//./a", b"2"), ("a is there twice",)),
        (samples.member(b"./", type_=b"2", link=b"/etc"), ("the root is a symlink",)),
        (samples.member(b"./a", type_=b"2"), ("link ./a", "no target")),
        (samples.member(b"./a\nb", b"x"), ("control characters",)),
        (samples.member(b"./\xff", b"x"), ("not UTF-8",)),
        (samples.member(b"./sparse", b"x", type_=b"S"), ("./sparse", "type b'S'")),
        (samples.member(b"./a", type_=b"5", uid=b"\x80\xff\xff\xff\xff\xff\xff\xff"), ("./a", "no user")),
        (samples.header(b"./a", size_field=b"-0000000001\0") + bytes(512), ("size", "not a number")),
        (samples.header(b"./a", size_field=b"99999999999\0") + bytes(512), ("size", "not a number")),
        (samples.header(b"./a", size_field=b"\x80" + b"\xff" * 11) + bytes(512), ("cut off",)),
        (samples.header(b"./a", checksum=1), ("wrong checksum",)),
        (samples.member(b"././@LongLink", bytes(2 << 20), type_=b"L"), ("extended header", "2097152")),
        (samples.member(b"x", b"12 path=/etc\n", type_=b"x") + samples.member(b"./a", b"x"), ("pax header",)),
        (samples.member(b"x", b"22 GNU.sparse.major=1\n", type_=b"x") + samples.member(b"./a", b"x"), ("sparse",)),
        (samples.member(b"x", b"13 path=/etc\n", type_=b"x") + samples.member(b"./a", b"x"), ("/etc is absolute",)),
    ],
)  # fmt: skip
def test_hostile_trees_are_refused_by_name(tree: bytes, words: tuple[str, ...]) -> None:
    message = refusal(samples.deb(tree + samples.END))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ("does not start",)),
        (b"PK\x03\x04", ("does not start",)),
        (b"!<arch>\n", ("cut off or damaged before debian-binary",)),
        (b"!<arch>\n" + samples.ar_member(b"debian-binary", b"3.0\n"), ("format version",)),
        (b"!<arch>\n" + samples.ar_member(b"control.tar", b""), ("'control.tar' where debian-binary must be",)),
        (samples.deb(TREE).replace(b"data.tar.gz", b"data.tar.7z"), ("data.tar.7z", "gz, xz, zst")),
        (samples.deb(TREE, control=samples.control_tar("Version: 1\n")), ("no package and version",)),
        (samples.deb(TREE, control=b"x" * 512), ("control.tar",)),
        (samples.deb(TREE[:-1024]), ("cut off at or after usr/soft",)),
        (samples.deb(samples.header(b"./big", size=1 << 30)), ("cut off at or after big",)),
    ],
)
def test_broken_archives_are_refused(data: bytes, words: tuple[str, ...]) -> None:
    message = refusal(data)
    for word in words:
        assert word in message


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_each_truncation_is_noticed(suffix: str) -> None:
    # Random content, so that the compressed data has no end that could be missed.
    content = bytes(range(256)) * 8
    data = samples.deb(samples.member(b"./usr/file", content) + samples.END, suffix)
    for end in range(0, len(data) - 1100 if not suffix else len(data) - 40, 37):
        assert refusal(data[:end])


@example(b"\n", 360)  # in the name of a member
@given(st.binary(max_size=400), st.integers(0, 3000))
def test_random_damage_is_never_a_traceback(noise: bytes, at: int) -> None:
    for suffix in ("", ".xz"):
        sound = samples.deb(TREE, suffix)
        data = sound[:at] + noise + sound[at + len(noise) :]
        try:
            read(data)
        except BuildError as error:
            assert "\n" not in error.message


@given(st.binary(max_size=3000))
def test_random_tar_data_is_never_a_traceback(noise: bytes) -> None:
    for tree in (noise, samples.member(b"./a", noise) + noise):
        try:
            read(samples.deb(tree, ""))
        except BuildError as error:
            assert "\n" not in error.message


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_gigabytes_of_zeros_cost_no_memory(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """192 MiB of zeros, in a file that its header says has 8 GiB, with the bound set to 16 MiB."""
    packer: Any = zlib.compressobj(1, wbits=31)
    if suffix == ".xz":
        packer = lzma.LZMACompressor(preset=0)
    elif suffix == ".zst":
        packer = zstandard.ZstdCompressor().compressobj()
    head = samples.header(b"./zeros", size_field=b"\x80" + (8 << 30).to_bytes(11, "big"))
    zeros = bytes(1 << 20)
    body = packer.compress(head) + b"".join(packer.compress(zeros) for _ in range(192)) + packer.flush()
    data = samples.deb(b"", suffix)
    data = data[: data.rindex(b"data.tar")] + samples.ar_member(b"data.tar" + suffix.encode(), body)
    monkeypatch.setattr(deb_module, "MAX_CONTENTS", 16 << 20)
    tracemalloc.start()
    try:
        package = Deb(io.BytesIO(data), "sample.deb")
        with pytest.raises(BuildError, match=r"sample\.deb: more than 16777216 bytes inside, at or after "):
            for _ in package.members():
                for _ in package.content():
                    pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "MAX_MEMBERS", 3)
    assert "more than 3 members" in refusal(samples.deb(TREE))


def test_a_control_archive_that_is_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "MAX_CONTROL", 4096)
    assert "more than 4096 bytes" in refusal(samples.deb(TREE, control=samples.control_tar(postinst="x" * 9000)))
    assert "more than 4096 bytes" in refusal(samples.deb(TREE, "", control=samples.control_tar(postinst="x" * 9000)))
