# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images of real packages are closed: checked from their contents alone, with other code than the closure's.

ELF files are read by pyelftools, links, units and rules by a few lines of this file.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from fixture_types import LockMaker

from preroot.engine import Engine, Overrides
from preroot.facts.arch import arch
from preroot.tree.model import Plan

#: mounted over the image by its own init
AT_BOOT = ("/dev/", "/proc/", "/run/", "/sys/", "/sysroot/")
BUSYBOX = (
    "part.base.flavour=busybox",
    'part.base.features=["busybox", "ext4", "virtio", "nvme", "emergency-shell"]',
)
CASES = [
    pytest.param(("trixie", "amd64", ()), id="trixie"),
    pytest.param(("bookworm", "amd64", ()), id="bookworm"),
    pytest.param(("trixie", "arm64", ()), id="trixie-arm64"),
    pytest.param(("trixie", "amd64", BUSYBOX), id="busybox"),
    pytest.param(("forky", "armhf", BUSYBOX), id="busybox-armhf"),  # 32 bits
    pytest.param(("forky", "s390x", BUSYBOX), id="busybox-s390x"),  # big endian
    *(pytest.param(("forky", each, ()), id=f"forky-{each}", marks=pytest.mark.matrix)
      for each in ("amd64", "arm64", "armhf", "ppc64el", "riscv64", "s390x")),
    *(pytest.param(("forky", each, BUSYBOX), id=f"busybox-{each}", marks=pytest.mark.matrix)
      for each in ("ppc64el", "riscv64")),
    pytest.param(("sid", "amd64", ()), id="sid", marks=pytest.mark.matrix),
    pytest.param(("bookworm", "arm64", ()), id="bookworm-arm64", marks=pytest.mark.matrix),
    pytest.param(("sid", "arm64", ()), id="sid-arm64", marks=pytest.mark.matrix),
    pytest.param(("bookworm", "amd64", BUSYBOX), id="busybox-bookworm", marks=pytest.mark.matrix),
    pytest.param(("sid", "arm64", BUSYBOX), id="busybox-sid-arm64", marks=pytest.mark.matrix),
]  # fmt: skip


class Image:
    """The contents of all parts, as the kernel would unpack them one over the other. Paths start with a slash."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._read = engine.read
        self.entries = {f"/{path}": entry for part in plan.parts for path, entry in part.tree.entries.items()}
        self.files = {path: entry for path, entry in self.entries.items() if entry.type == "file"}
        self._elf: dict[str, Elf | None] = {}

    def data(self, path: str) -> bytes:
        return self._read(self.files[path])

    def real(self, path: str, depth: int = 0) -> str | None:
        """Return the path without links, None where it leads nowhere; what exists at boot stays as it is."""
        assert depth < 40, f"too many links: {path}"
        here = ""
        parts = [part for part in path.split("/") if part]
        for number, part in enumerate(parts):
            here = posixpath.dirname(here) if part == ".." else f"{here}/{part}".replace("//", "/")
            if f"{here}/".startswith(AT_BOOT):
                return "/".join([here, *parts[number + 1 :]])
            entry = self.entries.get(here) if here not in {"", "/"} else None
            if entry is None and here not in {"", "/"}:
                return None
            if entry is not None and entry.type == "symlink":
                base = "" if entry.target.startswith("/") else posixpath.dirname(here)
                return self.real("/".join([base, entry.target, *parts[number + 1 :]]), depth + 1)
        return here

    def has(self, path: str) -> bool:
        return self.real(path) is not None

    def elf(self, path: str) -> Elf | None:
        """Return what pyelftools reads of a file, None when it's no dynamic ELF file."""
        if path not in self._elf:
            data = self.data(path) if path in self.files else b""
            try:
                self._elf[path] = Elf(data) if data[:4] == b"\x7fELF" and not path.endswith(".ko") else None
            except ELFError as error:
                raise AssertionError(f"{path}: {error}") from error
        return self._elf[path]

    def texts(self, pattern: str) -> Iterator[tuple[str, list[str]]]:
        """Yield path and logical lines of the text files that match."""
        for path in self.files:
            if re.fullmatch(pattern, path):
                text = self.data(path).decode()
                yield path, re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*[#;].*\n", "", text)).splitlines()


class Elf:
    """The dynamic section, the interpreter and the undefined symbols of one file."""

    def __init__(self, data: bytes) -> None:
        file: Any = ELFFile(io.BytesIO(data))
        self.kind = (file["e_machine"], file.elfclass)
        tags: list[Any] = [tag for section in file.iter_sections() if isinstance(section, DynamicSection)
                for tag in section.iter_tags()]  # fmt: skip
        self.needed = [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"]
        self.rpath = [each for tag in tags if tag.entry.d_tag == "DT_RPATH" for each in tag.rpath.split(":")]
        self.runpath = [each for tag in tags if tag.entry.d_tag == "DT_RUNPATH" for each in tag.runpath.split(":")]
        self.interpreter = next(
            (segment.get_interp_name() for segment in file.iter_segments() if segment["p_type"] == "PT_INTERP"), ""
        )
        table = file.get_section_by_name(".dynsym")
        symbols = table.iter_symbols() if isinstance(table, SymbolTableSection) else ()
        self.undefined = {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"}


@pytest.fixture(params=CASES)
def image(request: pytest.FixtureRequest, engine: Engine, debian_lock: LockMaker) -> tuple[Image, str]:
    release, architecture, sets = request.param
    values = (f"distribution.release={release}", f"distribution.arch={architecture}", *sets)
    loaded = engine.load(None, Overrides(set=values))
    locked = engine.lock(loaded, debian_lock(release, architecture, *sets))
    return Image(engine.plan(loaded, locked), engine), architecture


def test_the_image_has_all_that_its_files_name(image: tuple[Image, str]) -> None:
    """One test with all looks at one image: planning it costs more than they do."""
    contents, architecture = image
    assert len(contents.files) > 40
    problems = [
        *parents(contents), *links(contents), *libraries(contents, architecture), *scripts(contents), *units(contents),
        *rules(contents), *accounts(contents),
    ]  # fmt: skip
    assert problems == []


def parents(image: Image) -> Iterator[str]:
    for path in image.entries:
        above = posixpath.dirname(path)
        if above != "/" and (above not in image.entries or image.entries[above].type != "directory"):
            yield f"{path} has no directory above it"


def links(image: Image) -> Iterator[str]:
    for path, entry in image.entries.items():
        if entry.type == "symlink" and not image.has(path):
            yield f"{path} leads to {entry.target}, which is not there"


def libraries(image: Image, architecture: str) -> Iterator[str]:
    directories = [f"/usr/lib/{arch(architecture).triplet}", "/usr/lib"]
    reached: set[str] = set()
    for path in sorted(image.files):
        elf = image.elf(path)
        if elf is None or not elf.interpreter or ".so" in posixpath.basename(path):
            continue
        if not image.has(elf.interpreter):
            yield f"{path} has the interpreter {elf.interpreter}, which is not there"
        found, lacking = loaded(image, path, directories)
        reached |= found
        yield from lacking
        if not image.has(f"{directories[0]}/libgcc_s.so.1"):
            yield from (f"{each} ends threads, and libgcc_s.so.1 is not there" for each in ending_threads(image, found))
    for path in sorted(image.files):
        if ".so" in posixpath.basename(path) and path not in reached and image.elf(path):
            yield from loaded(image, path, directories)[1]


def ending_threads(image: Image, process: set[str]) -> list[str]:
    """Return the files of a process that call what libc loads libgcc_s for (pthread_cancel(3), pthread_exit(3)).

    OpenSSL has a function that ends a thread and never calls it: the threads of its pool return (3.5 and 3.6).
    """

    def uses(path: str) -> bool:
        elf = image.elf(path)
        return elf is not None and not elf.undefined.isdisjoint({"pthread_cancel", "pthread_exit"})

    passed_over = ("libc.so", "libcrypto.so", "libssl.so")
    return [each for each in process if uses(each) and not any(name in each for name in passed_over)]


def loaded(image: Image, program: str, directories: list[str]) -> tuple[set[str], list[str]]:
    """Return the files that a program loads, breadth first, and what it doesn't find."""
    names: dict[str, str] = {}
    queue: list[tuple[str, list[str]]] = [(program, [])]
    lacking = []
    for path, inherited in queue:
        elf = image.elf(path)
        if elf is None:
            continue
        rpath = inherited if elf.runpath else [*elf.rpath, *inherited]
        search = elf.runpath or rpath
        search = [re.sub(r"\$\{?ORIGIN\}?", posixpath.dirname(path), each) for each in search]
        for needed in elf.needed:
            if needed in names:
                continue
            for directory in [*search, *directories, "/usr/lib64"]:
                real = image.real(f"{directory}/{needed}")
                other = image.elf(real) if real else None
                if real and other and other.kind == image.elf(program).kind:  # type: ignore[union-attr]
                    names[needed] = real
                    queue.append((real, rpath))
                    break
            else:
                lacking.append(f"{path} needs {needed}, which is not where ld.so looks")
    return {program, *names.values()}, lacking


def scripts(image: Image) -> Iterator[str]:
    for path, entry in image.files.items():
        first = image.data(path)[:200].split(b"\n")[0].decode("utf-8", "replace") if entry.mode & 0o111 else ""
        if first.startswith("#!") and not image.has(first[2:].split()[0]):
            yield f"{path} starts with {first}, which is not there"


def units(image: Image) -> Iterator[str]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    dependencies = re.compile(r"(Requires|BindsTo|Requisite|Sockets)=(.+)")
    files = sorted(image.texts(r"/(usr/lib|etc)/systemd/system/([^/]+\.d/)?[^/]+"), key=lambda pair: pair[0].count("/"))
    for path, lines in files:
        parent = posixpath.basename(posixpath.dirname(path))
        name = parent.removesuffix(".d") if parent.endswith(".d") else posixpath.basename(path)
        settings = found.setdefault(name, [])
        for line in lines:
            matched = re.match(r"\s*(Exec\w+)\s*=\s*([-@:+!|]*)(\S*)", line)
            if matched and not matched[3]:
                settings[:] = [each for each in settings if each[0] != matched[1]]
            elif matched:
                settings.append((matched[1], matched[2], matched[3]))
            for kind, others in dependencies.findall(line):
                for other in others.split():
                    template = re.sub(r"@[^.]*\.", "@.", other)
                    if other.endswith((".mount", ".slice", ".device", ".swap")) or "%" in other.partition("@")[0]:
                        continue
                    if not any(
                        image.has(f"/{top}/systemd/system/{each}")
                        for top in ("etc", "usr/lib")
                        for each in (other, template)
                    ):
                        yield f"{path} has {kind}={other}, which is not there"
    for name, settings in found.items():
        for key, prefixes, program in settings:
            paths = [program] if program.startswith("/") else [f"/usr/sbin/{program}", f"/usr/bin/{program}"]
            if "-" not in prefixes and "%" not in program and not any(map(image.has, paths)):
                yield f"{name} has {key}={program}, which is not there"


def rules(image: Image) -> Iterator[str]:
    for path, lines in image.texts(r"/usr/lib/udev/rules\.d/.+"):
        for line in lines:
            for value in re.findall(r'(?:RUN(?:\{program\})?|IMPORT\{program\}|PROGRAM)\s*[+:=]?=\s*"([^" ]+)', line):
                program = value if value.startswith("/") else f"/usr/lib/udev/{value}"
                if "$" not in program and "%" not in program and not image.has(program):
                    yield f"{path} runs {program}, which is not there"


def accounts(image: Image) -> Iterator[str]:
    users = {line.split(":")[0] for line in image.data("/etc/passwd").decode().splitlines()}
    groups = {line.split(":")[0] for line in image.data("/etc/group").decode().splitlines()}
    for path, lines in image.texts(r"/(usr/lib|etc)/systemd/system/.+|/usr/lib/udev/rules\.d/.+"):
        text = "\n".join(lines)
        for name in re.findall(r'(?m)^User=([a-z_][\w-]*)$|OWNER="([a-z_][\w-]*)"', text):
            if "".join(name) not in users and "DynamicUser=yes" not in text:
                yield f"{path} names the user {''.join(name)}, which /etc/passwd lacks"
        for name in re.findall(r'(?m)^Group=([a-z_][\w-]*)$|GROUP="([a-z_][\w-]*)"', text):
            if "".join(name) not in groups and "DynamicUser=yes" not in text:
                yield f"{path} names the group {''.join(name)}, which /etc/group lacks"


def test_a_hole_in_an_image_is_seen(engine: Engine, debian_lock: LockMaker) -> None:
    """Each look finds what is taken out of an image that was whole."""
    loaded = engine.load(None, Overrides(set=("distribution.release=trixie", "distribution.arch=amd64")))
    locked = engine.lock(loaded, debian_lock("trixie", "amd64"))
    plan = engine.plan(loaded, locked)

    def without(*paths: str) -> Image:
        image = Image(plan, engine)
        for path in paths:
            del image.entries[path]
            image.files.pop(path, None)
        return image

    libc = "/usr/lib/x86_64-linux-gnu/libc.so.6"
    assert any("libc.so.6" in line for line in libraries(without(libc), "amd64"))
    target = "/etc/systemd/system/default.target"
    assert any(
        line.startswith(f"{target} leads to") for line in links(without("/usr/lib/systemd/system/initrd.target"))
    )
    assert any("systemd-journald" in line for line in units(without("/usr/lib/systemd/systemd-journald")))
    assert any(
        "systemd-journald.socket" in line for line in units(without("/usr/lib/systemd/system/systemd-journald.socket"))
    )
    dash = Path(plan.parts[0].tree.entries.get("usr/bin/sh", plan.parts[1].tree.entries["usr/bin/sh"]).target).name
    assert any("#!" in line for line in scripts(without(f"/usr/bin/{dash}")))
    assert any("has no directory above it" in line for line in parents(without("/usr/lib/systemd")))
