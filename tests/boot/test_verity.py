# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images that know which root hash they are for: only known once the disks are made, so no scenario file can say it."""

from __future__ import annotations

from lab import Lab
from msgspec import structs

from preroot.boot.scenariofile import Boot
from preroot.engine import Engine
from preroot.engine.testing import Chosen, ScenarioRunner, choose
from preroot.recipe.schema import Distribution
from preroot.recipe.search import BUILT_IN, SearchPath

DATA = "systemd.verity_root_data=/dev/disk/by-id/virtio-"
HASHES = "systemd.verity_root_hash=/dev/disk/by-id/virtio-hashes"


def test_only_the_pinned_root_hash(lab: Lab) -> None:
    """Its device comes up without roothash=; a root that is on verity too, but another, is refused."""
    (chosen,) = choose(("verity-root",), SearchPath((BUILT_IN,)))
    boots = (
        Boot(cmdline=f"root=/dev/mapper/root {DATA}data {HASHES}", must=("later-read",)),
        Boot(
            cmdline=f"root=/dev/mapper/root roothash={{evilhash}} {DATA}evil {HASHES} "
            "systemd.verity_root_options=hash-offset=2097152",
            reached=False,
            must=("its root hash [0-9a-f]{64} is none that the image is for", "shell is locked"),
        ),
    )
    with Engine(lab.workspace) as engine:
        runner = ScenarioRunner(engine, lab.session / "scenarios")
        values = runner.preparer.prepare(chosen.file.disks["verity"], Distribution()).values
        recipe = {"verity": {"roothash": [values["roothash"]]}}
        spec = structs.replace(chosen.spec, recipe=recipe, boot=boots)
        result = runner.run(Chosen("verity-pinned", spec, chosen.file))
    assert result.problems == ()
