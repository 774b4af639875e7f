# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a lock pins besides packages: which changes of preroot, its data and the tools are told, and which are none."""

from __future__ import annotations

import pytest
from image_samples import LOCK
from msgspec import structs

import preroot
from preroot.engine.pinning import brought_up_to_date, changes, data_digests, refuse, tool_changes
from preroot.errors import BuildError
from preroot.image.compress import codec_tools
from preroot.packages.model import LocalPackage
from preroot.recipe.conditions import Chosen
from preroot.recipe.distributions import DistributionInfo, load_distribution
from preroot.recipe.drivers import Driver
from preroot.recipe.features import Content, DlopenFact, Generate
from preroot.recipe.libraries import Libraries
from preroot.recipe.search import BUILT_IN, SearchPath

RUNTIME = {"systemd/emergency": b"#!/bin/sh\n", "systemd/unused": b"x"}
FEATURE = Chosen("base", "what it is", {}, Content(generate=(Generate("etc/x", source="systemd/emergency"),)))

DRIVERS = {"x": Driver(evidence="here")}
OTHER = structs.replace(FEATURE, content=structs.replace(FEATURE.content, directory=("srv",)))


def debian() -> DistributionInfo:
    return load_distribution("debian", "trixie", "amd64", SearchPath((BUILT_IN,)))


def test_what_is_used_is_digested_by_name() -> None:
    found = data_digests([FEATURE], debian(), RUNTIME, DRIVERS)
    assert list(found) == ["distribution debian", "drivers", "feature base", "libraries", "runtime systemd/emergency"]
    assert data_digests([structs.replace(FEATURE, summary="other words")], debian(), RUNTIME, DRIVERS) == found
    optional = {"x": structs.replace(DRIVERS["x"], firmware="optional")}
    assert data_digests([FEATURE], debian(), RUNTIME, optional)["drivers"] != found["drivers"]
    fact = Libraries((DlopenFact("usr/bin/x", ("liba.so.1",), "seen"),))
    assert data_digests([FEATURE], debian(), RUNTIME, DRIVERS, fact)["libraries"] != found["libraries"]


@pytest.mark.parametrize(
    ("feature", "distribution", "runtime", "differs"),
    [
        (OTHER, {}, {}, "feature base"),
        (FEATURE, {"merged": {}}, {}, "distribution debian"),
        (FEATURE, {}, {"systemd/emergency": b"#!/bin/sh\nexit\n"}, "runtime systemd/emergency"),
        (FEATURE, {}, {"systemd/unused": b"y"}, ""),
        (FEATURE, {"keyrings": ("elsewhere",)}, {}, ""),
    ],
)  # fmt: skip
def test_each_change_is_told_by_name(
    feature: Chosen, distribution: dict[str, object], runtime: dict[str, bytes], differs: str
) -> None:
    lock = brought_up_to_date(LOCK, data_digests([FEATURE], debian(), RUNTIME, DRIVERS))
    now = data_digests([feature], structs.replace(debian(), **distribution), RUNTIME | runtime, DRIVERS)
    expected = [f"{differs}: not as when the lock was written"] if differs else []
    assert list(changes(lock, now)) == expected
    assert not list(changes(brought_up_to_date(lock, now), now))


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
