# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel images: the release that they say they are.

Sources: Documentation/arch/x86/boot.rst (bzImage), drivers/firmware/efi/libstub/zboot-header.S (EFI zboot),
Documentation/arch/arm64/booting.rst (Image, Image.gz), init/version-timestamp.c (the banner); 6.12.
"""

from __future__ import annotations

import re

from preroot.packages.codec import CodecError, decompress

#: A kernel that is larger when decompressed is none: one with debug information has about 500 MB.
MAX_IMAGE = 1 << 30
#: How much of a bzImage has its header and the text that this points to: at most 64 sectors of real-mode code.
HEAD = 64 << 10
_BANNER = re.compile(rb"Linux version ([A-Za-z0-9][A-Za-z0-9.+~_-]*) \(")
_RELEASE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9.+~_-]*")
#: zboot's name of the compression → the codec's; its other ones (lz4, lzma, lzo) are not read here
_ZBOOT = {b"gzip": "gz", b"xzkern": "xz", b"zstd": "zst", b"zstd22": "zst"}


def bzimage_release(head: bytes) -> str | None:
    """Return the release in the header of an x86 bzImage, '' where it says none, None for what is no bzImage.

    Argument: the file, or its first HEAD bytes. Never raises.
    """
    if head[0x1FE:0x200] != b"\x55\xaa" or head[0x202:0x206] != b"HdrS":
        return None
    at = int.from_bytes(head[0x20E:0x210], "little")
    found = _RELEASE.match(head, at + 0x200) if at else None
    return found[0].decode() if found else ""


def kernel_release(data: bytes) -> str:
    """Return the release (uname -r) of a kernel image, '' where it can't be told. Never raises.

    Argument: the whole file: bzImage, EFI zboot, Image, Image.gz or ELF. What unpacks itself by code of its own
    (zImage of 32-bit ARM, bzImage of s390x) does not say it in clear.
    """
    found = bzimage_release(data)
    if found is not None:
        return found
    try:
        banner = _BANNER.search(_plain(data))
    except CodecError:
        return ""
    return banner[1].decode() if banner else ""


def _plain(data: bytes) -> bytes:
    """Return the kernel that is compressed in the file, or the file itself. Raises CodecError."""
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        start, size = int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little")
        codec = _ZBOOT.get(data[24:56].partition(b"\0")[0])
        return decompress(data[start : start + size], codec, MAX_IMAGE) if codec else b""
    return decompress(data, "gz", MAX_IMAGE) if data[:2] == b"\x1f\x8b" else data
