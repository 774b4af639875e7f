# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packages, their files, and what was learnt about each file: the frozen data that the store keeps.

Paths are relative to the root, without a leading slash, as the package has them (`lib/x86_64-linux-gnu/…` in a
package from before merged /usr stays so here; the tree makes them canonical).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Record(Struct, frozen=True, array_like=True):
    """Frozen data kept as MessagePack arrays: small and fast, at the price that fields are only ever appended."""


class Package(Struct, frozen=True, rename="kebab"):
    """One exact package, as the lock names it."""

    name: str
    version: str
    arch: str
    #: of the package file
    sha256: str
    size: int
    #: where the source finds it again: for apt the path below the mirror
    filename: str
    #: name of the source's repository (for apt "URI-index": 0 for the main mirror, 1… for suites on other mirrors)
    repository: int = 0

    @property
    def owner(self) -> str:
        """Return `name=version`, as manifests name the owner of a file."""
        return f"{self.name}={self.version}"


FileType = Literal["file", "directory", "symlink", "hardlink", "char", "block", "fifo"]


class DlopenNote(Record, frozen=True):
    """One entry of an ELF .note.dlopen section (https://uapi-group.org/specifications/specs/elf_dlopen_metadata/)."""

    feature: str
    description: str
    priority: Literal["required", "recommended", "suggested"]
    #: ordered alternatives
    sonames: tuple[str, ...]


class Elf(Record, frozen=True, tag="elf"):
    """The dynamic section of an ELF file (System V gABI; ld.so(8) for the search rules)."""

    #: e_ident[EI_CLASS]: 32 or 64
    bits: int
    #: e_machine
    machine: int
    little_endian: bool
    #: e_flags, which tell ABIs of one machine apart (ARM hard float, RISC-V)
    flags: int
    interpreter: str
    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    dlopen: tuple[DlopenNote, ...]
    #: strings that look like sonames and are not in `needed`: loaded by dlopen, or only mentioned
    mentioned: tuple[str, ...]
    #: undefined symbols of `learn.elf.WATCHED`: calls that load a library without any other trace
    imports: tuple[str, ...] = ()


class Script(Record, frozen=True, tag="script"):
    """A file that starts with #!, as execve(2) reads the line: interpreter and at most one argument."""

    interpreter: str
    argument: str


class Unit(Record, frozen=True, tag="unit"):
    """A systemd unit or drop-in, as read by systemd.syntax(7): (section, key, value) in order, lines joined."""

    settings: tuple[tuple[str, str, str], ...]


class UdevRules(Record, frozen=True, tag="udev"):
    """What a udev rules file (udev(7)) refers to outside itself."""

    #: RUN{program}=, IMPORT{program}=, PROGRAM=: the command lines, as written
    programs: tuple[str, ...]
    #: RUN{builtin}, IMPORT{builtin}: the first words (kmod, blkid, hwdb …)
    builtins: tuple[str, ...]
    users: tuple[str, ...]
    groups: tuple[str, ...]
    #: ENV{SYSTEMD_WANTS} and SYSTEMD_USER_WANTS without user ones: unit names, templates included
    units: tuple[str, ...]


class ModuleInfo(Record, frozen=True, tag="module"):
    """The .modinfo section of a kernel module (include/linux/module.h, modinfo(8))."""

    name: str
    depends: tuple[str, ...]
    #: soft dependencies, before and after
    pre: tuple[str, ...]
    post: tuple[str, ...]
    weak: tuple[str, ...]
    aliases: tuple[str, ...]
    firmware: tuple[str, ...]
    vermagic: str
    #: SHA-256 and size of the module when decompressed; equal to the file's own for an uncompressed one; "" and 0 as
    #: long as a compressed one has not been decompressed to its end (Store.modules; Store.decompress_modules does)
    sha256: str
    size: int
    #: MODULE_LICENSE as written; of several the first, which is what the kernel goes by (kernel/module/main.c)
    license: str = ""


class Keymap(Record, frozen=True, tag="keymap"):
    """A console keymap (keymaps(5)): the files that it includes, as written."""

    includes: tuple[str, ...]


class Tmpfiles(Record, frozen=True, tag="tmpfiles"):
    """A tmpfiles.d(5) file: the users and groups that it names."""

    users: tuple[str, ...]
    groups: tuple[str, ...]


class PluginConfiguration(Record, frozen=True, tag="plugins"):
    """What a file that configures plugins (nsswitch.conf, pam.d, openssl.cnf, crypttab …) refers to."""

    #: `FAMILY:NAME`, each once
    names: tuple[str, ...]
    #: names that whoever reads the file can do without
    optional: tuple[str, ...] = ()
    #: plugins and directories by their absolute path
    paths: tuple[str, ...] = ()
    #: files of the same kind: absolute, or a name beside it
    includes: tuple[str, ...] = ()


Learnt = Elf | Script | Unit | UdevRules | ModuleInfo | Keymap | Tmpfiles | PluginConfiguration


class FileInfo(Record, frozen=True):
    """One entry of a package."""

    path: str
    type: FileType
    #: permission bits, set-id and sticky included
    mode: int
    uid: int
    gid: int
    size: int
    #: of a regular file's content, else ""
    sha256: str
    #: target of a symlink (as written) or hard link (a path of the same package), else ""
    target: str
    #: offset of the content in the package's blob in the store
    offset: int
    learnt: Learnt | None


class PackageIndex(Record, frozen=True):
    """All that the store knows of one package."""

    #: layout version of this record; another one means: unpack again
    format: int
    sha256: str
    name: str
    version: str
    arch: str
    #: SHA-256 of the blob as a whole
    blob_size: int
    files: tuple[FileInfo, ...]
    conffiles: tuple[str, ...]
    #: maintainer scripts: name (postinst …) → text
    scripts: dict[str, str]
    #: control fields that later work reads: Depends, Provides, Multi-Arch, Source …
    control: dict[str, str]


class Resolution(Struct, frozen=True):
    """What a source resolved requests to."""

    #: sorted by name, then architecture; without duplicates
    packages: tuple[Package, ...]
    #: what vouches for the packages' digests; for apt: suite → date of its Release file and the keys that signed it
    trust: dict[str, str]


class LocalPackage(Struct, frozen=True, rename="kebab"):
    """What a build takes from directories or files of the user's: a package of its own kind."""

    name: str
    #: for a kernel and for modules: the kernel's release
    version: str
    #: of paths, permissions and contents
    sha256: str
    #: as the recipe names them
    paths: tuple[str, ...]

    @property
    def owner(self) -> str:
        """Return `name=version`, as manifests name the owner of a file."""
        return f"{self.name}={self.version}"


class Lock(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """`preroot.lock`: the exact packages of a recipe and what else shapes the bytes. Written as JSON, keys sorted."""

    format: int
    #: version of preroot that wrote it
    preroot: str
    #: digest of those recipe values that decide the resolution; a lock with another one does not fit the recipe
    request: str
    #: digests of preroot's own data that is used: `feature NAME`, `distribution NAME`, `runtime PATH` → SHA-256
    data: dict[str, str]
    source: str
    distribution: str
    release: str
    arch: str
    #: facts that features' `when` compare: "systemd" → "257.9-1" …
    versions: dict[str, str]
    packages: tuple[Package, ...]
    #: what is not from the source, pinned by digest alone
    local: tuple[LocalPackage, ...] = ()
    #: numbers given to users and groups that have none of their own
    users: dict[str, int] = {}
    groups: dict[str, int] = {}
    #: tools that shape bytes: name → version
    tools: dict[str, str] = {}
    #: what vouches for the packages' digests (for apt: suite → key fingerprint and Release date)
    trust: dict[str, str] = {}
