# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plan, part and tree: what goes into an image, each path with one owner and its reasons. All of it is frozen.

Paths are canonical (merged /usr), relative, without a leading slash: `usr/bin/udevadm`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from preroot.packages.model import Lock, ModuleInfo
from preroot.recipe.schema import Budget, Codec, Flavour, FormatName, LayoutName

EntryType = Literal["file", "directory", "symlink", "node"]

#: Why something is there. `kind` of a Reason:
#: feature, recipe    named as an entry point; asker is the feature's or recipe's name
#: needed             NEEDED of an ELF file; asker is its path
#: interpreter        PT_INTERP or #!; asker is the path
#: dlopen             dlopen note or fact; asker is the path
#: plugin             plugin that a feature names; asker is the feature
#: configuration      a configuration of plugins names it; asker is its path
#: exec, environment  Exec*= or EnvironmentFile= of a unit; asker is the unit's path
#: unit               hard dependency, or a soft one that a feature asks for; asker is the unit's path
#: generator          what a generator may write; asker is its path
#: udev               a rules file refers to it; asker is its path
#: include            a keymap or configuration includes it; asker is its path
#: symlink            the target of a link; asker is its path
#: parent             a directory above; asker is the path below
#: module             depends; softdep, weakdep; asker is the module's path
#: firmware           a module names it
#: licence            licence text of a package, or one that such a text refers to; asker is the recipe
#: merged-usr         one of the links of a merged /usr
#: generated          written by preroot from what is in the tree (modules.dep, passwd)
ReasonKind = Literal[
    "feature", "recipe", "needed", "interpreter", "dlopen", "plugin", "configuration", "exec", "environment", "unit",
    "generator", "udev", "include", "symlink", "parent", "module", "softdep", "weakdep", "firmware", "licence",
    "merged-usr", "generated",
]  # fmt: skip


class Reason(Struct, frozen=True, array_like=True):
    """One reason for a path: what kind, who asked, and the detail (the soname, the Exec line, the glob)."""

    kind: ReasonKind
    asker: str
    detail: str = ""


class StoreContent(Struct, frozen=True):
    """Content in the store: `size` bytes at `offset` of the blob of the package file with digest `package`."""

    package: str
    offset: int


class ObjectContent(Struct, frozen=True):
    """Content in the store's objects, by its SHA-256: made once from other content (decompressed modules, indexes)."""

    sha256: str


class BytesContent(Struct, frozen=True):
    """Content held in memory: generated files; `secret`: one with a password's hash."""

    data: bytes
    secret: bool = False

    def __repr__(self) -> str:
        return "BytesContent((secret))" if self.secret else f"BytesContent({self.data!r})"


class FileContent(Struct, frozen=True):
    """Content of a file of the recipe; `secret` content is read only when the image is written."""

    source: str
    secret: bool = False


Content = StoreContent | ObjectContent | BytesContent | FileContent


class Entry(Struct, frozen=True):
    """One path of a part."""

    path: str
    type: EntryType
    #: permission bits, set-id and sticky included
    mode: int
    uid: int
    gid: int
    #: `package=version`, `feature NAME`, `recipe`, or `preroot`
    owner: str
    reasons: tuple[Reason, ...]
    #: of a file that is no secret, as is its digest
    size: int = 0
    sha256: str = ""
    #: of a symlink
    target: str = ""
    #: of a node: (type "c" or "b", major, minor)
    device: tuple[str, int, int] | None = None
    content: Content | None = None
    #: lossless changes to a package's file: "decompressed xz", "path was lib/…"
    changes: tuple[str, ...] = ()


class Tree(Struct, frozen=True):
    """The contents of one part, sorted by path, every directory above each path included."""

    entries: dict[str, Entry]


class LeftOut(Struct, frozen=True):
    """Something that was not taken, and why: soft unit dependencies, suggested libraries, excluded paths."""

    what: str
    asker: str
    reason: str


class KernelPlan(Struct, frozen=True):
    """The kernel of the image: its version and what was found of it."""

    version: str
    #: package owners that it came from
    packages: tuple[str, ...]
    #: modules in the image: name → path in the image
    modules: dict[str, str]
    #: facts about those modules, by name
    info: dict[str, ModuleInfo]
    builtin: tuple[str, ...]
    #: CONFIG_ name without the prefix → y, m or value
    config: dict[str, str]
    #: vmlinuz, as its package has it
    image: Entry | None


class PartPlan(Struct, frozen=True):
    """One part: how it is run, what is in it, how it is written."""

    name: str
    flavour: Flavour
    tree: Tree
    features: tuple[str, ...]
    format: FormatName
    codec: Codec
    level: int
    minus: tuple[str, ...] = ()
    placement: str = ""
    budget: Budget | None = None


class Plan(Struct, frozen=True):
    """Every decision of a build, before anything is written. The centre of preroot."""

    name: str
    layout: LayoutName
    parts: tuple[PartPlan, ...]
    kernel: KernelPlan | None
    lock: Lock
    cmdline: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
    #: licence texts that are written beside the image
    licences: Tree = Tree({})
    #: the image has a secret inside
    secret: bool = False
