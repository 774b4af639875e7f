# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules: their .modinfo section and their compression.

Sources: include/linux/module.h and moduleparam.h (the section is NUL-terminated `key=value` strings), modinfo(8),
modprobe.d(5) for softdep and weakdep, Documentation/kbuild/kbuild.rst for modules.builtin.modinfo.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from msgspec import structs

from preroot.facts.kernel import module_name
from preroot.packages.codec import decompress, pieces
from preroot.packages.learn.elf import elf_section
from preroot.packages.model import ModuleInfo

#: File name suffix of a module → how it is compressed (kmod's list; "" is not at all).
MODULE_SUFFIXES = {".ko": "", ".ko.xz": "xz", ".ko.zst": "zst", ".ko.gz": "gz"}
#: The largest module that is accepted, decompressed: amdgpu with debug information has about 500 MB.
MAX_MODULE = 1 << 30

#: Keys of .modinfo that kbuild and <linux/module.h> write (6.12), parameters' included.
_KEYS = frozenset(
    b"alias author depends description file firmware import_ns info intree license livepatch name parm parmtype "
    b"retpoline rhelversion softdep srcversion staging supported test version vermagic weakdep".split()
)
#: Keys of which each module built by kbuild has exactly one (scripts/mod/modpost.c; `name` since Linux 4.13).
_ONCE = ("vermagic", "name", "depends")
#: Bytes decompressed at a time until the section was seen.
_GLANCE = 8 << 10
_LIKE_AN_ENTRY = re.compile(rb"[A-Za-z0-9_]=")


#: what scripts/sign-file.c puts at the end of a signed module, behind the signature
_SIGNED = b"~Module signature appended~\n"


def is_signed(data: bytes) -> bool:
    """Return whether a decompressed module carries a signature (Documentation/admin-guide/module-signing.rst)."""
    return data.endswith(_SIGNED)


def is_module(path: str) -> bool:
    """Return whether `path` is named like a kernel module."""
    return path.endswith(tuple(MODULE_SUFFIXES))


def module_codec(path: str) -> str:
    """Return how the module file `path` is compressed: "xz", "zst", "gz", or "" for not at all."""
    return next((codec for suffix, codec in MODULE_SUFFIXES.items() if path.endswith(suffix)), "")


def decompress_module(path: str, data: bytes) -> bytes:
    """Return the module `path` decompressed by what its suffix says.

    Raises preroot.packages.codec.CodecError when the data is damaged, truncated or has more than 1 GiB inside.
    """
    codec = module_codec(path)
    return decompress(data, codec, MAX_MODULE) if codec else data


def _words(values: Iterable[str], separator: str | None = None) -> tuple[str, ...]:
    words = (word.strip() for value in values for word in value.split(separator))
    return tuple(dict.fromkeys(word.replace("-", "_") for word in words if word))


def _soft(values: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split `pre: a b post: c` (modprobe.d(5)); words before either keyword mean nothing to kmod."""
    lists: dict[str, list[str]] = {"pre:": [], "post:": []}
    for value in values:
        current: list[str] = []
        for word in value.split():
            if word in lists:
                current = lists[word]
            else:
                current.append(word)
    return _words(lists["pre:"]), _words(lists["post:"])


def _record(pairs: list[tuple[str, str]], name: str, sha256: str, size: int) -> ModuleInfo:
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    pre, post = _soft(values.get("softdep", ()))
    return ModuleInfo(
        name=next(iter(values.get("name", ())), name).replace("-", "_") or name,
        depends=_words(values.get("depends", ()), ","), pre=pre, post=post, weak=_words(values.get("weakdep", ())),
        aliases=tuple(dict.fromkeys(values.get("alias", ()))),
        firmware=tuple(dict.fromkeys(values.get("firmware", ()))),
        vermagic=next(iter(values.get("vermagic", ())), ""), sha256=sha256, size=size,
        license=next(iter(values.get("license", ())), ""),
    )  # fmt: skip


def _pairs(section: bytes) -> list[tuple[str, str]]:
    strings = (part.decode("utf-8", "replace").partition("=") for part in section.split(b"\0") if part)
    return [(key, value) for key, equals, value in strings if equals]


def read_modinfo(data: bytes, path: str) -> ModuleInfo | None:
    """Read the .modinfo section of a decompressed module.

    Arguments: the module, and its path, from which the name comes when the section has no `name=` (before Linux 4.13).
    Returns None when it is not an ELF file with such a section. Never raises.
    """
    section = elf_section(data, ".modinfo")
    if section is None:
        return None
    return _record(_pairs(section), module_name(path), hashlib.sha256(data).hexdigest(), len(data))


def glance_modinfo(data: bytes, path: str) -> ModuleInfo | None:
    """Read .modinfo of a compressed module from its beginning, without decompressing all of it.

    The section ends after 11 % of a module on average (Debian's 6.12 cloud kernel), and decompressing all modules
    whole is what a first build would spend most of its time on. The section headers are at the end of the file, so the
    section is found as the run of `key=value` strings that ends with `vermagic=`. The run counts only if its keys are
    all known, nothing alike stands around it, `name`, `depends` and `vermagic` are there once and the name is the
    file's; else the module is decompressed whole (3 % of those). What is left: a string constant of the driver, laid
    out directly before the section, that says `alias=…`; `Store.decompress_modules` compares what it decompresses.

    Arguments: the file and its path. In the record `sha256` is "" and `size` 0 for a compressed module. Returns None
    when there is no .modinfo. Raises preroot.packages.codec.CodecError for damaged data.
    """
    codec = module_codec(path)
    if not codec:
        return read_modinfo(data, path)
    pairs = _glance(pieces(data, codec, MAX_MODULE, _GLANCE), module_name(path))
    if pairs is None:
        section = elf_section(decompress_module(path, data), ".modinfo")
        if section is None:
            return None
        pairs = _pairs(section)
    return _record(pairs, module_name(path), "", 0)


def _glance(chunks: Iterator[bytes], name: str) -> list[tuple[str, str]] | None:
    """Return the pairs of the run that ends with `vermagic=`, None when it can't be told for certain."""
    head = bytearray()
    for chunk in chunks:
        searched = max(0, len(head) - 4096)
        head += chunk
        at = head.find(b"\0vermagic=", searched) + 1
        end = head.find(b"\0", at) if at else -1
        if end < 0 or len(head) < end + 256:
            continue
        follows = head[end : end + 256].lstrip(b"\0").partition(b"=")[0]
        run = _run_before(head, end)
        if run is None:
            return None
        pairs = _pairs(run)
        keys = [key for key, _ in pairs]
        sure = all(keys.count(key) == 1 for key in _ONCE) and dict(pairs)["name"].replace("-", "_") == name
        return pairs if sure and bytes(follows) not in _KEYS else None
    return None


def _run_before(head: bytearray, end: int) -> bytes | None:
    """Return the strings up to `end` that have known keys, without a gap.

    None when what stands before them may belong to them: a section that does not end in NUL (.rodata of ntfs3 and
    xt_time in 6.12) makes one string of its last bytes and the first entry, and a key may be unknown here.
    """
    start = end
    while start > 0:
        previous = head.rfind(b"\0", 0, start) + 1
        if previous < start and bytes(head[previous:start].partition(b"=")[0]) not in _KEYS:
            return None if _LIKE_AN_ENTRY.search(head, previous, start) else bytes(head[start + 1 : end])
        start = previous - 1
    return None


def same_facts(one: ModuleInfo, other: ModuleInfo) -> bool:
    """Return whether two records say the same of a module, digest and size apart."""
    return structs.replace(one, sha256="", size=0) == structs.replace(other, sha256="", size=0)


def read_builtin_modinfo(data: bytes) -> tuple[ModuleInfo, ...]:
    """Read modules.builtin.modinfo: NUL-terminated `module.key=value` strings, in the order of the file.

    Never raises; strings that don't have that form are passed over. `sha256` is "" and `size` 0.
    """
    modules: dict[str, list[tuple[str, str]]] = {}
    for key, value in _pairs(data):
        name, dot, field = key.partition(".")
        if dot:
            modules.setdefault(name, []).append((field, value))
    return tuple(_record(pairs, name.replace("-", "_"), "", 0) for name, pairs in modules.items())
