# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tar archive as a stream of members, checked: nothing in it can name a path outside the package.

Formats: POSIX.1-2017 pax (ustar interchange format and extended headers) and GNU tar's long names and base-256 numbers
(https://www.gnu.org/software/tar/manual/html_node/Standard.html), which is what dpkg-deb writes. The standard library's
tarfile takes four times as long for a header and accepts what a package must not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from preroot.packages.codec import CodecError

BLOCK = 512
#: Long names and pax headers: PATH_MAX is 4096, and nothing else that a package needs is longer.
_MAX_EXTENDED = 1 << 20
_TYPES = {b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block",
          b"5": "directory", b"6": "fifo"}  # fmt: skip
_ZEROS = bytes(BLOCK)
_OCTAL = frozenset(b"01234567")
#: The largest user or group number: (uid_t)-1 means "unchanged" to chown(2).
_MAX_ID = 0xFFFFFFFE


class TarError(Exception):
    """The archive is broken or not acceptable; the text names the member."""


class Member(NamedTuple):
    """One header: what the archive says of a path. `path` is relative and clean, "" is the root itself."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    #: of a link: a symbolic one's as written, a hard one's cleaned like a path
    target: str


class TarStream:
    """Reads an archive once, from its first byte to the end mark.

    Argument: the uncompressed archive in pieces. Iterate over `members()` and take each member's content with
    `content()` before the next one; what is not taken is skipped. Raises TarError for whatever isn't a sound archive, a
    path that is absolute or has `..`, sparse files and unknown member types.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._padding = 0
        self._name = "its first member"

    def members(self) -> Iterator[Member]:
        """Yield the members in the order of the archive."""
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            extended: dict[str, str] = {}
            while True:
                header = self._take(BLOCK)
                if header == _ZEROS:
                    return
                kind = header[156:157]
                if kind not in {b"L", b"K", b"x", b"g"}:
                    break
                self._extend(extended, kind, self._number(header[124:136], "size"), header)
            member = self._member(header, kind, extended)
            self._name = member.path or "/"
            if member.type == "file":
                self._left = member.size
                self._padding = -member.size % BLOCK
            yield member

    def content(self, piece: int = 1 << 20) -> Iterator[bytes]:
        """Yield the content of the current member in pieces of at most `piece` bytes."""
        while self._left:
            part = self._take(min(piece, self._left))
            self._left -= len(part)
            yield part

    def _take(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        end = self._at + size
        if end <= len(self._buffer):
            part = self._buffer[self._at : end]
            self._at = end
            return part
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < size:
            self._buffer = self._next()
            self._at = min(size - have, len(self._buffer))
            parts.append(self._buffer[: self._at])
            have += self._at
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size > len(self._buffer) - self._at:
            size -= len(self._buffer) - self._at
            self._buffer, self._at = self._next(), 0
        self._at += size

    def _next(self) -> bytes:
        try:
            piece = next(self._pieces, b"")
        except CodecError as error:
            raise TarError(f"{error}, at or after {self._name}") from error
        if not piece:
            raise TarError(f"the archive is cut off at or after {self._name}")
        return piece

    def _number(self, field: bytes, what: str) -> int:
        """Read an octal number, or GNU's base-256 for large ones."""
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        digits = field.strip(b" \0")
        if not digits:
            return 0
        if not _OCTAL.issuperset(digits):
            raise TarError(f"the {what} in a header at or after {self._name} is not a number")
        return int(digits, 8)

    def _checked(self, header: bytes) -> None:
        total = sum(header) - sum(header[148:156]) + 8 * 0x20
        if total != self._number(header[148:156], "checksum"):
            raise TarError(f"a header at or after {self._name} has a wrong checksum")

    def _extend(self, extended: dict[str, str], kind: bytes, size: int, header: bytes) -> None:
        """Read a GNU long name (L), long link (K) or a pax header (x, g) for the member that follows."""
        self._checked(header)
        if size > _MAX_EXTENDED:
            raise TarError(f"an extended header at or after {self._name} has {size} bytes")
        data = self._take(size + -size % BLOCK)[:size]
        if kind in {b"L", b"K"}:
            extended["path" if kind == b"L" else "linkpath"] = self._text(data.partition(b"\0")[0])
        elif kind == b"x":
            extended.update(self._pax(data))
        # Global headers (g) carry comments in practice (git archive); a global path or size would be nonsense.

    def _pax(self, data: bytes) -> dict[str, str]:
        """Split pax records: `LENGTH KEY=VALUE\\n`, the length counting the whole record."""
        records = {}
        at = 0
        while at < len(data):
            digits, space, _ = data[at : at + 20].partition(b" ")
            length = int(digits) if space and digits.isdigit() else 0
            key, equals, value = data[at + len(digits) + 1 : at + length].partition(b"=")
            if length < len(digits) + 4 or not equals or not value.endswith(b"\n") or at + length > len(data):
                raise TarError(f"a pax header at or after {self._name} is malformed")
            if key.startswith(b"GNU.sparse"):
                raise TarError(f"a sparse file comes after {self._name}")
            if key in {b"path", b"linkpath", b"size", b"uid", b"gid"}:
                records[key.decode()] = self._text(value[:-1])
            at += length
        return records

    def _text(self, raw: bytes) -> str:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TarError(f"the name {raw!r} is not UTF-8") from error
        if not text.isprintable() and any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
            raise TarError(f"the name {text!r} has control characters")
        return text

    def _path(self, text: str) -> str:
        """Return a path relative and clean; refuse what could lead out of the package."""
        if text.startswith("/"):
            raise TarError(f"the path {text} is absolute")
        path = text[2:] if text.startswith("./") else text
        path = path.removesuffix("/")
        if path in {"", "."}:
            return ""
        if "//" in path or "/." in path or path.startswith("."):
            parts = [part for part in path.split("/") if part not in {"", "."}]
            if ".." in parts:
                raise TarError(f"the path {text} has '..'")
            path = "/".join(parts)
        return path

    def _pax_number(self, extended: dict[str, str], key: str, header: int) -> int:
        text = extended.get(key)
        if text is None:
            return header
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise TarError(f"a pax header at or after {self._name} has the {key} {text!r}")
        return int(text)

    def _member(self, header: bytes, kind: bytes, extended: dict[str, str]) -> Member:
        self._checked(header)
        name = extended.get("path")
        if name is None:
            raw = header[:100].partition(b"\0")[0]
            prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
            name = self._text(prefix + b"/" + raw if prefix else raw)
        type_ = _TYPES.get(kind)
        if type_ is None:
            raise TarError(f"{name} is a tar member of type {kind!r}, which packages do not have")
        if type_ == "file" and name.endswith("/"):
            type_ = "directory"  # as tar wrote them before POSIX
        target = ""
        if type_ in {"symlink", "hardlink"}:
            target = extended.get("linkpath") or self._text(header[157:257].partition(b"\0")[0])
            if not target:
                raise TarError(f"the link {name} has no target")
            if type_ == "hardlink":
                target = self._path(target)
        size = self._pax_number(extended, "size", self._number(header[124:136], "size"))
        uid = self._pax_number(extended, "uid", self._number(header[108:116], "uid"))
        gid = self._pax_number(extended, "gid", self._number(header[116:124], "gid"))
        if max(uid, gid) > _MAX_ID:
            raise TarError(f"{name} belongs to {uid}:{gid}, which is no user and group")
        mode = self._number(header[100:108], "mode") & 0o7777
        return Member(self._path(name), type_, mode, uid, gid, size if type_ == "file" else 0, target)
