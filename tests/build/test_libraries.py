# SPDX-License-Identifier: LGPL-2.1-or-later
"""Libraries without NEEDED, in images of real packages: each string that looks like one is explained, and plugins of a
family that is in use come in or are missed by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixture_types import Command, LockMaker
from msgspec import structs

from elf_samples import make_elf
from preroot.engine import Engine, Overrides
from preroot.errors import BuildError
from preroot.recipe.conditions import has_flavour
from preroot.recipe.libraries import Dismissal, load_libraries
from preroot.recipe.library import Features
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.tree.model import Plan
from preroot.tree.unexplained import Scan

OURS = SearchPath((BUILT_IN,))
#: Programs that no feature takes yet and that load libraries by name, or whose plugins are a family.
PACKAGES = ("coreutils", "dmeventd", "e2fsprogs", "lvm2", "mdadm", "multipath-tools", "network-manager")
PROGRAMS = (
    "usr/bin/sort", "usr/sbin/dmeventd", "usr/sbin/lvm", "usr/sbin/mdadm", "usr/sbin/mke2fs", "usr/sbin/multipathd",
    "usr/sbin/NetworkManager",
)  # fmt: skip
WIDE = (f"packages={json.dumps(PACKAGES)}", f"take={json.dumps(PROGRAMS)}")


#: Features whose modules no kernel of amd64 has.
ELSEWHERE = {"dasd"}
#: Options by which features have more programs and libraries than without.
OPTIONS = {"systemd": ("features.pkcs11.module=opensc",), "busybox": ()}


def every_feature(flavour: str) -> tuple[str, ...]:
    """Return the values of a recipe with all features of a flavour that amd64 has."""
    library = Features(OURS)
    names = [name for name in library if has_flavour(library[name], flavour) and name not in ELSEWHERE]
    return f"part.base.flavour={flavour}", f"part.base.features={json.dumps(names)}", *OPTIONS[flavour]


def planned(engine: Engine, debian_lock: LockMaker, release: str, *sets: str) -> tuple[Plan, Scan]:
    loaded = engine.load(None, Overrides(set=(f"distribution.release={release}", "distribution.arch=amd64", *sets)))
    locked = engine.lock(loaded, debian_lock(release, "amd64", *sets))
    plan = engine.plan(loaded, locked)
    return plan, engine.scan(loaded, locked, plan)


def scans(engine: Engine, debian_lock: LockMaker, *releases: str) -> Iterator[Scan]:
    for release in releases:
        for sets in (every_feature("systemd"), every_feature("busybox"), WIDE):
            yield planned(engine, debian_lock, release, *sets)[1]


def test_every_string_like_a_soname_is_explained(engine: Engine, debian_lock: LockMaker) -> None:
    """In images with all features, and with programs of families that no feature has; and no dismissal is idle."""
    used: list[Dismissal] = []
    for found in scans(engine, debian_lock, "bookworm", "trixie"):
        assert found.unexplained == ()
        assert found.stale == ()
        used += found.used
    idle = [each for each in load_libraries(OURS).dismissals if each not in used]
    assert [each for each in idle if each.version != ">=262"] == []


@pytest.mark.matrix
def test_every_string_like_a_soname_is_explained_in_sid(engine: Engine, debian_lock: LockMaker) -> None:
    used: list[Dismissal] = []
    for found in scans(engine, debian_lock, "sid"):
        assert found.unexplained == ()
        assert found.stale == ()
        used += found.used
    idle = [each for each in load_libraries(OURS).dismissals if each not in used]
    assert [each for each in idle if each.version == ">=262"] == []


def test_families_of_real_packages(engine: Engine, debian_lock: LockMaker) -> None:
    plan, _ = planned(engine, debian_lock, "trixie", *WIDE)
    paths = {path for part in plan.parts for path in part.tree.entries}
    triplet = "usr/lib/x86_64-linux-gnu"
    assert {
        "usr/lib/multipath/libcheckdirectio.so", "usr/lib/multipath/libprioalua.so",
        f"{triplet}/device-mapper/libdevmapper-event-lvm2thin.so",
        f"{triplet}/libgcc_s.so.1",  # multipathd cancels threads
    } <= paths  # fmt: skip


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (
            (*WIDE, 'exclude=["usr/lib/multipath/libprio*"]'),
            "usr/lib/multipath/libprioalua.so, asked for by /usr/lib/libmultipath.so.0.*the recipe excludes",
        ),
        (
            (
                'packages=["libnss-systemd"]', 'exclude=["**/libnss_systemd.so.2"]',
                'file=[{path="etc/nsswitch.conf", content="passwd: files systemd\\n"}]',
            ),
            "libnss_systemd.so.2, asked for by /etc/nsswitch.conf .nss:systemd., is missing: the recipe excludes",
        ),
        (
            ('file=[{path="etc/pam.d/x", content="auth required pam_gone.so\\n"}]',),
            "security/pam_gone.so, asked for by /etc/pam.d/x .pam:gone., is missing: no package of the lock has it",
        ),
    ],
)  # fmt: skip
def test_a_plugin_in_use_that_is_not_there_fails_the_build(
    engine: Engine, debian_lock: LockMaker, sets: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BuildError, match=words):
        planned(engine, debian_lock, "trixie", *sets)


def test_what_is_unexplained_is_told(engine: Engine, debian_lock: LockMaker, tmp_path: Path) -> None:
    """Take the dismissals away, and the strings are there."""
    text = (BUILT_IN / "libraries/mentions.toml").read_text().replace('"libsepol.so.2"', '"libother.so.2"')
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries/mentions.toml").write_text(text)
    loaded = engine.load(None, Overrides(set=("distribution.release=trixie", "distribution.arch=amd64")))
    locked = engine.lock(loaded, debian_lock("trixie", "amd64"))
    changed = load_libraries(SearchPath((BUILT_IN, tmp_path)))
    found = engine.scan(loaded, structs.replace(locked, libraries=changed), engine.plan(loaded, locked))
    assert [(each.soname, each.path) for each in found.unexplained] == [
        ("libsepol.so.2", "usr/lib/x86_64-linux-gnu/libselinux.so.1")
    ]
    assert [each.sonames for each in found.stale] == [("libother.so.2",)]


def test_a_program_of_the_recipe_is_looked_at_too(preroot: Command, tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(make_elf(rest=b"\0libunheardof.so.7\0"))
    recipe = tmp_path / "own.toml"
    recipe.write_text('[[file]]\npath = "usr/bin/tool"\nsource = "tool"\nmode = "0755"\n')
    done = preroot("plan", recipe, "--unexplained", "--output", tmp_path / "out")
    assert (done.returncode, done.stdout.split()) == (0, ["libunheardof.so.7", "in", "/usr/bin/tool", "recipe"])
    done = preroot("plan", "--unexplained", "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "all is explained\n")
