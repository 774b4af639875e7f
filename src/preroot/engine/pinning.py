# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a lock pins besides packages: preroot's version, its data that shapes the tree, tools that shape bytes. Pure.

A lock whose packages fit is still not the whole truth: another preroot, another text of a feature or another kmod may
give other bytes. A build then goes on and brings the lock up to date; `--locked` promises the lock's bytes, so it
refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256

import msgspec
from msgspec import structs

import preroot
from preroot.errors import BuildError
from preroot.packages.model import LocalPackage, Lock
from preroot.recipe.conditions import Chosen
from preroot.recipe.distributions import DistributionInfo
from preroot.recipe.drivers import Driver
from preroot.recipe.features import Feature
from preroot.recipe.libraries import NO_LIBRARIES, Libraries

#: What of a distribution decides which packages are asked for and where they come from, which is the request digest's
#: and the packages' own part of the lock, or what is warned of.
_NOT_SHAPING = ("consulted", "keyrings", "suites", "scripts", "capabilities", "programs", "files",
                "unneeded", "components", "kernel_release")  # fmt: skip

#: pieces of data that a message names
_NAMED = 6

_WAY_OUT = "without --locked the build brings the lock up to date"


def data_digests(
    chosen: Iterable[Chosen],
    written: Mapping[str, Feature],
    *,
    distribution: DistributionInfo,
    runtime: Mapping[str, bytes],
    drivers: Mapping[str, Driver],
    libraries: Libraries = NO_LIBRARIES,
) -> dict[str, str]:
    """Return the SHA-256 of each piece of preroot's own data that is used: `feature NAME`, `distribution NAME`,
    `runtime PATH`, `drivers`, `libraries`.

    A feature counts as it is written, all its variants included, for the recipe's options are no change of it;
    comments, its summary and its options' help do not count. Arguments: the chosen features of all parts, features by
    name, the distribution, the files of runtime/ by path below it, and what is known of drivers and of libraries.
    """
    found: dict[str, object] = {}
    for feature in chosen:
        found[f"feature {feature.name}"] = _without_words(written[feature.name])
        for file in feature.content.generate:
            if file.source is not None and file.source in runtime:
                found[f"runtime {file.source}"] = runtime[file.source]
    facts = structs.asdict(distribution)
    found[f"distribution {distribution.name}"] = {key: facts[key] for key in facts if key not in _NOT_SHAPING}
    found["drivers"] = {name: structs.replace(each, evidence="") for name, each in drivers.items()}
    found["libraries"] = (libraries.dlopen, libraries.families)
    return {name: _digest(value) for name, value in sorted(found.items())}


def _without_words(feature: Feature) -> Feature:
    """Return a feature without what is said of it to people alone."""
    options = {name: structs.replace(option, help="") for name, option in feature.options.items()}
    return structs.replace(feature, summary="", options=options)


def _digest(value: object) -> str:
    data = value if isinstance(value, bytes) else msgspec.json.encode(value, order="deterministic")
    return sha256(data).hexdigest()


def brought_up_to_date(lock: Lock, data: Mapping[str, str], local: tuple[LocalPackage, ...] = ()) -> Lock:
    """Return the lock as this preroot with this data and these local packages writes it; the others are the same."""
    return structs.replace(lock, preroot=preroot.__version__, data=dict(data), local=local)


def changes(lock: Lock, data: Mapping[str, str], local: tuple[LocalPackage, ...] = ()) -> Iterator[str]:
    """Yield what is not as it was when the lock was written, in words: directories, preroot, features, runtime.

    Data that the lock does not name yet, or that is not used any more, is no change of it but of the recipe.
    """
    before, now = ({each.name: each for each in some} for some in (lock.local, local))
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            each = now.get(name) or before[name]
            yield f"{' '.join(each.paths)} ({name} {each.version}): not as when the lock was written"
    if lock.preroot != preroot.__version__:
        yield f"the lock was written by preroot {lock.preroot}, this is {preroot.__version__}"
    differing = [name for name in sorted(data) if lock.data.get(name, data[name]) != data[name]]
    if differing:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        yield f"{', '.join(differing[:_NAMED])}{more}: not as when the lock was written"


def unpinned(lock: Lock, now: Iterable[str]) -> str:
    """Return a note on the names of `now` that the lock does not pin, '' if it has them all."""
    lacking = sorted({*now} - {*lock.data, *lock.tools})
    return f"the lock does not pin {', '.join(lacking)}: a build without --locked adds it" if lacking else ""


def tool_changes(lock: Lock, tools: Mapping[str, str]) -> Iterator[str]:
    """Yield, in words, which tools that shape bytes have another version than the lock names."""
    for name, version in sorted(tools.items()):
        if lock.tools.get(name, version) != version:
            yield f"{name} is {version} here and {lock.tools[name]} in the lock"


def refuse(found: Iterable[str]) -> None:
    """Raise BuildError for changes under --locked: the same lock is to give the same bytes."""
    lines = [f"--locked: {each}: the bytes may differ" for each in found]
    if lines:
        raise BuildError("\n".join(lines), _WAY_OUT)
