# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trees, parts and plans for the tests of the image and of its reading side."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from hypothesis import strategies as st

from preroot.packages.model import Lock
from preroot.recipe.schema import Codec
from preroot.tree.model import BytesContent, Entry, EntryType, KernelPlan, PartPlan, Plan, Reason, Tree

FEATURE = (Reason("feature", "base"),)


def file(path: str, data: bytes = b"", mode: int = 0o644, reasons: tuple[Reason, ...] = FEATURE) -> Entry:
    digest = sha256(data).hexdigest()
    return Entry(path, "file", mode, 0, 0, "a=1", reasons, len(data), digest, content=BytesContent(data))


def other(
    path: str, kind: EntryType, mode: int = 0o755, target: str = "", device: tuple[str, int, int] | None = None
) -> Entry:
    return Entry(path, kind, mode, 0, 0, "preroot", FEATURE, target=target, device=device)


def tree(*entries: Entry) -> Tree:
    """Make a tree of the entries and of all directories above them."""
    found = {entry.path: entry for entry in entries}
    for path in list(found):
        parts = path.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            above = "/".join(parts[:end])
            found.setdefault(above, other(above, "directory"))
    return Tree({path: found[path] for path in sorted(found)})


def part(name: str, content: Tree, codec: Codec = "none", level: int = 3) -> PartPlan:
    return PartPlan(name, "systemd", content, ("base",), "cpio", codec, level)


def kernel(config: Mapping[str, str]) -> KernelPlan:
    return KernelPlan("6.1", (), {}, {}, (), dict(config), None)


LOCK = Lock(1, "0", "r", {}, "apt", "debian", "trixie", "amd64", {}, ())


def plan(*parts: PartPlan, config: Mapping[str, str] | None = None, secret: bool = False) -> Plan:
    return Plan("t", "initrd", parts, kernel(config) if config is not None else None, LOCK, secret=secret)


_names = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and name != "TRAILER!!!"
)
_paths = st.lists(_names, min_size=1, max_size=4).map("/".join)
_modes = st.integers(0, 0o7777)
_ids = st.integers(0, 0xFFFFFFFF)


@st.composite
def _entries(draw: st.DrawFn, path: str) -> Entry:
    mode, uid, gid = draw(_modes), draw(_ids), draw(_ids)
    kind = draw(st.sampled_from(["file", "directory", "symlink", "node"]))
    if kind == "file":
        data = draw(st.binary(max_size=70))
        return Entry(path, "file", mode, uid, gid, "a=1", FEATURE, len(data), sha256(data).hexdigest(),
                     content=BytesContent(data))  # fmt: skip
    if kind == "symlink":
        return Entry(path, "symlink", 0o777, uid, gid, "a=1", FEATURE, target=draw(_names))
    if kind == "node":
        device = (draw(st.sampled_from("cb")), draw(st.integers(0, 4095)), draw(st.integers(0, 1 << 20)))
        return Entry(path, "node", mode, uid, gid, "a=1", FEATURE, device=device)
    return Entry(path, "directory", mode, uid, gid, "a=1", FEATURE)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Any tree: what is above another path is a directory."""
    paths = sorted(draw(st.sets(_paths, max_size=8)))
    above = {"/".join(path.split("/")[:end]) for path in paths for end in range(1, len(path.split("/")))}
    entries = [draw(_entries(path)) for path in paths if path not in above]
    return tree(*entries)
