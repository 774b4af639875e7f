# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scenario files: what is accepted, what is refused and how, and what recipes they mean."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from preroot.boot.preparation import copies, flip_bit, preparation_digest
from preroot.boot.scenariofile import fill_in, load_scenarios
from preroot.boot.serial import Console
from preroot.engine.testing import Chosen, choose, settings
from preroot.errors import BuildError, RecipeError
from preroot.recipe.search import BUILT_IN, SearchPath

GOOD = """
[recipe]
failure.timeout = 20
[recipe.part.base]
features = ["...", "fsck"]
[disks.two]
size = { one = 8, two = 16 }
root = "tiny"
script = "fill $one"
[scenario.good]
summary = "a good one"
disks = "two"
features = ["luks"]
recipe = { file = [{ path = "etc/x", content = "a\\"b\\n" }], verity = { required = true } }
flip = [{ disk = "two", offset = "{here}" }]
[[scenario.good.boot]]
cmdline = "root={where}"
answer = [{ at = "pass", type = "x\\n" }]
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(text)
    return path


def test_a_good_file(tmp_path: Path) -> None:
    file = load_scenarios(_write(tmp_path, GOOD))
    assert list(file.disks["two"].size) == ["one", "two"]
    assert settings(Chosen("good", file.scenario["good"], file)) == (
        "failure.timeout=20",
        'part.base.features=["...", "fsck"]',
        'file=[{"path" = "etc/x", "content" = "a\\"b\\n"}]',
        "verity.required=true",
        'part.base.features=["...", "luks"]',
    )


def test_a_busybox_part_has_features_of_its_own(tmp_path: Path) -> None:
    file = load_scenarios(
        _write(tmp_path, GOOD.replace('features = ["luks"]', 'flavour = "busybox"').replace("...", "ext4"))
    )
    sets = settings(Chosen("good", file.scenario["good"], file))
    assert 'part.base.flavour="busybox"' in sets
    assert 'part.base.features=["ext4", "fsck"]' in sets


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('disks = "two"', 'disks = "tow"', "no set of disks 'tow'"),
        ('root = "tiny"', 'root = "tinny"', "no root 'tinny'"),
        ('root = "tiny"', 'root = "debian"', "needs a device"),
        ('root = "tiny"', "paths = 2", "bus virtio with 2 paths"),
        ('root = "tiny"', 'bus = "scsi"\npaths = 9', "bus scsi with 9 paths"),
        ("one = 8", "One = 8", "no disk can be called 'One'"),
        ("one = 8", "script = 8", "no disk can be called 'script'"),
        ("one = 8", "one = 0", "has 0 MiB"),
        ('disk = "two"', 'disk = "three"', "no disk 'three'"),
        ('at = "pass"', 'at = "("', "no regular expression"),
        ("[[scenario.good.boot]]", "[[scenario.good.boots]]", "boot"),
        ('cmdline = "root={where}"', "cmd = 1", "cmd"),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_scenarios(_write(tmp_path, GOOD.replace(old, new)))
    assert said in error.value.message
    assert "s.toml" in error.value.message
    assert error.value.hint


def test_values_are_filled_in() -> None:
    assert fill_in("roothash={hash} a", {"hash": "00ff"}) == "roothash=00ff a"
    with pytest.raises(RecipeError, match="no value has"):
        fill_in("{has}", {"hash": "1"})


def test_scenarios_are_chosen_by_topic_name_and_path(tmp_path: Path) -> None:
    search = SearchPath((BUILT_IN,))
    assert [each.name for each in choose(("disk-label-busybox",), search, matrix=False)] == ["disk-label-busybox"]
    assert "disk-label-busybox" not in [each.name for each in choose(("disk",), search, matrix=False)]
    assert [each.name for each in choose((str(_write(tmp_path, GOOD)),), search)] == ["good"]
    with pytest.raises(RecipeError, match="no scenario 'dsik-uuid'"):
        choose(("dsik-uuid",), search)


def test_disks_are_copied_and_a_bit_is_flipped(tmp_path: Path) -> None:
    disk = tmp_path / "one.img"
    with disk.open("wb") as file:
        file.write(b"data")
        file.truncate(1 << 20)
    copy = copies({"one": disk}, tmp_path / "copies")["one"]
    flip_bit(copy, 1)
    assert (copy.read_bytes()[:5], copy.stat().st_size) == (b"d`ta\0", 1 << 20)
    assert disk.read_bytes()[:4] == b"data"
    assert copies({"one": disk}, tmp_path / "copies")["one"].read_bytes() == disk.read_bytes()  # over an earlier run's
    with pytest.raises(BuildError, match="no byte 1048576"):
        flip_bit(copy, 1 << 20)


def test_disks_are_kept_by_all_that_makes_them() -> None:
    kept = {
        preparation_digest("a", {"x": 1, "y": 2}, ""), preparation_digest("b", {"x": 1, "y": 2}, ""),
        preparation_digest("a", {"y": 2, "x": 1}, ""), preparation_digest("a", {"x": 1, "y": 2}, "tree"),
        preparation_digest("a", {"x": 1, "y": 2}, "", tpm=True),
    }  # fmt: skip
    assert len(kept) == 5


def test_answers_are_given_in_order_and_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    given: list[str] = []
    with os.fdopen(reading, "rb", buffering=0) as output:
        console = Console(output, None, tmp_path / "log", time.monotonic() + 20)
        os.write(writing, b"second? no\nfirst?")

        def first() -> None:
            given.append("first")
            os.write(writing, b"second?")

        def second() -> None:
            given.append("second")
            os.close(writing)

        assert console.drain(answers=[("first[?]", first), ("second[?]", second)])
        console.close()
    assert given == ["first", "second"]


def test_the_first_boot_resumes_nothing(tmp_path: Path) -> None:
    second = GOOD + "[[scenario.good.boot]]\nresumes = true\n"
    assert load_scenarios(_write(tmp_path, second)).scenario["good"].boot[1].resumes
    with pytest.raises(RecipeError, match="the first boot can't resume another"):
        load_scenarios(_write(tmp_path, GOOD + "resumes = true\n"))
