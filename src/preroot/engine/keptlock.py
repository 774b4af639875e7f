# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packages that preroot needs for its own purposes (a busybox for a test root): locked in the cache, not by the user.

They are resolved once; then the same versions are used, also offline. A mirror that has dropped one of them is no
failure: nothing of the user's depends on these versions, so they are resolved anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import preroot
from preroot.engine.planning import unpacked
from preroot.engine.workspace import Workspace
from preroot.errors import BuildError, PrerootError
from preroot.packages.lock import FORMAT, read_lock, request_digest, write_lock
from preroot.packages.model import Lock, PackageIndex
from preroot.packages.source import Source
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.schema import Distribution


def kept_packages(
    distribution: Distribution, requests: Sequence[str], *, workspace: Workspace, store: Store, source: Source,
    reporter: Reporter,
) -> tuple[Lock, list[PackageIndex]]:  # fmt: skip
    """Return the lock for `requests` that the cache has, made now if it has none, and its packages, unpacked.

    Raises BuildError where they can't be had.
    """
    store.presence.enter(make=True)
    request = request_digest(distribution, requests)
    path = workspace.boot / f"packages-{request[:16]}.lock"
    if path.exists():
        try:
            lock = read_lock(path)
            return lock, unpacked(lock.packages, store, source, reporter)
        except PrerootError as error:
            reporter.note(f"{error.message}: resolving anew")
    resolution = source.resolve(requests, reporter)
    lock = Lock(
        format=FORMAT, preroot=preroot.__version__, request=request, data={}, source=distribution.source,
        distribution=distribution.name, release=distribution.release, arch=distribution.arch, versions={},
        packages=resolution.packages, trust=resolution.trust,
    )  # fmt: skip
    indexes = unpacked(lock.packages, store, source, reporter)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lock(path, lock)
    return lock, indexes


def static_busybox(
    distribution: Distribution, *, workspace: Workspace, store: Store, source: Source, reporter: Reporter
) -> bytes:  # fmt: skip
    """Return the static busybox of a distribution, for its architecture: what tiny roots are made of.

    Raises BuildError where it can't be had.
    """
    lock, indexes = kept_packages(
        distribution, ("busybox-static",), workspace=workspace, store=store, source=source, reporter=reporter
    )  # fmt: skip
    for package, index in zip(lock.packages, indexes, strict=True):
        for info in index.files:
            if package.name == "busybox-static" and info.path in ("bin/busybox", "usr/bin/busybox"):
                return store.read(package.sha256, info)
    raise BuildError("the package busybox-static has no busybox in it")
