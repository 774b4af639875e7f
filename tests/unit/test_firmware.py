# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which firmware goes into an image with its drivers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from worlds import file, index, link

from preroot.errors import RecipeError
from preroot.facts.kernel import parse_builtin_firmware
from preroot.packages.model import FileInfo, ModuleInfo
from preroot.recipe.drivers import Driver, driver_files, load_drivers
from preroot.recipe.schema import Exception_
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.tree.firmware import (
    FIRMWARE,
    Asking,
    FirmwareRules,
    FirmwareSelection,
    askings,
    is_about_firmware,
    lacking_line,
    select_firmware,
)
from preroot.tree.modules import ModuleRequest, make_world, select_modules
from preroot.tree.pool import Pool

VERSION = "6.12"
KO = f"usr/lib/modules/{VERSION}/kernel/drivers/x.ko"


def driver(firmware: str, **more: object) -> Driver:
    return Driver(firmware=firmware, evidence="here", **more)  # type: ignore[arg-type]


def chosen(
    files: list[FileInfo], *names: str, required: str = "", named: bool = False, **rules: object
) -> FirmwareSelection:
    """Select for one driver, `x`; `files` are below the firmware directory."""
    moved = [structs.replace(each, path=f"lib/firmware/{each.path}") for each in files]
    pool = Pool([index(moved)], {"lib": "usr/lib"})
    asking = Asking("x", KO, names, required, named or bool(required))
    return select_firmware([asking], pool, VERSION, FirmwareRules(**rules), _package)  # type: ignore[arg-type]


def _package(name: str) -> str:
    return "firmware-bnx2" if name.startswith("bnx2/") else ""


def below(selection: FirmwareSelection) -> set[str]:
    return {path.removeprefix(f"{FIRMWARE}/") for path in selection.paths}


@pytest.mark.parametrize(
    ("have", "taken"),
    [
        (["a.bin"], "a.bin"),
        (["a.bin", f"{VERSION}/a.bin"], f"{VERSION}/a.bin"),
        (["a.bin", f"{VERSION}/a.bin", "updates/a.bin"], "updates/a.bin"),
        (["updates/a.bin", f"updates/{VERSION}/a.bin"], f"updates/{VERSION}/a.bin"),
        ([f"updates/{VERSION}/a.bin.xz", "a.bin.zst"], "a.bin.zst"),  # the kernel tries .zst everywhere before .xz
        (["updates/a.bin.zst", "a.bin"], "a.bin"),  # and plain files before both
        (["6.11/a.bin"], None),
    ],
)
def test_the_kernels_search_order(have: list[str], taken: str | None) -> None:
    assert below(chosen([file(path) for path in have], "a.bin")) == ({taken} if taken else set())


def test_links_come_with_their_targets_and_reasons() -> None:
    files = [
        link("nvidia/ad103/gsp", "../ad102/gsp"), link("nvidia/ad102/gsp/a.bin.xz", "b.bin.xz"),
        file("nvidia/ad102/gsp/b.bin.xz"), file("nvidia/ad102/gsp/other.bin.xz"),
    ]  # fmt: skip
    found = chosen(files, "nvidia/ad103/gsp/a.bin")
    assert below(found) - {"nvidia/ad103"} == {
        "nvidia/ad103/gsp", "nvidia/ad102/gsp/a.bin.xz", "nvidia/ad102/gsp/b.bin.xz",
    }  # fmt: skip
    assert set(found.compressed) == {f"{FIRMWARE}/nvidia/ad102/gsp/{name}.bin.xz" for name in "ab"}
    first = found.paths[f"{FIRMWARE}/nvidia/ad103/gsp"][0]
    assert (first.kind, first.asker, first.detail) == ("firmware", KO, "nvidia/ad103/gsp/a.bin")
    last = found.paths[f"{FIRMWARE}/nvidia/ad102/gsp/b.bin.xz"][0]
    assert (last.kind, last.asker) == ("symlink", f"{FIRMWARE}/nvidia/ad102/gsp/a.bin.xz")


def test_globs_and_what_no_modinfo_names() -> None:
    board = "brcm/brcmfmac43455-sdio.raspberrypi,4-model-b.txt"
    files = [file(board), file("brcm/brcmfmac43455-sdio.txt"), file("brcm/deep/brcmfmac43455-sdio.x.txt")]
    assert below(chosen(files, "brcm/brcmfmac*-sdio.*.txt")) == {board}
    more = {"x": driver("any", more=("brcm/brcmfmac*-sdio.txt",))}
    assert below(chosen(files, drivers=more)) == {"brcm/brcmfmac43455-sdio.txt"}


@pytest.mark.parametrize(("counts", "taken"), [(True, {"iwl-so-89.ucode"}), (False, set())])
def test_older_versions_where_the_driver_counts_down(counts: bool, taken: set[str]) -> None:
    files = [file(f"iwl-so-{number}.ucode") for number in (72, 89, 97)] + [file("iwl-ty-90.ucode")]
    found = chosen(files, "iwl-so-92.ucode", drivers={"x": driver("any", counts_down=counts)})
    assert below(found) == taken
    assert bool(found.left_out) is not counts


@pytest.mark.parametrize(
    ("need", "have", "faulty"),
    [("all", ["a"], True), ("all", ["a", "b"], False), ("any", ["a"], False), ("any", [], True),
     ("optional", [], False)],
)  # fmt: skip
def test_a_named_driver_must_have_what_it_needs(need: str, have: list[str], faulty: bool) -> None:
    found = chosen([file(name) for name in have], "a", "b", required="feature net", drivers={"x": driver(need)})
    assert bool(found.problems) is faulty
    assert not found.lacking
    by_class = chosen([file(name) for name in have], "a", "b", drivers={"x": driver(need)})
    assert not by_class.problems
    assert [module for module, _ in by_class.lacking] == (["x"] if faulty else [])
    assert {each.what for each in by_class.left_out} == {f"firmware {name}" for name in {"a", "b"} - {*have}}


def test_the_error_names_module_file_asker_and_package() -> None:
    found = chosen([], "bnx2/a.fw", "bnx2/b.fw", required="the recipe")
    assert found.problems == (
        "firmware bnx2/a.fw (and 1 more) of module x, wanted by the recipe, is missing: no package of the lock has it; "
        "firmware-bnx2 has it",
    )


def test_exceptions_make_it_optional_and_unused_ones_are_faults() -> None:
    exception = Exception_("lib/firmware/bnx2/*", "/usr/lib/modules/*/x.ko", "the card has it in flash")
    assert is_about_firmware(exception)
    assert not is_about_firmware(Exception_("usr/lib/firmwares", "a", "b"))
    rules = ((exception, "the recipe"),)
    found = chosen([], "bnx2/a.fw", required="the recipe", exceptions=rules)
    assert not found.problems
    assert [each.reason for each in found.left_out] == ["an exception is declared for it: the card has it in flash"]
    assert chosen([file("bnx2/a.fw")], "bnx2/a.fw", exceptions=rules).problems
    other = Exception_("lib/firmware/bnx2/*", "usr/lib/modules/*/other.ko", "elsewhere")
    assert chosen([], exceptions=((other, "the recipe"),)).problems
    assert not chosen([], exceptions=((other, "feature a"),)).problems, "its driver is not in this image"


def test_graphics_firmware_never_by_accident() -> None:
    rules = {"x": driver("any", graphics=True)}
    unnamed = chosen([file("amdgpu/a.bin")], "amdgpu/a.bin", drivers=rules)
    assert not unnamed.paths
    assert [each.what for each in unnamed.left_out] == ["firmware of x (1 files)"]
    assert not unnamed.lacking
    assert below(chosen([file("amdgpu/a.bin")], "amdgpu/a.bin", named=True, drivers=rules)) == {"amdgpu/a.bin"}


def test_include_and_exclude() -> None:
    files = [file("a/one.bin"), file("a/two.bin"), file("b.bin")]
    assert below(chosen(files, "b.bin", include=("a/*",))) == {"a/one.bin", "a/two.bin", "b.bin"}
    found = chosen(files, "b.bin", "a/one.bin", exclude=("a/*",))
    assert below(found) == {"b.bin"}
    assert found.left_out[0].reason == "it is left out by firmware.exclude 'a/*'"
    assert chosen(files, "b.bin", required="the recipe", exclude=("b*",)).problems[0].endswith("firmware.exclude 'b*'")
    assert not below(chosen(files, "b.bin", exclude_paths=("usr/lib/firmware",)))
    assert chosen(files, include=("bnx2/*",)).problems == (
        "firmware.include 'bnx2/*' matches nothing in the packages of the lock; firmware-bnx2 has it",
    )
    assert chosen(files, include=("a/*",), exclude=("a/*",)).problems == ("firmware.include 'a/*' is excluded again",)


@pytest.mark.parametrize("name", ["../../etc/shadow", "/etc/shadow", "", "a/../b.bin"])
def test_names_that_the_kernel_refuses(name: str) -> None:
    assert not chosen([file("b.bin"), file("../etc/shadow")], name).paths


@given(st.lists(st.text(max_size=12), max_size=4), st.sampled_from(["all", "any", "optional"]), st.booleans())
def test_any_names_are_answered(names: list[str], need: str, counts: bool) -> None:
    files = [file("a-1.bin"), file("a-2.bin.xz")]
    found = chosen(files, *names, required="the recipe", drivers={"x": driver(need, counts_down=counts)})
    assert below(found) <= {"a-1.bin", "a-2.bin.xz"}
    assert {each for each in names if not set(each) & set("*?[")} <= (
        {each.what.removeprefix("firmware ") for each in found.left_out}
        | {reason.detail.removesuffix(", or older") for reasons in found.paths.values() for reason in reasons}
    )


def test_who_asks() -> None:
    def info(name: str, *firmware: str, depends: tuple[str, ...] = ()) -> ModuleInfo:
        return ModuleInfo(name, depends, (), (), (), (), firmware, "", "0" * 64, 1)

    base = f"usr/lib/modules/{VERSION}/"
    modules = {
        "kernel/gpu/i915.ko.xz": info("i915", "a"), "kernel/net/bnx2-x.ko": info("bnx2_x", "b", depends=("mii",)),
        "kernel/net/mii.ko": info("mii", "c"), "kernel/net/e.ko": info("e"),
    }  # fmt: skip
    world = make_world(
        VERSION, [(base + path, it) for path, it in modules.items()], "kernel/gpu/xe.ko\nkernel/y/z.ko\n"
    )
    wishes = [
        ModuleRequest("bnx2-x", "required", "net"), ModuleRequest("gpu/", "if-present", "console"),
        ModuleRequest("e", "if-present", "net"), ModuleRequest("mii", "any-of", "net"),
    ]  # fmt: skip
    builtin = parse_builtin_firmware(b"xe.firmware=x1\0xe.firmware=x2\0z.firmware=z\0xe.alias=q\0")
    places = {name: f"{base}{name}.ko" for name in ("i915", "bnx2_x", "mii", "e", "xe")}
    found = askings(select_modules(world, wishes), wishes, {"e": driver("any")}, builtin, places)
    assert [(each.module, each.names, each.required_by, each.named) for each in found] == [
        ("bnx2_x", ("b",), "feature net", True),
        ("e", (), "", True),
        ("i915", ("a",), "", False),
        ("mii", ("c",), "feature net", True),
        ("xe", ("x1", "x2"), "", False),
    ]


def test_the_summary_is_one_line() -> None:
    assert lacking_line((), _package) == ""
    lacking = [("bnx2", "bnx2/a"), *((f"m{number}", "other") for number in range(5))]
    assert lacking_line(lacking, _package) == (
        "6 drivers lack firmware (bnx2, m0, m1, m2 …); firmware-bnx2 would have it: preroot plan --left-out lists it"
    )


def test_drivers_toml_and_its_drop_ins(tmp_path: Path) -> None:
    search = SearchPath((BUILT_IN, tmp_path))
    assert load_drivers(search)["iwlwifi"].counts_down
    (tmp_path / "drivers.toml.d").mkdir()
    drop_in = tmp_path / "drivers.toml.d/mine.toml"
    drop_in.write_text('[driver.mine]\nfirmware = "any"\nevidence = "x"\n')
    loaded = load_drivers(search)
    assert loaded["mine"].firmware == "any"
    assert loaded["amdgpu"].graphics
    assert {drop_in, BUILT_IN / "drivers.toml"} <= set(driver_files(search))
    drop_in.write_text('[driver.mine]\nfirmware = "some"\nevidence = "x"\n')
    with pytest.raises(RecipeError, match=r"mine.toml:2: driver.mine.firmware"):
        load_drivers(search)
