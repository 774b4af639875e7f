# SPDX-License-Identifier: LGPL-2.1-or-later
"""crypttab(5): the volumes that it has, what is wrong with it, and which files of the image it refers to. Pure.

Lines are read as systemd-cryptsetup-generator does (add_crypttab_devices() in src/cryptsetup/cryptsetup-generator.c of
systemd 257): two to four fields divided by blanks, `#` starts a comment at the beginning of a line only.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from preroot.errors import nearest
from preroot.packages.model import PluginConfiguration

#: The options of crypttab(5), systemd 252 to 262, that make sense before there is a root; `=`: with a value.
_SYSTEMD = frozenset(
    """
    bitlk cipher= discard fido2-cid= fido2-device= fido2-pin= fido2-rp= fido2-up= fido2-uv= fixate-volume-key=
    hash= header= headless headless= key-slot= keyfile-erase keyfile-erase= keyfile-offset= keyfile-size=
    keyfile-timeout= link-volume-key= luks _netdev no-read-workqueue no-write-workqueue noauto nofail offset=
    password-cache= password-echo= pkcs11-uri= plain read-only readonly same-cpu-crypt sector-size= size=
    skip= submit-from-crypt-cpus tcrypt tcrypt-hidden tcrypt-keyfile= tcrypt-system tcrypt-veracrypt timeout=
    token-timeout= tpm2-device= tpm2-measure-bank= tpm2-measure-keyslot-nvpcr= tpm2-measure-pcr= tpm2-pcrlock=
    tpm2-pcrs= tpm2-pin= tpm2-signature= tries= try-empty-password try-empty-password= veracrypt-pim= verify
    x-initrd.attach x-systemd.device-timeout=
    """.split()  # noqa: SIM905
)
#: what step 30-luks of the busybox flavour hands on to cryptsetup
_BUSYBOX = frozenset(
    """
    discard header= key-slot= keyfile-offset= keyfile-size= luks no-read-workqueue no-write-workqueue
    read-only readonly same-cpu-crypt submit-from-crypt-cpus x-initrd.attach
    """.split()  # noqa: SIM905
)
#: their value is a file
_FILES = ("header", "tcrypt-keyfile", "tpm2-signature", "tpm2-pcrlock")
#: what is there only when the system runs
_RUNNING = ("/dev/", "/proc/", "/run/", "/sys/")


class Volume(Struct, frozen=True):
    """One line. `fields` has as many as the line."""

    line: int
    fields: tuple[str, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options as they are written."""
        text = self.fields[3] if len(self.fields) > 3 else ""
        return tuple(each for each in text.split(",") if each not in ("", "-", "none"))


def volumes(text: str) -> Iterator[Volume]:
    """Yield the lines of a crypttab that are neither empty nor a comment."""
    for number, line in enumerate(text.split("\n"), 1):
        fields = tuple(line.split())
        if fields and not fields[0].startswith("#"):
            yield Volume(number, fields)


def read_crypttab(data: bytes) -> PluginConfiguration:
    """Return what a crypttab refers to: images, key files, headers and the like that lie in the image itself.

    A key or header with `:DEVICE` behind it is on that device. Never raises.
    """
    paths: dict[str, None] = {}
    for volume in volumes(data.decode("utf-8", "replace")):
        values = [each.partition("=") for each in volume.options]
        named = (*volume.fields[1:3], *(value for option, _, value in values if option in _FILES))
        paths |= dict.fromkeys(each for each in named if _is_in_image(each))
    return PluginConfiguration((), (), tuple(paths))


def _is_in_image(place: str) -> bool:
    """Return whether a field is a file of the image (split_locationspec() of the generator: a device may follow)."""
    _, colon, device = place.rpartition(":")
    on_device = bool(colon) and (device.startswith("/") or "=" in device)
    return place.startswith("/") and not on_device and not place.startswith(_RUNNING)


def crypttab_problems(text: str, flavour: str) -> list[str]:
    """Return what is wrong with the crypttab of a part of `flavour`, one line each.

    systemd would only log that it passes over a line or an option, and a volume stay locked that somebody counts on.
    """
    known = _BUSYBOX if flavour == "busybox" else _SYSTEMD
    problems = []
    seen: dict[str, int] = {}
    for volume in volumes(text):
        where = f"/etc/crypttab:{volume.line}"
        if not 2 <= len(volume.fields) <= 4:
            problems.append(f"{where}: a volume has two to four fields (name, device, key, options), this one has "
                            f"{len(volume.fields)}")  # fmt: skip
            continue
        name = volume.fields[0]
        if "/" in name:
            problems.append(f"{where}: {name!r} can't be the name of a volume: it has a /")
        if name in seen:
            problems.append(f"{where}: the volume {name!r} is there twice, in line {seen[name]} too")
        seen.setdefault(name, volume.line)
        for option in volume.options:
            key, equals, _ = option.partition("=")
            if key + equals not in known:
                hint = nearest(key, {each.rstrip("=") for each in known})
                problems.append(f"{where}: no option {option!r} of crypttab(5) is known in a {flavour} part"
                                + (f" ({hint})" if hint else ""))  # fmt: skip
    return problems
