# SPDX-License-Identifier: LGPL-2.1-or-later
"""Equal scope: which capabilities an image has, and whether two images are fit to be compared."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.chroots import KernelFiles
from bench.images import Contents
from preroot.errors import BuildError

#: where programs are, with /usr merged
_PROGRAM_PLACES = ("usr/bin/", "usr/sbin/", "usr/lib/systemd/", "usr/lib/udev/")


class Capability(Struct, frozen=True, forbid_unknown_fields=True):
    """What an initrd can do, and what must be in it for that (bench/scope.toml has the syntax)."""

    name: str
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Waiver(Struct, frozen=True, forbid_unknown_fields=True):
    """A capability that the first of a pair may lack, and why."""

    capability: str
    reason: str


class Pair(Struct, frozen=True, forbid_unknown_fields=True):
    """Two images that are compared as equals: the first must have what the second has, with `modules` each module."""

    first: str
    second: str
    modules: bool = False
    waived: tuple[Waiver, ...] = ()


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """All of bench/scope.toml."""

    capability: tuple[Capability, ...]
    equal: tuple[Pair, ...]


def load() -> Scope:
    """Read the list of capabilities."""
    return msgspec.toml.decode(Path(__file__).with_name("scope.toml").read_bytes(), type=Scope)


def lacks(capability: Capability, image: Contents, kernel: KernelFiles) -> list[str]:
    """Return what an image lacks of a capability; nothing when it has it."""
    names = frozenset(path.rpartition("/")[2] for path in image.paths if path.startswith(_PROGRAM_PLACES))
    missing = [name for name in capability.modules if name in kernel.modules - image.modules]
    missing += [entry for entry in capability.programs if names.isdisjoint(entry.split("|"))]
    missing += [entry for entry in capability.files
                if not any(fnmatchcase(path, glob) for glob in entry.split("|") for path in image.paths)]  # fmt: skip
    return missing


def check(scope: Scope, images: dict[str, Contents], kernel: KernelFiles) -> list[str]:
    """Return why pairs of images are not fit to be compared, one line each; pairs not among `images` are passed over.

    A waiver that is not needed is a reason too: it would hide the next loss.
    """
    wrong = []
    for pair in scope.equal:
        if pair.first not in images or pair.second not in images:
            continue
        if pair.modules and (missing := sorted(images[pair.second].modules - images[pair.first].modules)):
            wrong.append(f"{pair.first} lacks {len(missing)} modules of {pair.second}: {', '.join(missing[:8])} …")
        waived = {waiver.capability for waiver in pair.waived}
        for capability in scope.capability:
            if lacks(capability, images[pair.second], kernel):
                continue
            missing = lacks(capability, images[pair.first], kernel)
            if missing and capability.name not in waived:
                wrong.append(f"{pair.first} lacks {capability.name}, which {pair.second} has: {', '.join(missing)}")
            if not missing and capability.name in waived:
                wrong.append(f"{pair.first} has {capability.name}, which is waived: remove the waiver")
    return wrong


def demand(scope: Scope, images: dict[str, Contents], kernel: KernelFiles) -> None:
    """Raise BuildError unless all pairs are fit to be compared."""
    wrong = check(scope, images, kernel)
    if wrong:
        raise BuildError("the images are not of equal scope: " + "; ".join(wrong), "bench/scope.toml says what counts")
