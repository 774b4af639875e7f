# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sidecar with licence texts: a tar archive, compressed with zstd, for who ships the image; reproducible."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from preroot.image.compress import compress
from preroot.recipe.schema import Codec
from preroot.tree.model import Entry, Tree

#: the codec, and a level that takes 1.5 MB of texts in a twentieth of a second
CODEC: Codec = "zstd"
LEVEL = 9


def licence_archive(tree: Tree, read: Callable[[Entry], bytes]) -> bytes:
    """Return the archive of a tree of licence texts. `read` returns a file's content.

    A POSIX archive (pax) with paths as in an image, all root's, of the time 0, as tar(1) unpacks it.
    """
    import tarfile

    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, entry in sorted(tree.entries.items()):
            member = tarfile.TarInfo(path)
            member.mode = entry.mode
            if entry.type == "directory":
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif entry.type == "symlink":
                member.type, member.linkname = tarfile.SYMTYPE, _relative(path, entry.target)
                archive.addfile(member)
            else:
                data = read(entry)
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    data = buffer.getvalue()
    return b"".join(compress([data], CODEC, LEVEL, size=len(data)))


def _relative(path: str, target: str) -> str:
    """Return a link's target such that it holds wherever the archive is unpacked."""
    import posixpath

    if not target.startswith("/"):
        return target
    return posixpath.relpath(target, "/" + posixpath.dirname(path))
