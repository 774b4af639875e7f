# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a lock pins besides packages: which changes of preroot, its data and the tools are told, and which are none."""

from __future__ import annotations

import pytest
from image_samples import LOCK
from msgspec import structs

import preroot
from preroot.engine.pinning import brought_up_to_date, changes, data_digests, refuse, tool_changes, unpinned
from preroot.errors import BuildError
from preroot.image.compress import codec_tools
from preroot.packages.model import LocalPackage
from preroot.recipe.conditions import Chosen
from preroot.recipe.distributions import DistributionInfo, load_distribution
from preroot.recipe.drivers import Driver
from preroot.recipe.features import Content, DlopenFact, Feature, Generate, Option
from preroot.recipe.libraries import NO_LIBRARIES, Libraries
from preroot.recipe.search import BUILT_IN, SearchPath

RUNTIME = {"systemd/emergency": b"#!/bin/sh\n", "systemd/unused": b"x"}
FEATURE = Chosen("base", "what it is", {}, Content(generate=(Generate("etc/x", source="systemd/emergency"),)))

DRIVERS = {"x": Driver(evidence="here")}
WRITTEN = {"base": Feature(summary="what it is", options={"x": Option(help="what for")})}
OTHER = {"base": structs.replace(WRITTEN["base"], directory=("srv",))}


def debian() -> DistributionInfo:
    return load_distribution("debian", "trixie", "amd64", SearchPath((BUILT_IN,)))


def digests(
    written: dict[str, Feature], distribution: DistributionInfo, runtime: dict[str, bytes], drivers: dict[str, Driver],
    libraries: Libraries = NO_LIBRARIES,
) -> dict[str, str]:  # fmt: skip
    return data_digests(
        [FEATURE], written, distribution=distribution, runtime=runtime, drivers=drivers, libraries=libraries
    )


def test_what_is_used_is_digested_by_name() -> None:
    found = digests(WRITTEN, debian(), RUNTIME, DRIVERS)
    assert list(found) == ["distribution debian", "drivers", "feature base", "libraries", "runtime systemd/emergency"]
    told = {"base": Feature(summary="other words", options={"x": Option(help="in other words")})}
    assert digests(told, debian(), RUNTIME, DRIVERS) == found
    optional = {"x": structs.replace(DRIVERS["x"], firmware="optional")}
    assert digests(WRITTEN, debian(), RUNTIME, optional)["drivers"] != found["drivers"]
    fact = Libraries((DlopenFact("usr/bin/x", ("liba.so.1",), "seen"),))
    assert digests(WRITTEN, debian(), RUNTIME, DRIVERS, fact)["libraries"] != found["libraries"]


@pytest.mark.parametrize(
    ("feature", "distribution", "runtime", "differs"),
    [
        (OTHER, {}, {}, "feature base"),
        (WRITTEN, {"merged": {}}, {}, "distribution debian"),
        (WRITTEN, {}, {"systemd/emergency": b"#!/bin/sh\nexit\n"}, "runtime systemd/emergency"),
        (WRITTEN, {}, {"systemd/unused": b"y"}, ""),
        (WRITTEN, {"keyrings": ("elsewhere",)}, {}, ""),
    ],
)  # fmt: skip
def test_each_change_is_told_by_name(
    feature: dict[str, Feature], distribution: dict[str, object], runtime: dict[str, bytes], differs: str
) -> None:
    lock = brought_up_to_date(LOCK, digests(WRITTEN, debian(), RUNTIME, DRIVERS))
    now = digests(feature, structs.replace(debian(), **distribution), RUNTIME | runtime, DRIVERS)
    expected = [f"{differs}: not as when the lock was written"] if differs else []
    assert list(changes(lock, now)) == expected
    assert not list(changes(brought_up_to_date(lock, now), now))


def test_another_recipe_is_no_change_of_data() -> None:
    """Features that it takes or leaves are not those of the lock in another form."""
    lock = brought_up_to_date(LOCK, {"feature a": "1", "feature b": "2"})
    assert not list(changes(lock, {"feature b": "2", "feature c": "3"}))
    assert unpinned(lock, ["feature b", "feature c"]) == (
        "the lock does not pin feature c: a build without --locked adds it"
    )
    assert unpinned(lock, ["feature a"]) == ""


def test_many_changes_are_not_all_named() -> None:
    names = [f"feature {letter}" for letter in "abcdefgh"]
    (said,) = changes(brought_up_to_date(LOCK, dict.fromkeys(names, "1")), dict.fromkeys(names, "2"))
    assert said.startswith("feature a, feature b") and "feature f and 2 more: not as" in said


def test_a_changed_directory_is_told_as_the_recipe_names_it() -> None:
    kernel = LocalPackage("kernel-directory", "6.12", "a" * 64, ("../linux", "x"))
    lock = brought_up_to_date(LOCK, LOCK.data, (kernel,))
    assert not list(changes(lock, LOCK.data, (kernel,)))
    said = "../linux x (kernel-directory 6.12): not as when the lock was written"
    assert list(changes(lock, LOCK.data, (structs.replace(kernel, sha256="b" * 64),))) == [said]
    assert list(changes(lock, LOCK.data)) == [said], "gone from the recipe"
    assert list(changes(brought_up_to_date(LOCK, LOCK.data), LOCK.data, (kernel,))) == [said]


def test_another_preroot_is_told() -> None:
    assert list(changes(LOCK, LOCK.data)) == [f"the lock was written by preroot 0, this is {preroot.__version__}"]


def test_tools_are_compared_as_far_as_the_lock_names_them() -> None:
    lock = structs.replace(LOCK, tools={"kmod": "34.2", "libzstd": "1.5.7", "gone": "1"})
    now = {"kmod": "30", "libzstd": "1.5.7", "new": "2"}
    assert list(tool_changes(lock, now)) == ["kmod is 30 here and 34.2 in the lock"]


def test_locked_refuses_and_names_the_way_out() -> None:
    refuse(())
    with pytest.raises(BuildError, match=r"--locked: kmod is .*: the bytes may differ") as caught:
        refuse(["kmod is 30 here and 34.2 in the lock"])
    assert "without --locked" in caught.value.hint


def test_each_codec_names_the_tool_that_compresses() -> None:
    found = codec_tools(["zstd", "xz", "gzip", "none", "zstd"])
    assert list(found) == ["zlib", "liblzma", "libzstd"]
    assert all(version[0].isdigit() for version in found.values()), found
