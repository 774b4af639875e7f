# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages: an ar archive of debian-binary, control.tar and data.tar (deb(5), deb-control(5)).

Packages are read as data: nothing is written to the file system under a name from the archive, no script is run. What a
package must not have (Debian Policy 10.5, 10.6, or because it could lead out of the image) is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from preroot.errors import BuildError
from preroot.packages.codec import CodecError, decompressed
from preroot.packages.model import Package
from preroot.packages.tar import Member, TarError, TarStream

#: A package's contents, decompressed; Debian's largest (game data, debug symbols) have about 3 GB. More than this is
#: taken for a bomb: 10 GB of zeros are 1.5 MB of xz.
MAX_CONTENTS = 8 << 30
#: All of control.tar, decompressed, and the number of paths; both several times what any package has.
MAX_CONTROL = 32 << 20
MAX_MEMBERS = 2_000_000
#: Maintainer scripts (deb-preinst(5) and so on, deb-triggers(5) for what interests them).
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config", "triggers")
#: Control fields that nothing later reads and that are long.
_LEFT_OUT = frozenset(("Description", "Description-md5"))
_CODEC = {"": "", ".gz": "gz", ".xz": "xz", ".zst": "zst"}
_PIECE = 1 << 18


class Control(Struct, frozen=True):
    """What control.tar says."""

    fields: dict[str, str]
    conffiles: tuple[str, ...]
    scripts: dict[str, str]


class Deb:
    """An open package.

    Arguments: the file, opened for reading at its start (only `read` is used), and the name for messages. `control` is
    there at once; `members()` yields the contents one after the other, and `content()` the bytes of the current one, at
    most `MAX_CONTENTS` in total. Raises BuildError naming the package file and the member for whatever is not sound.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._left = 0
        self._pad = 0
        self._tar: TarStream
        self.control = self._open()

    def _fail(self, reason: str) -> BuildError:
        return BuildError(f"package {self._name}: {reason}", "the package is broken: choose another version of it")

    def _open(self) -> Control:
        """Read up to the start of the data member."""
        if self._file.read(8) != b"!<arch>\n":
            raise self._fail("is not a Debian package, it does not start as an ar archive does")
        self._expect("debian-binary")
        version = b"".join(self._body(64))
        if not version.startswith(b"2."):
            raise self._fail(f"has format version {version[:16]!r}, and only 2.0 is known")
        control = self._control(TarStream(self._decompressed(self._expect("control.tar"), MAX_CONTROL)))
        self._end()
        self._tar = TarStream(self._decompressed(self._expect("data.tar"), MAX_CONTENTS))
        return control

    def _expect(self, wanted: str) -> str:
        """Go to the ar member `wanted`, passing over those whose name starts with `_` (deb(5)); return its suffix."""
        while True:
            header = self._file.read(60)
            if len(header) < 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
                raise self._fail(f"is cut off or damaged before {wanted}")
            name = header[:16].decode("ascii", "replace").rstrip().removesuffix("/")
            self._left = int(header[48:58])
            self._pad = self._left % 2
            if not name.startswith("_"):
                break
            self._end()
        suffix = name.removeprefix(wanted)
        if not name.startswith(wanted) or (suffix and wanted == "debian-binary"):
            raise self._fail(f"has {name!r} where {wanted} must be")
        if suffix not in _CODEC:
            raise self._fail(
                f"has {name!r}, compressed in a way that preroot does not read (it reads gz, xz, zst and none)"
            )
        return suffix

    def _read(self, size: int) -> bytes:
        """Read from the current ar member."""
        data = self._file.read(min(size, self._left))
        if not data and self._left and size:
            raise CodecError("the package file is cut off")
        self._left -= len(data)
        return data

    def _body(self, limit: int) -> Iterator[bytes]:
        """Yield the current member whole, uncompressed; stop at `limit` bytes."""
        size = min(self._left, limit)
        while size > 0:
            data = self._guarded(size)
            size -= len(data)
            yield data
        self._end()

    def _guarded(self, size: int) -> bytes:
        try:
            return self._read(size)
        except CodecError as error:
            raise self._fail(str(error)) from error

    def _end(self) -> None:
        """Skip the rest of the current member and its padding."""
        while self._left:
            self._guarded(_PIECE)
        self._file.read(self._pad)

    def _decompressed(self, suffix: str, limit: int) -> Iterator[bytes]:
        codec = _CODEC[suffix]
        if codec:
            return decompressed(self._read, codec, limit)
        if self._left > limit:
            raise self._fail(f"has more than {limit} bytes inside")
        return iter(lambda: self._read(_PIECE), b"")

    def _control(self, tar: TarStream) -> Control:
        texts: dict[str, str] = {}
        try:
            for member in tar.members():
                if member.type == "file" and "/" not in member.path:
                    texts[member.path] = b"".join(tar.content()).decode("utf-8", "replace")
        except TarError as error:
            raise self._fail(f"control.tar: {error}") from error
        fields = parse_control(texts.get("control", ""))
        if not fields.get("Package") or not fields.get("Version"):
            raise self._fail("its control file names no package and version")
        conffiles = (line.split() for line in texts.get("conffiles", "").splitlines())
        return Control(
            {key: value for key, value in fields.items() if key not in _LEFT_OUT},
            # dpkg 1.20 and later: flags such as remove-on-upgrade stand before the path (deb-conffiles(5)).
            tuple(words[-1].lstrip("/") for words in conffiles if words),
            {name: texts[name] for name in SCRIPTS if name in texts},
        )

    def members(self) -> Iterator[Member]:
        """Yield the contents in the order of the archive, without the root directory itself.

        Hard links come after the regular file they name (their `target`). At the end of the archive it is checked that
        no path goes through a link or a file of the same package.
        """
        seen: dict[str, str] = {}
        try:
            for member in self._tar.members():
                if not member.path:
                    if member.type != "directory":
                        raise TarError(f"the root is a {member.type}")
                    continue
                self._check(member, seen)
                seen[member.path] = member.type
                if len(seen) > MAX_MEMBERS:
                    raise TarError(f"has more than {MAX_MEMBERS} members")
                yield member
            _check_parents(seen)
        except TarError as error:
            raise self._fail(str(error)) from error

    def _check(self, member: Member, seen: dict[str, str]) -> None:
        path, type_ = member.path, member.type
        if path in seen:
            raise TarError(f"{path} is there twice")
        if type_ == "symlink":
            if not member.target.startswith("/") and _climbs_out(path, member.target):
                raise TarError(f"the symbolic link {path} leads out of the root to {member.target}")
        elif type_ == "hardlink":
            if seen.get(member.target) not in {"file", "hardlink"}:
                raise TarError(f"the hard link {path} names {member.target}, which is no file before it")
        elif type_ in {"char", "block", "fifo"}:
            kind = {"char": "a character device", "block": "a block device", "fifo": "a named pipe"}[type_]
            raise TarError(f"{path} is {kind}, which a package must not have")

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of the member that `members()` yielded last."""
        try:
            yield from self._tar.content()
        except TarError as error:
            raise self._fail(str(error)) from error


def read_package(path: Path) -> tuple[Package, dict[str, str]]:
    """Return the package in the file `path`, as a lock names it, and its control fields (deb-control(5)).

    What sources of a program's own are made with. `filename` is the file's name without its directory. Raises
    BuildError for a file that can't be read or is no sound package.
    """
    import hashlib

    try:
        with path.open("rb") as file:
            fields = Deb(file, str(path)).control.fields
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise BuildError(f"cannot read the package {path}: {error.strerror}") from None
    package = Package(
        fields["Package"], fields["Version"], fields.get("Architecture", "all"), digest, size, path.name
    )  # fmt: skip
    return package, fields


def _climbs_out(path: str, target: str) -> bool:
    """Return whether a relative link target goes above the root."""
    if ".." not in target:
        return False
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in {"", "."}:
            depth += 1
    return False


def _check_parents(seen: dict[str, str]) -> None:
    """Refuse paths below something that the same package says is no directory."""
    for parent in {path.rpartition("/")[0] for path in seen}:
        above = parent
        while above:
            if seen.get(above, "directory") != "directory":
                raise TarError(f"a path goes through {above}, which is a {seen[above]}")
            above = above.rpartition("/")[0]


def parse_control(text: str) -> dict[str, str]:
    """Read the first paragraph of deb822(5) text: field names as written, continuation lines joined by a newline."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.strip():
            if fields:
                break
            continue
        if line.startswith("#"):
            continue
        if line[0] in " \t":
            if last:
                fields[last] += "\n" + line.strip()
            continue
        last, _, value = line.partition(":")
        fields[last] = value.strip()
    return fields
