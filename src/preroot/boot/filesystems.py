# SPDX-License-Identifier: LGPL-2.1-or-later
"""File system images made from entries by each file system's own tools: without root, without loop devices.

How owners, modes and nodes come out right, for root and ordinary users alike:

- ext4: `mke2fs -d` copies the staged files, then one `debugfs -w -f` script sets what differs and makes the nodes,
  and a second run reads it all back, because debugfs exits with 0 whatever fails (1.47.0). This works with every
  e2fsprogs; `mke2fs -d` of a tar needs 1.47.1 built with libarchive, which bookworm's 1.47.0 is not.
- xfs: the prototype file of mkfs.xfs(8) says them; it cannot say the sticky bit, which xfs_db sets.
- squashfs: pseudo file definitions of mksquashfs(1), which override the staged files'.
- btrfs, erofs: these only take what the staged files have. Root sets it on those; an ordinary user gets images in
  which everything is root's (`unshare --map-root-user`, `--all-root`), and an error if other owners are asked for.
- vfat has neither.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from preroot.boot.stage import DiskEntry, Staged
from preroot.errors import BuildError, RecipeError
from preroot.run import run
from preroot.scratch import scratch

FsType = Literal["ext4", "xfs", "btrfs", "vfat", "squashfs", "erofs"]

MIB = 1024 * 1024


class FileSystem(Struct, frozen=True):
    """A file system to make: type, label, UUID (vfat: XXXX-XXXX) and size in bytes (ignored by read-only types)."""

    fstype: FsType
    label: str
    uuid: str
    size: int


class Kind(Struct, frozen=True):
    """What a type of file system can do: label length in bytes (0: no labels), smallest size, how it is made."""

    make: Callable[[FileSystem, Staged, Path], None]
    label: int
    #: bytes; mkfs.xfs refuses less than 300 MB, mkfs.btrfs less than 109 MiB
    smallest: int = 0
    #: has no UUID at all
    no_uuid: bool = False
    #: wants modes and owners on the staged files themselves
    exact: bool = False


def _mode(entry: DiskEntry) -> int:
    """Return i_mode: the type and the permission bits."""
    kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
    if entry.type == "node":
        assert entry.device is not None
        return (stat.S_IFCHR if entry.device[0] == "c" else stat.S_IFBLK) | entry.mode
    return kinds[entry.type] | (0o777 if entry.type == "symlink" else entry.mode)


def _make_ext4(file_system: FileSystem, staged: Staged, image: Path) -> None:
    with image.open("xb") as file:
        file.truncate(file_system.size)
    options = f"root_owner=0:0,hash_seed={file_system.uuid},lazy_itable_init=0,lazy_journal_init=0"
    run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", file_system.label, "-U", file_system.uuid,
         "-E", options, "-d", staged.directory, image],
        purpose="to make an ext4 image",
    )  # fmt: skip
    script = debugfs_script(staged.entries, {path: _found(staged, path) for path in staged.entries})
    if script:
        _debugfs(image, "\n".join(script), write=True)
    _check_ext4(image, staged.entries)


def _found(staged: Staged, path: str) -> tuple[int, int, int] | None:
    """Return mode, owner and group of a staged file, which `mke2fs -d` copies, or None for one not staged."""
    try:
        info = (staged.directory / path).lstat()
    except FileNotFoundError:
        return None
    return info.st_mode, info.st_uid, info.st_gid


def debugfs_script(entries: dict[str, DiskEntry], found: dict[str, tuple[int, int, int] | None]) -> tuple[str, ...]:
    """Return the debugfs(8) commands that turn what `mke2fs -d` copied (mode, owner, group) into `entries`."""
    script: list[str] = []
    for path, entry in entries.items():
        there = found[path]
        if entry.type == "node":
            assert entry.device is not None
            directory, _, name = path.rpartition("/")
            kind, major, minor = entry.device
            script += [f'cd "{_quoted("/" + directory)}"', f'mknod "{_quoted(name)}" {kind} {major} {minor}']
            there = None
        wanted = {"mode": f"0{_mode(entry):o}", "uid": str(entry.uid), "gid": str(entry.gid)}
        same = ("0" + format(there[0], "o"), str(there[1]), str(there[2])) if there else ("", "", "")
        script += [
            f'set_inode_field "{_quoted("/" + path)}" {field} {value}'
            for (field, value), old in zip(wanted.items(), same, strict=True)
            if value != old
        ]
    return tuple(script)


def _quoted(text: str) -> str:
    return text.replace('"', '""')  # libss: a quote inside quotes is doubled


def _debugfs(image: Path, script: str, *, write: bool) -> bytes:
    with scratch("debugfs") as directory:
        commands = directory / "commands"
        commands.write_text(script + "\n")
        options = ["-w"] if write else []
        return run(["debugfs", *options, "-f", commands, image], purpose="to set owners and modes in an ext4 image")


def _check_ext4(image: Path, entries: dict[str, DiskEntry]) -> None:
    """Raise BuildError if the image does not have each entry with its mode and owner."""
    directories = sorted({path.rpartition("/")[0] for path in entries})
    listing = _debugfs(image, "\n".join(f'ls -p "{_quoted("/" + path)}"' for path in directories), write=False)
    seen: dict[str, tuple[int, int, int]] = {}
    # debugfs echoes each command; `ls -p` prints /inode/mode/uid/gid/name/size/ and names contain no slash.
    where = ""
    for line in listing.decode("utf-8", "surrogateescape").split("\n"):
        if found := re.match(r'debugfs: +ls -p "/(.*)"$', line):
            where = found[1].replace('""', '"')
        elif found := re.match(r"/\d+/(\d+)/(\d+)/(\d+)/([^/]+)/\d*/$", line):
            path = f"{where}/{found[4]}".lstrip("/")
            seen[path] = (int(found[1], 8), int(found[2]), int(found[3]))
    for path, entry in entries.items():
        if seen.get(path) != (_mode(entry), entry.uid, entry.gid):
            raise BuildError(f"debugfs did not give /{path} its owner and mode in an ext4 image: {seen.get(path)}",
                             "is the image large enough? give the disk a size")  # fmt: skip


def _make_xfs(file_system: FileSystem, staged: Staged, image: Path) -> None:
    lines = ["/dev/null", "0 0", "d--755 0 0", *_prototype(staged, ""), "$", ""]
    prototype = staged.directory.with_name("prototype")
    prototype.write_text("\n".join(lines))
    with image.open("xb") as file:
        file.truncate(file_system.size)
    label = ["-L", file_system.label] if file_system.label else []
    # Paths in the prototype are relative to the staged tree, because they cannot have spaces, and its own may.
    run(
        ["mkfs.xfs", "-q", "-f", *label, "-m", f"uuid={file_system.uuid}", "-p", prototype.absolute(),
         image.absolute()],
        purpose="to make an xfs image", cwd=staged.directory,
    )  # fmt: skip
    sticky = [entry for entry in staged.entries.values() if entry.mode & stat.S_ISVTX and entry.type == "directory"]
    for entry in sticky:
        run(["xfs_db", "-x", "-c", f"path /{entry.path}", "-c", f"write core.mode 0{_mode(entry):o}", image],
            purpose="to set a sticky bit in an xfs image")  # fmt: skip


def _prototype(staged: Staged, directory: str) -> Iterator[str]:
    """Yield the lines of mkfs.xfs's prototype file for what is in `directory`."""
    for path, entry in staged.entries.items():
        above, _, name = path.rpartition("/")
        if above != directory:
            continue
        if any(character.isspace() for character in name + (entry.target or "")):
            raise BuildError(f"xfs images cannot be made with a space in a name: {path}", "use ext4 or btrfs for it")
        letter = {"file": "-", "directory": "d", "symlink": "l", "node": (entry.device or ("c",))[0]}[entry.type]
        set_id = ("u" if entry.mode & stat.S_ISUID else "-") + ("g" if entry.mode & stat.S_ISGID else "-")
        line = f"{name} {letter}{set_id}{entry.mode & 0o777:03o} {entry.uid} {entry.gid}"
        match entry.type:
            case "file":
                yield f"{line} {path}"
            case "symlink":
                yield f"{line} {entry.target}"
            case "node":
                assert entry.device is not None
                yield f"{line} {entry.device[1]} {entry.device[2]}"
            case "directory":
                yield line
                yield from _prototype(staged, path)
                yield "$"


def _make_btrfs(file_system: FileSystem, staged: Staged, image: Path) -> None:
    _need_root_for_others(file_system.fstype, staged)
    with image.open("xb") as file:
        file.truncate(file_system.size)
    as_root = [] if os.getuid() == 0 else ["unshare", "--map-root-user"]
    label = ["-L", file_system.label] if file_system.label else []
    run(
        [*as_root, "mkfs.btrfs", "-q", *label, "-U", file_system.uuid, "--rootdir", staged.directory, image],
        purpose="to make a btrfs image",
    )


def _make_erofs(file_system: FileSystem, staged: Staged, image: Path) -> None:
    _need_root_for_others(file_system.fstype, staged)
    # -L came with erofs-utils 1.8
    label = ["-L", file_system.label] if file_system.label else []
    owner = ["--all-root"] if staged.only_root else []
    run(
        ["mkfs.erofs", "--quiet", "-T", "0", "-x-1", *owner, *label, "-U", file_system.uuid, image, staged.directory],
        purpose="to make an erofs image",
    )


def _need_root_for_others(fstype: str, staged: Staged) -> None:
    if os.getuid() == 0:
        return
    for path, entry in staged.entries.items():
        if entry.uid or entry.gid or entry.type == "node":
            what = "is a device node" if entry.type == "node" else f"belongs to {entry.uid}:{entry.gid}"
            raise BuildError(f"a {fstype} image cannot be made by an ordinary user: {path} {what}",
                             "use ext4, xfs or squashfs, or run it as root")  # fmt: skip


def _make_squashfs(file_system: FileSystem, staged: Staged, image: Path) -> None:
    lines = ["/ m 755 0 0"]
    for path, entry in staged.entries.items():
        name = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if entry.device is not None:
            kind, major, minor = entry.device
            lines.append(f"{name} {kind} {entry.mode:o} {entry.uid} {entry.gid} {major} {minor}")
        else:
            lines.append(f"{name} m {_mode(entry) & 0o7777:o} {entry.uid} {entry.gid}")
    definitions = staged.directory.with_name("pseudo")
    definitions.write_text("\n".join(lines) + "\n")
    # A root of 240 MB takes 24 CPU seconds with mksquashfs' default, gzip.
    run(
        ["mksquashfs", staged.directory, image, "-noappend", "-no-progress", "-quiet", "-no-xattrs", "-all-time", "0",
         "-mkfs-time", "0", "-comp", "zstd", "-Xcompression-level", "3", "-pf", definitions],
        purpose="to make a squashfs image",
    )  # fmt: skip


def _make_vfat(file_system: FileSystem, staged: Staged, image: Path) -> None:
    for path, entry in staged.entries.items():
        if entry.type in ("symlink", "node"):
            raise BuildError(f"vfat has no links and device nodes: {path}")
    with image.open("xb") as file:
        file.truncate(file_system.size)
    label = ["-n", file_system.label] if file_system.label else []
    # Not --invariant: it would fix the volume ID too (dosfstools 4.2).
    run(
        ["mkfs.vfat", *label, "-i", file_system.uuid.replace("-", ""), image],
        purpose="to make a vfat image", env={"SOURCE_DATE_EPOCH": "0"},
    )  # fmt: skip
    if top := sorted(staged.directory.iterdir()):
        run(["mcopy", "-i", image, "-s", "-Q", *top, "::"], purpose="to fill a vfat image")


KINDS: dict[str, Kind] = {
    "ext4": Kind(_make_ext4, label=16, smallest=16 * MIB),
    "xfs": Kind(_make_xfs, label=12, smallest=320 * MIB),
    "btrfs": Kind(_make_btrfs, label=255, smallest=128 * MIB, exact=True),
    "vfat": Kind(_make_vfat, label=11, smallest=40 * MIB),
    "squashfs": Kind(_make_squashfs, label=0, no_uuid=True),
    "erofs": Kind(_make_erofs, label=15, exact=True),
}


def check_label(fstype: str, label: str) -> None:
    """Raise RecipeError for a label that the file system cannot have."""
    longest = KINDS[fstype].label
    if label and not longest:
        raise RecipeError(f"{fstype} has no labels, and {label!r} was asked for", "use a GPT partition's PARTLABEL")
    if len(label.encode()) > longest:
        raise RecipeError(f"the label {label!r} is too long for {fstype}", f"{longest} bytes at most")
