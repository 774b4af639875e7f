# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where preroot works: the cache directory and the search path."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from preroot.facts.arch import arch
from preroot.packages.source import Source, open_source
from preroot.recipe.distributions import DistributionInfo, load_distribution
from preroot.recipe.schema import Distribution
from preroot.recipe.search import SEARCH_PATH, SearchPath


class Workspace(Struct, frozen=True):
    """The directories that an engine uses.

    `cache` has what can be made again: `archives/` and `lists/` (package files and indexes), `store/` (unpacked
    packages), `boot/` (disks and logs of machines), `unchanged/` (what the last builds were made from).
    """

    cache: Path
    search: SearchPath = SEARCH_PATH

    @property
    def store(self) -> Path:
        """Return the store's directory."""
        return self.cache / "store"

    @property
    def boot(self) -> Path:
        """Return the directory for machines' disks and logs."""
        return self.cache / "boot"


def source_of(distribution: Distribution, workspace: Workspace, info: DistributionInfo | None = None) -> Source:
    """Return the source of a distribution's packages that its table asks for.

    `info` is what is known of the distribution, where that has been read. Raises RecipeError for an unknown one.
    """
    if info is None:
        info = load_distribution(
            distribution.name, distribution.release, arch(distribution.arch).name, workspace.search
        )  # fmt: skip
    return open_source(
        distribution, default_suites=info.suites, keyring_candidates=info.keyrings, cache=workspace.cache
    )


def read_runtime(search: SearchPath) -> dict[str, bytes]:
    """Return the files of runtime/ by path below it; those of a directory with higher priority win."""
    found: dict[str, bytes] = {}
    for directory in search.directories:
        top = directory / "runtime"
        if top.is_dir():
            for file in sorted(top.rglob("*")):
                if file.is_file():
                    found[str(file.relative_to(top))] = file.read_bytes()
    return found


def runtime_directories(search: SearchPath) -> list[Path]:
    """Return the directories in which runtime files lie or may appear."""
    tops = [directory / "runtime" for directory in search.directories]
    return [*tops, *(each for top in tops if top.is_dir() for each in sorted(top.rglob("*")))]
