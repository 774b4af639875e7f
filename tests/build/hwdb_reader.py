# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a whole hwdb.bin: a trie of patterns, each with its properties (libsystemd's sd-hwdb/hwdb-internal.h)."""

from __future__ import annotations

import struct


def read_hwdb(data: bytes) -> dict[str, dict[str, str]]:
    """Return pattern → key → value; of several values for one key, that of the last file and line."""
    magic, _, file_size, header_size, node_size, child_size, value_size, root, *_ = struct.unpack_from("<8s9Q", data)
    assert (magic, file_size, header_size, node_size, child_size) == (b"KSLPHHRH", len(data), 80, 24, 16)
    assert value_size == 32

    def text(at: int) -> str:
        return data[at : data.index(b"\0", at)].decode()

    found: dict[str, dict[str, str]] = {}
    todo = [(root, "")]
    while todo:
        at, before = todo.pop()
        prefix, children, values = struct.unpack_from("<QB7xQ", data, at)
        pattern = before + text(prefix)
        for number in range(children):
            character, child = struct.unpack_from("<B7xQ", data, at + node_size + number * child_size)
            todo.append((child, pattern + chr(character)))
        order: dict[str, tuple[int, int]] = {}
        for number in range(values):
            place = at + node_size + children * child_size + number * value_size
            key, value, _, line, priority = struct.unpack_from("<QQQIH", data, place)
            name = text(key).removeprefix(" ")
            if (priority, line) >= order.get(name, (0, 0)):
                order[name] = (priority, line)
                found.setdefault(pattern, {})[name] = text(value)
    return found
