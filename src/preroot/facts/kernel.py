# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be read off a kernel's own files: its configuration, its built-in modules, its version. Pure.

Sources: kernel Documentation/kbuild/kconfig.rst (.config), Documentation/kbuild/kbuild.rst (modules.builtin,
modules.builtin.modinfo), usr/Kconfig (CONFIG_RD_*).
"""

from __future__ import annotations

from collections.abc import Mapping

#: usr/Kconfig: which initrd compressors the kernel understands
_DECOMPRESSORS = {
    "RD_GZIP": "gzip",
    "RD_BZIP2": "bzip2",
    "RD_LZMA": "lzma",
    "RD_XZ": "xz",
    "RD_LZO": "lzo",
    "RD_LZ4": "lz4",
    "RD_ZSTD": "zstd",
}

#: what is put behind a module's name by `make modules_install` (scripts/Makefile.modinst)
MODULE_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")

#: files in /boot that carry the kernel's version behind the first dash
_BOOT_FILES = ("vmlinuz", "vmlinux", "config", "System.map", "initrd.img")


def parse_config(text: str) -> dict[str, str]:
    """Read a kernel configuration: option without `CONFIG_` → `y`, `m`, a number or a string without its quotes.

    Options that are not set are not in the result.
    """
    options: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, equals, value = line.partition("=")
            if equals and value != "n":
                value = value.rstrip()
                options[name[7:].rstrip()] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return options


def module_name(path: str) -> str:
    """Return a module's name as the kernel has it, from its name, file name or path: no suffix, `_` for `-`."""
    name = path.rsplit("/", 1)[-1]
    end = name.find(".ko")
    if end > 0 and name.endswith(MODULE_SUFFIXES):
        name = name[:end]
    return name.replace("-", "_")


def parse_builtin(text: str) -> dict[str, str]:
    """Read modules.builtin: name → path below the modules directory (`kernel/drivers/nvme/host/nvme.ko`)."""
    return {module_name(line): line for line in map(str.strip, text.splitlines()) if line}


def parse_builtin_aliases(data: bytes) -> tuple[tuple[str, str], ...]:
    """Read the aliases in modules.builtin.modinfo, a sequence of NUL-terminated `MODULE.KEY=VALUE`.

    Returns pairs (alias, module name), in the file's order.
    """
    found = []
    for record in data.split(b"\0"):
        left, _, value = record.partition(b"=")
        if left.endswith(b".alias"):
            found.append((value.decode("utf-8", "replace"), module_name(left[:-6].decode("utf-8", "replace"))))
    return tuple(found)


def parse_builtin_firmware(data: bytes) -> dict[str, tuple[str, ...]]:
    """Read the firmware that built-in drivers name, from modules.builtin.modinfo: module → names."""
    found: dict[str, list[str]] = {}
    if b".firmware=" in data:
        for record in data.split(b"\0"):
            left, _, value = record.decode("utf-8", "replace").partition("=")
            if left.endswith(".firmware"):
                found.setdefault(module_name(left[:-9]), []).append(value)
    return {name: tuple(names) for name, names in found.items()}


def kernel_version_from_path(path: str) -> str | None:
    """Return the kernel release that a path belongs to, or None.

    Knows `…lib/modules/VERSION/…` and `boot/vmlinuz-VERSION` (config, System.map, vmlinux alike).
    """
    if path.startswith("boot/"):
        name, dash, version = path[5:].partition("-")
        return version if dash and version and "/" not in version and name in _BOOT_FILES else None
    for base in ("usr/lib/modules/", "lib/modules/"):
        if path.startswith(base):
            version, slash, _ = path[len(base) :].partition("/")
            return version if slash and version else None
    return None


def compressors(config: Mapping[str, str]) -> frozenset[str]:
    """Return the codecs that the kernel unpacks an initrd from, `none` too; nothing if it takes no initrd."""
    if config.get("BLK_DEV_INITRD") != "y":
        return frozenset()
    return frozenset(["none", *(codec for option, codec in _DECOMPRESSORS.items() if config.get(option) == "y")])


def codec_option(codec: str) -> str:
    """Return the kernel option (`CONFIG_RD_ZSTD`) that lets the kernel unpack `codec`, '' for an unknown codec."""
    return next((f"CONFIG_{option}" for option, name in _DECOMPRESSORS.items() if name == codec), "")
