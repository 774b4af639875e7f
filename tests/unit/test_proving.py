# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is decided about a boot before a machine is started, and what is made of its result; the tree of `why`."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from image_samples import file, part, plan, tree
from msgspec import structs

from preroot.boot.console import FailedUnit, Milestone
from preroot.boot.disks import DiskRecipe, Volume
from preroot.boot.realroot import SystemReport
from preroot.boot.scenario import BootResult
from preroot.cli.boot import failure
from preroot.cli.why import tree as why_tree
from preroot.engine.proving import Proof, check_root, fit_disk, full_cmdline, read_built
from preroot.errors import BuildError, RecipeError
from preroot.image.content import ContentReader
from preroot.image.manifest import Manifest, ManifestKernel, encode, make_manifest
from preroot.image.write import write_image
from preroot.inspect.why import index_of_plan, lookup, why
from preroot.tree.model import Reason

CONTENT = tree(file("usr/bin/x", b"x"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A built image with manifest and kernel beside it."""
    what = plan(part("base", CONTENT))
    path = tmp_path / "t.initrd"
    beside = {"kernel": sha256(b"kernel").hexdigest()}
    manifest = make_manifest(what, write_image(what, path, ContentReader()), beside)
    path.with_name("t.manifest.json").write_bytes(encode(manifest))
    path.with_name("t.vmlinuz").write_bytes(b"kernel")
    return path


def with_modules(image: Path, *modules: str, builtin: tuple[str, ...] = ()) -> Manifest:
    kernel = ManifestKernel("6.1", (), dict.fromkeys(modules, "path"), builtin)
    return structs.replace(read_built(image).manifest, kernel=kernel)


def test_an_image_is_booted_with_what_lies_beside_it(image: Path) -> None:
    built = read_built(image)
    assert (built.kernel.name, built.manifest.name, built.manifest.arch) == ("t.vmlinuz", "t", "amd64")


@pytest.mark.parametrize(
    ("name", "message"),
    [("t.vmlinuz", "there is no kernel"), ("t.manifest.json", "there is no manifest"), ("t.initrd", "no image")],
)
def test_an_image_without_its_company(image: Path, name: str, message: str) -> None:
    image.with_name(name).unlink()
    with pytest.raises(BuildError, match=message):
        read_built(image)


def test_a_manifest_of_another_image(image: Path) -> None:
    image.write_bytes(image.read_bytes() + bytes(4))
    with pytest.raises(BuildError, match=r"t\.initrd is not what its manifest .*t\.manifest\.json says"):
        read_built(image)


def test_a_kernel_of_another_build(image: Path) -> None:
    """What a build leaves that is killed between two of its files: same size, other content."""
    image.with_name("t.vmlinuz").write_bytes(b"lenrek")
    with pytest.raises(BuildError, match=r"t\.vmlinuz is not what its manifest .*: they are of two builds"):
        read_built(image)


def test_a_root_needs_its_module_in_the_image(image: Path) -> None:
    assert check_root("xfs", with_modules(image, "xfs")) == "xfs"
    assert check_root("ext4", with_modules(image, builtin=("ext4",))) == "ext4"
    assert check_root("debian", with_modules(image, "ext4")) == "ext4"
    with pytest.raises(BuildError, match="no module xfs") as caught:
        check_root("xfs", with_modules(image, "ext4"))
    assert caught.value.hint == "build with --feature xfs"
    with pytest.raises(RecipeError, match="no root 'btrsf'") as nearest:
        check_root("btrsf", with_modules(image))
    assert nearest.value.hint == "did you mean 'btrfs'?"
    with pytest.raises(RecipeError, match="no root 'vfat'"):
        check_root("vfat", with_modules(image, "vfat"))


def test_the_root_of_the_test_takes_the_place_of_the_recipes() -> None:
    recipe = ("root=LABEL=mine", "rw", "rootflags=subvol=@", "quiet", "rootwait", "mount.usr=x")
    assert full_cmdline(recipe, "root=UUID=1", "rd.x y") == "quiet rootwait mount.usr=x root=UUID=1 rd.x y"
    assert full_cmdline((), "root=UUID=1", "") == "root=UUID=1"


RESULT = BootResult(
    name="t-ext4", reached=True, problems=(),
    milestones=(Milestone("kernel", 0.0, True, ""), Milestone("udev", 4.5, True, "")),
    failed_units=(), cause="", log="/log", timed_out=False, guest_seconds=9.0, host_seconds=11.0, memory={},
    mount=("/dev/vda", "ext4", "ro"),
)  # fmt: skip


def test_a_distributions_root_must_be_well() -> None:
    assert Proof(RESULT, None, "").problems == ()
    assert Proof(RESULT, SystemReport("running", (), 5), "").problems == ()
    ill = Proof(RESULT, SystemReport("degraded", ("failed a.service", "not-found b.service (required by c)"), 5), "")
    assert ill.problems == (
        "the root's systemd says that it is degraded, not running",
        "a unit of the root is failed: a.service",
        "a unit of the root is not-found: b.service (required by c)",
    )
    assert "in no state" in Proof(RESULT, SystemReport("", (), 0), "").problems[0]


def test_a_failed_boot_is_told_in_plain_words() -> None:
    units = (FailedUnit("sysroot.mount", "timeout"),)
    result = structs.replace(RESULT, reached=False, problems=("the root was not reached",), failed_units=units,
                             cause="the disk is missing")  # fmt: skip
    error = failure(Proof(result, None, ""))
    assert error.message.splitlines() == [
        "the root was not reached",
        "the last milestone was udev at 4.5 s",
        "unit sysroot.mount failed: timeout",
        "likely cause: the disk is missing",
    ]
    assert error.hint == "the serial console is in /log"
    nothing = failure(Proof(structs.replace(result, milestones=(), failed_units=(), cause=""), None, ""))
    assert nothing.message.splitlines()[1:] == ["no milestone was seen"]


MODULES = "usr/lib/modules/6.1/kernel/fs/btrfs"
WHY = index_of_plan(
    plan(
        part(
            "base",
            tree(
                file(f"{MODULES}/btrfs.ko", reasons=(Reason("feature", "btrfs", "btrfs"),)),
                file(f"{MODULES}/xor.ko", reasons=(Reason("module", f"{MODULES}/btrfs.ko", "xor"),)),
                file("usr/bin/a", reasons=tuple(Reason("feature", f"f{n}", "a" * 200) for n in range(4))),
            ),
        )
    )
)


def test_a_modules_name_is_not_taken_for_its_directory() -> None:
    assert lookup(WHY, "btrfs", "t") == f"{MODULES}/btrfs.ko"


def test_why_is_shown_as_a_tree() -> None:
    assert list(why_tree(why(WHY, f"{MODULES}/xor.ko"), WHY, None)) == [
        f"{MODULES}/xor.ko  [a=1]",
        f"└─ module {MODULES}/btrfs.ko depends on it  [a=1]",
        "   └─ feature btrfs takes it (btrfs)",
    ]
    lines = list(why_tree(why(WHY, "usr/bin/a"), WHY, 2))
    assert lines[1].startswith("├─ feature f0 takes it (aaa") and lines[1].endswith("a…)")
    assert lines[3:] == ["└─ and 2 more (--all)"]


def test_a_card_has_the_size_that_cards_have() -> None:
    recipe = DiskRecipe((Volume("ext4", "content"),))
    assert fit_disk(recipe, "mmc").power_of_two
    assert fit_disk(recipe, "usb") == recipe
