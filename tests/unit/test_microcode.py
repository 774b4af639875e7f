# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processor microcode: what a sound file is, and what of it goes into the early archive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from microcode_samples import AMD_17H, AMD_19H, OTHER, SERVER, SKYLAKE, amd_container, amd_patch, intel_update
from worlds import file, index

from preroot.errors import BuildError
from preroot.facts.microcode import (
    Cpu,
    MicrocodeError,
    amd_narrowed,
    intel_signatures,
    parse_cpu,
    split_signature,
    vendors_of,
)
from preroot.recipe.schema import Microcode
from preroot.tree.microcode import joined_microcode, microcode_files
from preroot.tree.pool import Pool

CONTENTS = {
    "usr/lib/firmware/intel-ucode/06-55-04": intel_update(SERVER, extended=(OTHER,)),
    "usr/lib/firmware/intel-ucode/06-5e-03.initramfs": intel_update(SKYLAKE) + intel_update(SKYLAKE, 1),
    "usr/lib/firmware/amd-ucode/README": b"words",
    "usr/lib/firmware/amd-ucode/microcode_amd_fam17h.bin": AMD_17H,
    "usr/lib/firmware/amd-ucode/microcode_amd_fam17h.bin.asc": b"signature",
    "usr/lib/firmware/amd-ucode/microcode_amd_fam19h.bin": AMD_19H,
}


def pool() -> Pool:
    return Pool([index([file(path, data) for path, data in CONTENTS.items()], "ucode")], {})


def no_package(_: str) -> str:
    return ""


def archive(*cpus: str, vendors: tuple[str, ...] = ()) -> dict[str, bytes]:
    wanted = Microcode(vendors=vendors, cpus=cpus)  # type: ignore[arg-type]
    found = microcode_files(wanted, pool(), "amd64", no_package)
    assert {each.owner for each in found} == {"ucode=1.0"}
    return {each.target.rpartition("/")[2]: joined_microcode(each, CONTENTS.__getitem__) for each in found}


def test_all_of_each_vendor_without_signatures_and_notes() -> None:
    server, skylake = (CONTENTS[f"usr/lib/firmware/intel-ucode/{name}"] for name in ("06-55-04", "06-5e-03.initramfs"))
    assert archive(vendors=("intel", "amd")) == {
        "AuthenticAMD.bin": AMD_17H + AMD_19H, "GenuineIntel.bin": server + skylake,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [
        (("06-5e-03",), {"GenuineIntel.bin": CONTENTS["usr/lib/firmware/intel-ucode/06-5e-03.initramfs"]}),
        (("06-55",), {"GenuineIntel.bin": CONTENTS["usr/lib/firmware/intel-ucode/06-55-04"]}),
        (("fam19h",), {"AuthenticAMD.bin": AMD_19H}),
        (("fam17h-31-00", "fam19h-21-02"), {"AuthenticAMD.bin": amd_container(
            {0x830F10: 0x8310}, [amd_patch(0x8310, 128)]) + AMD_19H}),
        (("fam17h", "06-5e-03"), {
            "AuthenticAMD.bin": AMD_17H,
            "GenuineIntel.bin": CONTENTS["usr/lib/firmware/intel-ucode/06-5e-03.initramfs"],
        }),
    ],
)  # fmt: skip
def test_one_or_several_processors(cpus: tuple[str, ...], expected: dict[str, bytes]) -> None:
    assert archive(*cpus) == expected


@pytest.mark.parametrize(
    ("cpu", "message"),
    [
        ("06-5e-04", "no package of the lock has it .usr/lib/firmware/intel-ucode/06-5e-04. .did you mean '06-5e-03'"),
        ("fam17h-01-01", "microcode for fam17h-01-01 is asked for, and ucode=1.0 has none for it"),
        ("fam15h", "ucode=1.0 has none for it"),
    ],
)
def test_asked_for_and_not_there(cpu: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        archive(cpu)


def test_without_any_package_the_error_names_it() -> None:
    with pytest.raises(BuildError, match="microcode for intel is asked for, and no package") as error:
        microcode_files(Microcode(vendors=("intel",)), Pool((), {}), "amd64", lambda path: f"{path[17:28]}'s package")
    assert error.value.hint == "intel-ucode's package has it"


def test_only_for_amd64() -> None:
    with pytest.raises(BuildError, match="not for arm64"):
        microcode_files(Microcode(vendors=("intel",)), pool(), "arm64", no_package)
    assert microcode_files(Microcode(), pool(), "arm64", no_package) == []


def test_a_damaged_blob_stops_the_build() -> None:
    (files,) = microcode_files(Microcode(cpus=("06-5e-03",)), pool(), "amd64", no_package)
    with pytest.raises(BuildError, match=r"microcode /usr/lib/.*/06-5e-03.initramfs of ucode=1.0 is not sound"):
        joined_microcode(files, lambda path: CONTENTS[path][:-4] + b"harm")
    with pytest.raises(BuildError, match="for other processors than its name says"):
        joined_microcode(files, lambda _: intel_update(SERVER))


def test_how_processors_are_named() -> None:
    assert parse_cpu("06-5e-03") == Cpu("intel", 6, 0x5E, 3)
    assert parse_cpu("06-5e") == Cpu("intel", 6, 0x5E)
    assert parse_cpu("fam19h") == Cpu("amd", 0x19)
    assert parse_cpu("fam19h-21-02") == Cpu("amd", 0x19, 0x21, 2)
    assert vendors_of(("intel",), ("fam19h",)) == ("amd", "intel")
    # CPUID of a Skylake, an EPYC 7xx1, a Ryzen 5000, a Pentium 4 and an Opteron of family 10h
    signatures = (SKYLAKE, 0x800F12, 0xA20F12, 0xF34, 0x100F42)
    assert [split_signature(each) for each in signatures] == [
        (6, 0x5E, 3), (0x17, 1, 2), (0x19, 0x21, 2), (0xF, 3, 4), (0x10, 4, 2),
    ]  # fmt: skip


def test_signatures_of_an_intel_file() -> None:
    assert intel_signatures(intel_update(SERVER, extended=(OTHER,)) + intel_update(SKYLAKE)) == {SERVER, OTHER, SKYLAKE}
    assert intel_signatures(intel_update(SKYLAKE, body=b"x" * 2000)) == {SKYLAKE}


GOOD = intel_update(SERVER, extended=(OTHER, SKYLAKE))


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_changed_byte_of_an_intel_update_is_seen(place: int, change: int) -> None:
    """All of it is under a checksum."""
    harmed = bytearray(GOOD)
    harmed[place] ^= change
    with pytest.raises(MicrocodeError):
        intel_signatures(bytes(harmed))


@given(st.integers(1, len(GOOD) - 1))
def test_a_cut_intel_file_is_seen(size: int) -> None:
    for part in (GOOD[:size], GOOD + GOOD[:size]):
        with pytest.raises(MicrocodeError):
            intel_signatures(part)


@given(st.integers(1, len(AMD_17H) - 1))
def test_a_cut_amd_file_is_seen_or_ends_with_a_section(size: int) -> None:
    try:
        amd_narrowed(AMD_17H[:size], [])
    except MicrocodeError:
        return
    assert size in {len(amd_container({0: 0, 1: 0}, [])), len(AMD_17H) - 136}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\1" + AMD_17H[1:], "begin with the magic"),
        (AMD_17H[:4] + b"\1" + AMD_17H[5:], "begin with the magic"),
        (AMD_17H[:8] + b"\7" + AMD_17H[9:], "equivalence table says that it has 7"),
        (amd_container({1: 1}, [amd_patch(1, 60)]), "a patch of type 1 says that it has 60 bytes"),
        (amd_container({1: 1}, [amd_patch(1, chipset=1)]), "for one chip set"),
        (AMD_17H + b"\0\0", "header of a patch is cut off"),
    ],
)
def test_what_is_not_sound_in_an_amd_file(data: bytes, message: str) -> None:
    with pytest.raises(MicrocodeError, match=message):
        amd_narrowed(data, [])


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, headed: bool) -> None:
    for read in (intel_signatures, lambda each: amd_narrowed(each, [Cpu("amd", 0x17)])):
        try:
            read((GOOD[:48] if headed else AMD_17H[:12]) + data)
        except MicrocodeError:
            continue


@given(st.dictionaries(st.sampled_from([0x800F12, 0x830F10, 0xA20F12]), st.integers(1, 9), min_size=1))
def test_narrowing_keeps_what_fits_and_can_be_read_again(table: dict[int, int]) -> None:
    data = amd_container(table, [amd_patch(each) for each in sorted(set(table.values()))])
    narrowed = amd_narrowed(data, [Cpu("amd", 0x17)])
    kept = {signature: identity for signature, identity in table.items() if signature != 0xA20F12}
    if not kept:
        assert narrowed == b""
        return
    assert narrowed == amd_container(kept, [amd_patch(each) for each in sorted(set(kept.values()))])
    assert amd_narrowed(narrowed, [Cpu("amd", 0x17)]) == narrowed


def test_each_extended_signature_has_a_checksum_of_its_own() -> None:
    """The table's own checksum does not see what cancels out."""
    harmed = bytearray(GOOD)
    for place, change in ((len(GOOD) - 4, 1), (len(GOOD) - 16, -1)):
        word = int.from_bytes(harmed[place : place + 4], "little") + change
        harmed[place : place + 4] = (word & 0xFFFFFFFF).to_bytes(4, "little")
    with pytest.raises(MicrocodeError, match="of an extended signature"):
        intel_signatures(bytes(harmed))
