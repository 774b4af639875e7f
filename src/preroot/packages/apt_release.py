# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads what preroot wants to know of an archive's Release file, which apt has verified before. Pure.

Formats: https://wiki.debian.org/DebianRepository/Format; OpenPGP signatures as of RFC 9580 (sections 4.2, 5.2, 6).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

_SIGNATURE = "-----BEGIN PGP SIGNATURE-----"
_SIGNED_MESSAGE = "-----BEGIN PGP SIGNED MESSAGE-----"


class Release(Struct, frozen=True):
    """The head of a Release file."""

    #: as written there (RFC 1123, in UTC)
    date: str
    #: as `date`; empty for releases that do not expire
    valid_until: str
    architectures: tuple[str, ...]
    components: tuple[str, ...]


def parse_release(text: str) -> Release:
    """Return the head of the Release or InRelease file `text`; a field that is not there is empty."""
    fields: dict[str, str] = {}
    lines = iter(text.splitlines())
    if text.startswith(_SIGNED_MESSAGE):
        for line in lines:  # the armor's own headers end with an empty line
            if not line.strip():
                break
    for line in lines:
        if line.startswith("-----BEGIN"):
            break
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            fields.setdefault(name.lower(), value.strip())
    return Release(
        date=fields.get("date", ""),
        valid_until=fields.get("valid-until", ""),
        architectures=tuple(fields.get("architectures", "").split()),
        components=tuple(fields.get("components", "").split()),
    )


def signers(text: str) -> tuple[str, ...]:
    """Return the fingerprints (else the key ids) of the keys that the armored signatures in `text` name.

    A name is no proof: apt has checked that one of them is in the keyring and that its signature is good. What
    cannot be read is passed over.
    """
    import base64
    import binascii

    found: dict[str, None] = {}
    for block in text.split(_SIGNATURE)[1:]:
        body = block.split("-----END", 1)[0]
        armor = body.split("\n\n", 1)[-1] if ":" in body.split("\n\n", 1)[0] else body
        coded = "".join(line.strip() for line in armor.splitlines() if not line.startswith("="))
        try:
            data = base64.b64decode(coded, validate=True)
            for packet in _signature_packets(data):
                found.update(dict.fromkeys(_issuer(packet)))
        except (binascii.Error, ValueError, IndexError):
            continue
    return tuple(found)


def _signature_packets(data: bytes) -> Iterator[bytes]:
    """Yield the bodies of the signature packets (tag 2) in `data` (RFC 9580, 4.2)."""
    place = 0
    while place + 2 <= len(data):
        head = data[place]
        if head & 0x40:
            tag = head & 0x3F
            length, start = _new_length(data, place + 1)
        else:
            tag = (head >> 2) & 0x0F
            width = (1, 2, 4, 0)[head & 3]
            length = int.from_bytes(data[place + 1 : place + 1 + width]) if width else len(data)
            start = place + 1 + width
        if tag == 2:
            yield data[start : start + length]
        place = start + length


def _new_length(data: bytes, place: int) -> tuple[int, int]:
    """Return length and place behind it, in the one-, two- and five-octet form that packets and subpackets share."""
    first = data[place]
    if first < 192:
        return first, place + 1
    if first < 255:
        return ((first - 192) << 8) + int.from_bytes(data[place + 1 : place + 2]) + 192, place + 2
    return int.from_bytes(data[place + 1 : place + 5]), place + 5


def _issuer(packet: bytes) -> Iterator[str]:
    """Yield the issuer that a version 4 or 6 signature names: fingerprint (subpacket 33), else key id (16)."""
    if len(packet) < 6 or packet[0] not in {4, 6}:
        return
    width = 2 if packet[0] == 4 else 4
    place, key_id = 4, ""
    for _ in ("hashed", "unhashed"):
        end = place + width + int.from_bytes(packet[place : place + width])
        place += width
        while place < min(end, len(packet)):
            length, start = _new_length(packet, place)
            body = packet[start : start + length]
            if body[:1] and body[0] & 0x7F == 33 and len(body) in {22, 34}:
                yield body[2:].hex().upper()
                return
            if body[:1] and body[0] & 0x7F == 16 and len(body) == 9:
                key_id = body[1:].hex().upper()
            place = start + max(length, 1)
        place = end
    if key_id:
        yield key_id


def list_name(base: str, suite: str, name: str) -> str:
    """Return the file name that apt gives to the Release file `name` of `suite` in its lists directory.

    Rule: apt-pkg/contrib/fileutl.cc, URItoFileName: without scheme and login, these characters quoted, / as _.
    """
    _, colon, rest = base.partition("://")
    path = (rest if colon else base.partition(":")[2]) + f"/dists/{suite}/{name}"
    quoted = "".join(f"%{ord(each):02x}" if each in '\\|{}[]<>"^~_=!@#$%^&*' else each for each in path)
    return quoted.replace("/", "_")
