# SPDX-License-Identifier: LGPL-2.1-or-later
"""The source `apt`: Debian and its kin, resolved and downloaded by apt itself, in a private configuration.

Works as any user. Nothing of the host's apt is written, and only the mirror's address, how the network is reached
and the keyring are read. What apt is told is decided in apt_config.py, what its errors mean in apt_errors.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from preroot.errors import BuildError, nearest
from preroot.packages import apt_config
from preroot.packages.apt_config import Request, Setup
from preroot.packages.aside import OTHER_CACHE
from preroot.packages.model import Package, Resolution
from preroot.progress import Reporter, Silent
from preroot.recipe.schema import Distribution
from preroot.run import ProgramError, run
from preroot.scratch import scratch

if TYPE_CHECKING:
    from preroot.packages.apt_release import Release

#: a line of `apt-get --print-uris install`: 'URI' FILE SIZE HASH
_URI_LINE = re.compile(r"^'(?P<uri>[^'\s]+)' (?P<file>\S+) (?P<size>[0-9]+) (?P<hash>\S*)$", re.MULTILINE)
_FILE_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9.+-]+)_(?P<version>[0-9A-Za-z.+:~-]+)_(?P<arch>[a-z0-9-]+)\.deb")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CANDIDATE = re.compile(r"^(?P<name>\S+):\n  Installed: .*\n  Candidate: (?P<version>\S+)$", re.MULTILINE)


class _Private(Struct, frozen=True):
    """What makes apt use our configuration, and the locks on its state, which it holds as we do."""

    variables: dict[str, str]
    locks: tuple[int, ...]
    #: for errors of its disk
    cache: str

    def run(self, argv: Sequence[str], purpose: str, ok: Sequence[int] = (0,)) -> bytes:
        """Run a program of apt; arguments and errors as of run.run. Raises BuildError when a disk is the reason."""
        try:
            return run(argv, purpose=purpose, env=self.variables, hold=self.locks, ok=ok)
        except ProgramError as error:
            from preroot.packages.apt_errors import explain_disk

            raise explain_disk(_text(error), self.cache) or error from None


class AptSource:
    """Packages of an archive in Debian's format (see source.Source and source.open_source)."""

    def __init__(
        self, distribution: Distribution, default_suites: Sequence[str], keyring_candidates: Sequence[str], cache: Path
    ) -> None:
        apt_config.check_values(distribution)
        self._distribution = distribution
        self._default_suites = tuple(default_suites)
        self._keyring_candidates = tuple(keyring_candidates)
        self._cache = cache.absolute()
        self._known_setup: Setup | None = None
        #: architectures whose indexes this object has fetched
        self._fresh: tuple[str, ...] = ()

    def candidates(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return package → candidate version (see source.Source)."""
        requests = {name: apt_config.parse_request(name) for name in names}
        with self._configured(tuple(requests.values()), Silent()) as environment:
            found = _candidates(environment, tuple(requests.values()))
        return {name: found[request.lookup] for name, request in requests.items() if request.lookup in found}

    def names(self, prefix: str) -> Sequence[str]:
        """Return the packages whose names begin with `prefix` (see source.Source)."""
        with self._configured((), Silent()) as environment:
            return _names(environment, prefix)

    def resolve(self, requests: Sequence[str], reporter: Reporter) -> Resolution:
        """Return the exact packages for `requests` (see source.Source)."""
        parsed = tuple(apt_config.parse_request(request) for request in sorted(set(requests)))
        with reporter.step("resolving"), self._configured(parsed, reporter) as environment:
            known = _candidates(environment, parsed)
            for request in parsed:
                if request.lookup not in known and not _provided(environment, request):
                    raise self._unknown(environment, request)
            output = _solve(environment, [request.argument for request in parsed]) if parsed else ""
            trust = self._trust()
        setup = self._setup()
        packages = (_package(match, setup) for match in _URI_LINE.finditer(output))
        return Resolution(tuple(sorted(packages, key=lambda package: (package.name, package.arch))), trust)

    def fetch(self, packages: Sequence[Package], reporter: Reporter) -> Mapping[str, Path]:
        """Return SHA-256 → package file (see source.Source)."""
        archives = self._cache / "archives"
        found: dict[str, Path] = {}
        missing: dict[str, Package] = {}
        for package in packages:
            if not _SHA256.fullmatch(package.sha256):
                raise BuildError(f"{package.owner}: {package.sha256!r} is not a SHA-256 digest")
            path = archives / package.sha256
            found[package.sha256] = path
            try:
                there = os.stat(path).st_size == package.size  # noqa: PTH116 - half the time of Path.stat
            except OSError:
                there = False
            if there:
                with suppress(OSError):  # marked as used, so that no `store gc` takes it away meanwhile
                    os.utime(path)
            if not there:
                missing[package.sha256] = package
        if missing:
            from preroot.packages.apt_fetch import download

            setup = self._setup()
            with _disk_errors(self._cache), self._configuration(setup, (setup.arch,)) as environment:
                download(tuple(missing.values()), setup, archives, environment, reporter)
        return found

    def mirrors(self) -> tuple[str, ...]:
        """Return the addresses that packages come from, without credentials; runs apt-config.

        Raises BuildError where none is known, or no keyring for them.
        """
        return self._setup().bases

    def _setup(self) -> Setup:
        """Return what apt is told, decided once; reads the host's apt configuration and looks for keyrings."""
        if self._known_setup is None:
            from preroot.packages.apt_fetch import read_host

            setup = apt_config.place_suites(self._distribution, self._default_suites, read_host())
            wanted = setup.keyrings if self._distribution.keyring else (*setup.keyrings, *self._keyring_candidates)
            there = tuple(dict.fromkeys(path for path in wanted if Path(path).is_file()))
            if not there:
                raise BuildError(
                    f"no keyring for {self._distribution.name}: there is no {' or '.join(wanted) or 'file known'}",
                    "install the package with the archive's keys, or set distribution.keyring",
                )
            self._known_setup = replace(setup, keyrings=there)
        return self._known_setup

    @contextmanager
    def _configured(self, requests: Sequence[Request], reporter: Reporter) -> Iterator[_Private]:
        """Hold apt's private state, fetch its indexes unless this object has done so, and yield the environment."""
        import fcntl

        setup = self._setup()
        foreign = sorted({request.arch for request in requests if request.arch} - {setup.arch})
        architectures = (setup.arch, *foreign)
        state = self._state(setup)
        with _disk_errors(self._cache):
            for part in ("lists/partial", "archives/partial"):
                (state / part).mkdir(parents=True, exist_ok=True)
            if not (state / "status").exists():  # a new date would make apt's cache of indexes invalid
                (state / "status").touch()
            lock = os.open(f"{state}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._configuration(setup, architectures) as variables:
                # apt holds the lock too: should this process be killed, the next one waits until apt has ended
                environment = _Private(variables, (lock,), str(self._cache))
                if not set(architectures) <= set(self._fresh):
                    self._update(setup, architectures, environment, reporter)
                yield environment
        finally:
            os.close(lock)

    def _state(self, setup: Setup) -> Path:
        """Return the directory with apt's state for these mirrors, suites and components."""
        import hashlib

        import msgspec

        deciding = msgspec.json.encode([setup.suites, setup.components, setup.arch])
        name = f"{self._distribution.name}-{self._distribution.release}-{setup.arch}".replace("/", "_")
        return self._cache / "apt" / f"{name}-{hashlib.sha256(deciding).hexdigest()[:16]}"

    @contextmanager
    def _configuration(self, setup: Setup, architectures: Sequence[str]) -> Iterator[dict[str, str]]:
        """Write the configuration to a directory of its own for the time of the context, and yield the environment.

        It may hold credentials, so it is no part of the cache, which people copy around.
        """
        with scratch("apt") as etc:
            name = str(etc)
            if any(each.isspace() for each in name):
                raise BuildError(f"apt cannot use the temporary directory {name!r}, which has blanks", "set TMPDIR")
            keyrings = []
            for place, path in enumerate(setup.keyrings):
                data = _read(path)
                # apt tells armored and binary keys apart by the name (sources.list(5), Signed-By)
                suffix = "asc" if data.lstrip().startswith(b"-----BEGIN PGP") else "gpg"
                (etc / f"keyring{place}.{suffix}").write_bytes(data)
                keyrings.append(str(etc / f"keyring{place}.{suffix}"))
            for directory in ("none.d", "sources.d"):
                (etc / directory).mkdir()
            (etc / "sources.d/preroot.sources").write_text(apt_config.render_sources(setup, architectures, keyrings))
            # apt makes its cache of indexes anew when that is older than the sources (CheckValidity, pkgcachegen.cc)
            for old in (etc / "sources.d/preroot.sources", etc / "sources.d"):
                os.utime(old, (0, 0))
            (etc / "auth.conf").write_text(apt_config.render_auth(setup))
            conf = apt_config.render_conf(setup, architectures, str(self._state(setup)), name)
            (etc / "apt.conf").write_text(conf)
            yield {"APT_CONFIG": f"{name}/apt.conf"}

    def _update(self, setup: Setup, architectures: Sequence[str], environment: _Private, reporter: Reporter) -> None:
        from preroot.packages.apt_release import parse_release

        for name in setup.absent:
            reporter.note(f"{name} is left out: no mirror for it is known (distribution.suites can name one)")
        # the cache of indexes is made by the command that needs it; `update` would make it, too
        argv = ["apt-get", "update", "-q", "-o", "pkgCacheFile::Generate=false"]
        try:
            environment.run(argv, "to fetch the archive's indexes")
        except ProgramError as error:
            from preroot.packages.apt_errors import explain_update

            raise explain_update(_text(error), setup, str(self._cache)) from None
        for suite in setup.suites:
            release = parse_release(self._release_text(suite)[0])
            _check_offer(suite, release, architectures, setup.components)
            if not suite.check_valid_until and setup.from_host and _expired(release):
                reporter.warn(f"{suite.base} {suite.name} was valid until {release.valid_until} only: the mirror is "
                              "out of date, which the host's apt is configured to accept")  # fmt: skip
        self._fresh = tuple(architectures)

    def _release_text(self, suite: apt_config.Suite) -> tuple[str, str]:
        """Return the Release file of `suite`, and the text that has its signatures."""
        from preroot.packages.apt_release import list_name

        lists = self._state(self._setup()) / "lists"
        inline = lists / list_name(suite.base, suite.name, "InRelease")
        if inline.exists():
            text = inline.read_text("utf-8", "replace")
            return text, text
        detached = lists / list_name(suite.base, suite.name, "Release")
        if not detached.exists():
            raise BuildError(f"apt has not kept the Release file of {suite.base} {suite.name}", f"expected {inline}")
        signature = Path(f"{detached}.gpg")
        return detached.read_text("utf-8", "replace"), signature.read_text("ascii") if signature.exists() else ""

    def _trust(self) -> dict[str, str]:
        from preroot.packages.apt_release import parse_release, signers

        trust = dict.fromkeys(self._setup().absent, "left out, no mirror known")
        for suite in self._setup().suites:
            text, signatures = self._release_text(suite)
            keys = " ".join(signers(signatures))
            trust[suite.name] = f"{parse_release(text).date}; {keys}"
        return trust

    def _unknown(self, environment: _Private, request: Request) -> BuildError:
        # names that start differently are no likely misspelling, and comparing all 60,000 takes seconds
        known = _names(environment, request.name[:2])
        where = f"{self._distribution.name} {self._distribution.release} ({request.arch or self._distribution.arch})"
        components = ", ".join(self._distribution.components)
        hint = nearest(request.name, known) or f"the components looked in are {components}"
        return BuildError(f"unknown package {request.name!r} in {where}", hint)


def _candidates(environment: _Private, requests: Sequence[Request]) -> dict[str, str]:
    """Return candidate versions by `Request.lookup`."""
    if not requests:
        return {}
    argv = ["apt-cache", "policy", "--", *sorted({request.lookup for request in requests})]
    output = environment.run(argv, "to look up packages", ok=(0, 100)).decode()
    return {match["name"]: match["version"] for match in _CANDIDATE.finditer(output) if match["version"] != "(none)"}


def _names(environment: _Private, prefix: str) -> list[str]:
    output = environment.run(["apt-cache", "pkgnames", "--", prefix], "to list the known packages")
    return output.decode().split()


def _solve(environment: _Private, arguments: Sequence[str]) -> str:
    """Return the lines of `apt-get --print-uris install`. Raises BuildError with the solver's explanation."""
    argv = ["apt-get", "--print-uris", "install", "-qq", "--", *arguments]
    purpose = "to resolve packages"
    try:
        return environment.run(argv, purpose).decode()
    except ProgramError:
        pass
    # -qq leaves the explanation out; without it apt takes twice the time to list what is recommended and suggested
    argv[3] = "-q"
    try:
        return environment.run(argv, purpose).decode()
    except ProgramError as error:
        from preroot.packages.apt_errors import explain_install

        raise explain_install(_text(error), arguments) from None


def _provided(environment: _Private, request: Request) -> bool:
    """Return whether `request` names a virtual package: apt's own error lists the packages that provide it."""
    argv = ["apt-cache", "showpkg", "--", request.lookup]
    output = environment.run(argv, "to look up a package", ok=(0, 100)).decode()
    return bool(output.partition("Reverse Provides:")[2].strip())


def _package(match: re.Match[str], setup: Setup) -> Package:
    """Return the package of a line of `--print-uris`. What it says is data from the archive: it is checked here."""
    from urllib.parse import unquote

    uri, digest = match["uri"], match["hash"].removeprefix("SHA256:")
    name = _FILE_NAME.fullmatch(unquote(match["file"]))
    fitting = [base for base in setup.bases if uri.startswith(f"{base}/")]
    if name is None or not fitting:
        raise BuildError(f"the archive has a package with an impossible name: {match['file']} at {uri}")
    base = max(fitting, key=len)
    filename = unquote(uri[len(base) + 1 :])
    if not filename or {"", ".", ".."} & set(filename.split("/")) or not filename.isprintable():
        raise BuildError(f"the archive gives {name['name']}={name['version']} an impossible path: {filename!r}")
    if not _SHA256.fullmatch(digest):
        raise BuildError(f"the archive gives no SHA-256 digest for {name['name']}={name['version']}")
    return Package(
        name=name["name"], version=name["version"], arch=name["arch"], sha256=digest, size=int(match["size"]),
        filename=filename, repository=setup.bases.index(base),
    )  # fmt: skip


def _expired(release: Release) -> bool:
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        until = parsedate_to_datetime(release.valid_until)
    except ValueError:
        return False
    # the suffix "UTC" gives a time without a zone
    return until.replace(tzinfo=until.tzinfo or UTC) < datetime.now(UTC)


def _check_offer(
    suite: apt_config.Suite, release: Release, architectures: Sequence[str], components: Sequence[str]
) -> None:
    """Raise BuildError when `release` has not every architecture and component: apt would only skip them."""
    # Debian's security archive has written its components as updates/main
    offered = {component.rpartition("/")[2] for component in release.components}
    for kind, wanted, there in (
        ("architecture", architectures, release.architectures),
        ("component", [component.rpartition("/")[2] for component in components], tuple(sorted(offered))),
    ):
        for name in wanted:
            if there and name not in there:
                hint = nearest(name, there) or f"it has {' '.join(there)}"
                raise BuildError(f"{suite.base} {suite.name} has no {kind} {name!r}", hint)


def _text(error: ProgramError) -> str:
    return (error.stderr + b"\n" + error.stdout).decode("utf-8", "replace")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read the keyring {path}: {error.strerror}") from None


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    """Turn errors of the cache's file system into BuildError."""
    try:
        yield
    except OSError as error:
        raise BuildError(f"cannot write the cache {error.filename or cache}: {error.strerror}",
                         f"make room there, or {OTHER_CACHE}") from None  # fmt: skip
