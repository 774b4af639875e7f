# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interface that all package sources share, and the one place that knows which sources there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from preroot.errors import RecipeError
from preroot.packages.model import Package, Resolution
from preroot.progress import Reporter
from preroot.recipe.schema import Distribution


class Source(Protocol):
    """Where packages come from. Nothing is read or run before the first call that needs it."""

    def candidates(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return package → version that would be taken, for those of `names` that the source has.

        Arguments: package names, as in requests `name` or `name/arch`. Raises BuildError when the source's indexes
        cannot be had.
        """

    def names(self, prefix: str) -> Sequence[str]:
        """Return the names of all packages that begin with `prefix` (may be empty), in no order.

        Raises BuildError as `candidates` does.
        """

    def resolve(self, requests: Sequence[str], reporter: Reporter) -> Resolution:
        """Return the exact packages for `requests` with everything that they depend on (recommendations left out).

        A request is `name`, `name=version` or `name/arch`; their order decides nothing. Always asks the source for
        its newest indexes. Raises BuildError naming an unknown package (with the nearest known name), the conflict,
        or why the source cannot be reached or trusted.
        """

    def fetch(self, packages: Sequence[Package], reporter: Reporter) -> Mapping[str, Path]:
        """Return SHA-256 → package file; what is not in the cache is downloaded first.

        A download is in the cache only with the right size and SHA-256; a file that is there is taken by name and
        size (whoever unpacks it checks the digest). Needs neither network nor programs when all files are there.
        Raises BuildError naming the package that cannot be had.
        """


def open_source(
    distribution: Distribution, *, default_suites: Sequence[str], keyring_candidates: Sequence[str], cache: Path
) -> Source:
    """Return the source that the recipe's `[distribution]` asks for.

    Arguments: the table; the suites of the distribution, for where the recipe names none (`SUITE`, or `PATH SUITE` for
    one whose mirror is elsewhere, PATH relative to the main mirror; `{release}` may stand in them; the first is the
    release itself); files that hold the
    distribution's own keys on hosts that have them, the best first; the cache directory.
    Raises RecipeError for a source that this version does not have, and for values that no archive can have.
    """
    if distribution.source == "apt":
        from preroot.packages.apt import AptSource

        return AptSource(distribution, default_suites, keyring_candidates, cache)
    raise RecipeError(f"distribution.source: packages cannot be taken from {distribution.source!r} yet", "use 'apt'")
