# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's configuration against what an image relies on, and kernels without modules."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.errors import BuildError
from preroot.facts.options import builtin_by_config, known_modules, option_of, refuses_unsigned, unfulfilled
from preroot.recipe.conditions import Chosen, Facts, evaluate, replaceable
from preroot.recipe.features import Content, Feature, KernelOptions, Variant, When
from preroot.recipe.library import Features
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.tree.modules import ABSENT, MissingModule
from preroot.tree.options import OptionWish, check_builtin, check_options, option_wishes, without_list

CONFIG = {"EXT4_FS": "y", "OVERLAY_FS": "m", "UNHEARD_OF": "m", "HZ": "250", "UEVENT_HELPER_PATH": "", "TMPFS": "y"}


@pytest.mark.parametrize(
    ("wish", "modules", "why"),
    [
        ("EXT4_FS", (), ""),
        ("XFS_FS", (), "CONFIG_XFS_FS is not set"),
        ("OVERLAY_FS", ("overlay",), ""),
        ("OVERLAY_FS", (), "CONFIG_OVERLAY_FS is m, and its module overlay is not in the image"),
        (
            "UNHEARD_OF",
            ("unheard_of",),
            "CONFIG_UNHEARD_OF is m, and a module of which the name is not known",
        ),
        ("HZ=250", (), ""),
        ("HZ=100", (), "CONFIG_HZ is 250, not 100"),
        ("XFS_FS=n", (), ""),
        ("EXT4_FS=n", (), "CONFIG_EXT4_FS is y, not n"),
        ("UEVENT_HELPER=n|UEVENT_HELPER_PATH=", (), ""),
        ("XFS_FS|EXT4_FS", (), ""),
        ("XFS_FS|BTRFS_FS", (), "CONFIG_XFS_FS is not set and CONFIG_BTRFS_FS is not set"),
        ("TCG_TIS|OVERLAY_FS", ("overlay",), ""),
    ],
)
def test_a_wish(wish: str, modules: tuple[str, ...], why: str) -> None:
    assert unfulfilled(CONFIG, wish, modules).startswith(why) and bool(why) == bool(unfulfilled(CONFIG, wish, modules))


WORD = st.sampled_from(["EXT4_FS", "OVERLAY_FS", "X", "=", "|", "n", "y", ""])


@given(st.lists(WORD, max_size=6).map("".join), st.dictionaries(WORD, WORD))
def test_any_wish_gets_an_answer(wish: str, config: dict[str, str]) -> None:
    assert "\n" not in unfulfilled(config, wish, ())
    assert not unfulfilled(config, f"{wish}|NOWHERE=n", ()), "one of them is enough"


def test_options_and_modules_are_one_to_one() -> None:
    assert len(set(known_modules().values())) == len(known_modules())
    assert option_of("sd_mod") == "BLK_DEV_SD" and option_of("nothing") == ""
    assert builtin_by_config(CONFIG) == ("ext4",)
    assert without_list({**CONFIG, "XFS_FS": "y"}, {"xfs"}) == {"ext4": ""}, "a module on disk is none"


def chosen(name: str, *required: str, recommended: tuple[str, ...] = ()) -> Chosen:
    return Chosen(name, "", {}, Content(kernel_options=KernelOptions(required, recommended)))


def test_what_an_image_relies_on() -> None:
    features = [chosen("a", "TMPFS", recommended=("VT",)), chosen("b", "TMPFS")]
    wishes = list(option_wishes(features, has_modules=True))
    assert [(wish.option, wish.asker, wish.required) for wish in wishes] == [
        ("BLK_DEV_INITRD", "an image of any kind", True), ("MODULES", "the modules of the image", True),
        ("TMPFS", "feature a", True), ("VT", "feature a", False), ("TMPFS", "feature b", True),
    ]  # fmt: skip
    assert "MODULES" not in [wish.option for wish in option_wishes(features, has_modules=False)]


def test_missing_options_are_named_with_who_asks() -> None:
    hard, soft = (
        [OptionWish("A", "x"), OptionWish("B", "x"), OptionWish("A", "y")],
        OptionWish("VT", "x", required=False),
    )
    with pytest.raises(BuildError) as caught:
        check_options("6.1", CONFIG, [*hard, soft, OptionWish("TMPFS", "x")], ())
    assert caught.value.message.splitlines() == [
        "kernel 6.1: CONFIG_A is not set; needed by x, y", "kernel 6.1: CONFIG_B is not set; needed by x",
    ]  # fmt: skip
    warnings = check_options("6.1", CONFIG, [soft, OptionWish("OVERLAY_FS", "y", required=False)], ())
    assert warnings == (
        "kernel 6.1 lacks what features recommend: CONFIG_VT is not set (x); "
        "CONFIG_OVERLAY_FS is m, and its module overlay is not in the image (y)",
    )
    assert check_options("6.1", CONFIG, [OptionWish("OVERLAY_FS", "y", required=False)], {"overlay"}) == ()


def test_which_kernels_refuse_modules_without_signature() -> None:
    assert refuses_unsigned({"MODULE_SIG": "y"}) == ("", False)
    assert refuses_unsigned({"LOCK_DOWN_IN_EFI_SECURE_BOOT": "y"}) == ("LOCK_DOWN_IN_EFI_SECURE_BOOT", False)
    both = {"LOCK_DOWN_IN_EFI_SECURE_BOOT": "y", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY": "y"}
    assert refuses_unsigned(both) == ("LOCK_DOWN_KERNEL_FORCE_INTEGRITY", True)
    assert refuses_unsigned({"MODULE_SIG_FORCE": "y"}) == ("MODULE_SIG_FORCE", True)


def missing(*specs: str) -> list[MissingModule]:
    return [MissingModule(spec, "f", ABSENT) for spec in specs]


def test_without_modules_what_is_not_built_in_is_an_error() -> None:
    with pytest.raises(BuildError, match=r"without modules: xfs, wanted by f, is not built in \(modules\.builtin\)"):
        check_builtin("6.1", CONFIG, missing("xfs"), listed=True)
    with pytest.raises(BuildError) as caught:
        check_builtin("6.1", CONFIG, missing("overlay", "unheard_of", "xfs or btrfs"), listed=False)
    assert caught.value.message.splitlines() == [
        "kernel 6.1, without modules: overlay, wanted by f, is not built in: CONFIG_OVERLAY_FS is m",
        "kernel 6.1, without modules: xfs or btrfs, wanted by f, is not built in: CONFIG_XFS_FS is not set, "
        "CONFIG_BTRFS_FS is not set",
    ]


def test_what_can_not_be_known_is_one_warning() -> None:
    (warning,) = check_builtin("6.1", CONFIG, missing("unheard_of", "drivers/nvme/", "xfs or own"), listed=False)
    assert "its configuration does not say it of these" in warning
    assert warning.endswith("unheard_of (f), drivers/nvme/ (f), xfs or own (f)")
    (warning,) = check_builtin("6.1", {}, missing("ext4"), listed=False)
    assert "it has no configuration either" in warning and "ext4 (f)" in warning
    assert check_builtin("6.1", {}, [], listed=False) == ()


def test_variants_add_options_and_replace_them() -> None:
    options = KernelOptions(required=("A",))
    facts = Facts("debian", "trixie", "amd64", "systemd", {"systemd": "257"})
    more = Variant(kernel_options=KernelOptions(required=("B",)), when=When(systemd=">=256"))
    feature = Feature(kernel_options=options, variant=(more,))
    assert evaluate("f", feature, facts, {}).content.kernel_options.required == ("A", "B")
    other = msgspec.structs.replace(more, replaces=("kernel-options.required",))
    instead = Feature(kernel_options=options, variant=(other,))
    assert evaluate("f", instead, facts, {}).content.kernel_options.required == ("B",)
    assert {"kernel-options", "kernel-options.required", "kernel-options.recommended"} <= set(replaceable())


def test_features_name_options_as_kconfig_does() -> None:
    features = Features(SearchPath((BUILT_IN,)))
    named = [
        option for name in features for content in (features[name], *features[name].variant)
        for option in (*content.kernel_options.required, *content.kernel_options.recommended)
    ]  # fmt: skip
    assert "DEVTMPFS" in named
    assert [each for each in named if not re.fullmatch(r"[A-Z0-9_]+(=\w*)?(\|[A-Z0-9_]+(=\w*)?)*", each)] == []
    assert [each for each in named if "CONFIG_" in each] == []
