# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the parts of a plan, one behind the other, into a file that is staged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from msgspec import Struct

from preroot.errors import BuildError
from preroot.facts.kernel import codec_option, compressors
from preroot.image.compress import check_level, compress
from preroot.image.content import ContentReader
from preroot.image.cpio import archive_chunks
from preroot.image.kept import KeptPart, KeptParts
from preroot.progress import Reporter, Silent
from preroot.recipe.schema import Codec, FormatName, LayoutName
from preroot.staging import Staging, write_all
from preroot.tree.model import Entry, KernelPlan, PartPlan, Plan

#: The kernel looks for microcode only in an uncompressed archive at the very beginning
#: (Documentation/arch/x86/microcode.rst); modules come last, so that they can be exchanged with the kernel.
_PART_ORDER = ("microcode", "base", "exitrd", "modules")
#: what processors want of microcode's address (Intel SDM 3A, "Microcode Update Facilities")
_MICROCODE_ALIGN = 16


class WrittenPart(Struct, frozen=True):
    """Where a part lies in the file that was written; sizes and offset in bytes."""

    name: str
    offset: int
    size: int
    uncompressed: int


class WrittenImage(Struct, frozen=True):
    """A file that was written."""

    path: str
    size: int
    sha256: str
    parts: tuple[WrittenPart, ...]


def parts_in_order(plan: Plan) -> tuple[PartPlan, ...]:
    """Return the parts that have any content, in the order in which an initrd has them."""
    ranks = {name: rank for rank, name in enumerate(_PART_ORDER)}
    filled = [part for part in plan.parts if part.tree.entries]
    return tuple(sorted(filled, key=lambda part: ranks.get(part.name, len(ranks))))


def alignment(part: PartPlan) -> int:
    """Return what files' contents in a part's archive are aligned to, in bytes."""
    return _MICROCODE_ALIGN if part.name == "microcode" else 4


def check_codec(part: PartPlan, kernel: KernelPlan | None) -> None:
    """Raise BuildError when the kernel cannot unpack a part, RecipeError when the codec has no such level.

    A kernel whose configuration is not known is trusted.
    """
    check_level(part.codec, part.level)
    if kernel is None or not kernel.config:
        return
    known = compressors(kernel.config)
    if not known:
        raise BuildError(f"kernel {kernel.version} takes no initrd: CONFIG_BLK_DEV_INITRD is not set")
    if part.codec not in known:
        option = codec_option(part.codec)
        raise BuildError(f"kernel {kernel.version} cannot unpack {part.codec} (part {part.name}): {option} is not set",
                         f"it unpacks {', '.join(sorted(known))}")  # fmt: skip


def check_formats(plan: Plan) -> None:
    """Raise BuildError when a part's format is not available for the plan's layout."""
    available = sorted(name for layout, name in _WRITERS if layout == plan.layout)
    for part in plan.parts:
        if (plan.layout, part.format) not in _WRITERS:
            raise BuildError(f"format {part.format} is not available for layout {plan.layout} (part {part.name})",
                             f"available: {', '.join(available)}" if available else "use layout initrd")  # fmt: skip


def write_image(
    plan: Plan, target: Path, reader: ContentReader, *, staging: Staging | None = None, threads: int = 0,
    kept: KeptParts | None = None, reporter: Reporter | None = None,
) -> WrittenImage:  # fmt: skip
    """Write the image of a plan to the file `target` and return what was written.

    With `staging` it is there when that is committed, together with what else is staged; without, at once.
    `threads` is the number of compression threads (0: all processors). Parts that are in `kept` are taken from there,
    and those that are not are put there; None: all are made anew. The file is readable by its owner alone if the plan
    has a secret. Raises BuildError and RecipeError for what cannot be written.
    """
    if staging is None:
        with Staging() as alone:
            image = write_image(plan, target, reader, staging=alone, threads=threads, kept=kept, reporter=reporter)
            alone.commit()
        return image
    check_formats(plan)
    parts = parts_in_order(plan)
    if not parts:
        raise BuildError(f"{plan.name}: there is nothing to write")
    for part in parts:
        check_codec(part, plan.kernel)
    write = _WRITERS[plan.layout, parts[0].format]
    reporter = reporter or Silent()
    total = sum(entry.size for part in parts for entry in part.tree.entries.values())
    with reporter.step("packing", total) as step, staging.new(target, secret=plan.secret) as file:

        def read(entry: Entry) -> bytes:
            data = reader.read(entry)
            step.advance(entry.size)  # 0 for a secret: what is told of progress is no place for its size
            return data

        def pack(part: PartPlan) -> _Packing:
            return _Packing(part, read, threads)

        output = Output(file, hashlib.sha256())
        written = write(output, parts, pack, kept)
    return WrittenImage(str(target), output.position, output.digest.hexdigest(), written)


class Digest(Protocol):
    """A running digest, as hashlib makes them."""

    def update(self, data: bytes, /) -> None:
        """Add data."""

    def hexdigest(self) -> str:
        """Return the digest so far."""


class Output:
    """A file that is written from beginning to end: counts and digests what goes by."""

    def __init__(self, raw: BinaryIO, digest: Digest) -> None:
        self._raw = raw
        self.digest = digest
        self.position = 0

    def write(self, data: bytes) -> None:
        """Write all of the data."""
        self.digest.update(data)
        self.position += len(data)
        write_all(self._raw, data)

    def align(self, to: int) -> None:
        """Write zeros up to the next multiple of `to` bytes."""
        self.write(bytes(-self.position % to))


def _write_initrd(
    output: Output, parts: tuple[PartPlan, ...], pack: Callable[[PartPlan], _Packing], kept: KeptParts | None
) -> tuple[WrittenPart, ...]:
    """Write the parts one behind the other, each an archive with its own end, aligned to four bytes."""
    written: list[WrittenPart] = []
    previous: Codec = "none"
    for part in parts:
        output.align(4)
        if previous == "lz4":
            # The legacy frame has no end: the kernel ends it at a block size of zero (lib/decompress_unlz4.c, 6.12)
            output.write(bytes(4))
        if part.name == "microcode" and part.codec != "none":
            raise BuildError(f"part microcode is compressed with {part.codec}; the kernel reads it uncompressed only")
        offset = output.position
        uncompressed = _write_part(output, part, pack, kept)
        written.append(WrittenPart(part.name, offset, output.position - offset, uncompressed))
        previous = part.codec
    return tuple(written)


def _write_part(
    output: Output, part: PartPlan, pack: Callable[[PartPlan], _Packing], kept: KeptParts | None
) -> int:  # fmt: skip
    """Write one part, from what is kept or anew, and return its size before compression (bytes)."""
    # what is not compressed is read faster than it is kept
    keeps = kept if part.codec != "none" else None
    found = keeps.recall(part) if keeps else None
    if found is not None:
        output.write(found.data)
        return found.uncompressed
    packing = pack(part)
    pieces = []
    for piece in packing:
        output.write(piece)
        if keeps:
            pieces.append(piece)
    if keeps:
        keeps.keep(part, KeptPart(b"".join(pieces), packing.uncompressed))
    return packing.uncompressed


class _Packing:
    """One part's compressed archive, piece by piece; `uncompressed` is its size before that, once all are out."""

    def __init__(self, part: PartPlan, read: Callable[[Entry], bytes], threads: int) -> None:
        self._part = part
        self._read = read
        self._threads = threads
        self.uncompressed = 0

    def __iter__(self) -> Iterator[bytes]:
        part = self._part
        entries = part.tree.entries.values()
        size = sum(entry.size for entry in entries)
        chunks = self._counted(archive_chunks(entries, self._read, align=alignment(part)))
        return iter(compress(chunks, part.codec, part.level, threads=self._threads, size=size))

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.uncompressed += len(chunk)
            yield chunk


_Writer = Callable[
    [Output, tuple[PartPlan, ...], Callable[[PartPlan], _Packing], KeptParts | None], tuple[WrittenPart, ...]
]

#: the formats that there are, by layout
_WRITERS: dict[tuple[LayoutName, FormatName], _Writer] = {("initrd", "cpio"): _write_initrd}
