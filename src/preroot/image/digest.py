# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tree digest: what an image contains, independent of how and with which tools it was packed.

The digest of a part is the SHA-256 of this serialisation. First the line `preroot tree 1`, ended by LF. Then for each
path, sorted by the bytes of its UTF-8 name, seven fields, each ended by NUL, and an LF:

    path, type, mode, uid, gid, value, secret

- type: `f` file, `d` directory, `l` symbolic link, `c` or `b` device node
- mode: permission bits with set-id and sticky, octal without leading zeros
- uid, gid: decimal
- value: file: SHA-256 of its content in lower-case hexadecimal; link: its target; node: `MAJOR:MINOR` in decimal;
  directory: empty
- secret: `secret` for a secret file, whose value, uid and gid are then empty; otherwise empty

Names and targets that are not UTF-8 stand as the bytes that they are. The digest of an image is the SHA-256 of the line
`preroot image 1` and one line `NAME DIGEST` for each part in the image's order, all ended by LF.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from preroot.tree.model import BytesContent, Entry, FileContent, Tree

_LETTERS = {"file": "f", "directory": "d", "symlink": "l"}


def is_secret(entry: Entry) -> bool:
    """Tell whether an entry's content must appear nowhere but in the image."""
    return isinstance(entry.content, FileContent | BytesContent) and entry.content.secret


def content_digest(entry: Entry) -> str:
    """Return the SHA-256 of a file entry, '' of a secret one; one that is in memory and has none yet is digested."""
    if is_secret(entry):
        return ""
    if entry.sha256:
        return entry.sha256
    if isinstance(entry.content, BytesContent):
        return sha256(entry.content.data).hexdigest()
    raise ValueError(f"{entry.path}: a file without a digest")


def tree_digest(tree: Tree) -> str:
    """Return the digest of one part's tree, in hexadecimal."""
    return records_digest({path: _record_of(entry) for path, entry in tree.entries.items()})


def records_digest(records: Mapping[str, str]) -> str:
    """Return the digest of a tree from its records, by path."""
    ordered = sorted((_name(path), record) for path, record in records.items())
    lines = "".join(["preroot tree 1\n", *(record for _, record in ordered)])
    return sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def record(
    path: str, type_: str, mode: int, uid: int, gid: int, *, digest: str, target: str,
    device: tuple[str, int, int] | None,
) -> str:  # fmt: skip
    """Return the record of a path; of `digest`, `target` and `device`, what its type has counts."""
    letter, value = _LETTERS.get(type_, type_), {"file": digest, "symlink": target}.get(type_, "")
    if device is not None:
        letter, value = device[0], f"{device[1]}:{device[2]}"
    return f"{path}\0{letter}\0{mode:o}\0{uid}\0{gid}\0{value}\0\0\n"


def secret_record(path: str, mode: int) -> str:
    """Return the record of a secret file."""
    return f"{path}\0f\0{mode:o}\0\0\0\0secret\0\n"


def _record_of(entry: Entry) -> str:
    if is_secret(entry):
        return secret_record(entry.path, entry.mode)
    digest = content_digest(entry) if entry.type == "file" else ""
    return record(
        entry.path, entry.type, entry.mode, entry.uid, entry.gid, digest=digest, target=entry.target,
        device=entry.device,
    )  # fmt: skip


def image_tree_digest(parts: Iterable[tuple[str, str]]) -> str:
    """Return the digest of an image from the (name, tree digest) of its parts, in the image's order."""
    lines = ["preroot image 1\n", *(f"{name} {digest}\n" for name, digest in parts)]
    return sha256("".join(lines).encode()).hexdigest()


def _name(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
