# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decides and renders apt's private configuration. Pure: nothing is read, written or run here.

Formats: apt.conf(5), sources.list(5) (deb822 style), apt_auth.conf(5). apt reads the file in $APT_CONFIG first and
then those that Dir::Etc::main and Dir::Etc::parts name, so pointing these two away keeps every setting, hook, pin
and key of the host out (apt.conf(5), seen with 2.6 and 3.0).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from preroot.errors import RecipeError
from preroot.packages.apt_host import HostApt, HostEntry, best_entry
from preroot.recipe.schema import Distribution

#: Debian policy 5.6.1 and 5.6.12; apt-get reads `+`, `-` at the end, `*`, `?` and `^` as operators, `/` as a release
_REQUEST = re.compile(r"(?P<name>[a-z0-9][a-z0-9.+-]+)(?:=(?P<version>[0-9A-Za-z.+:~-]+)|/(?P<arch>[a-z0-9-]+))?")
_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~/_-]*[A-Za-z0-9]")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+/_-]*")
_ARCH = re.compile(r"[a-z0-9][a-z0-9-]*")
_MIRROR = re.compile(r"(?:https?://[^/\s]|file:/)[^\s\"\\\x00-\x1f\x7f]*", re.IGNORECASE)
_UNQUOTABLE = re.compile(r"[\"\\\x00-\x1f\x7f]")


class Suite(Struct, frozen=True):
    """One suite on one mirror; `base` has neither credentials nor a trailing slash."""

    base: str
    name: str
    #: no for snapshots, whose Release files are out of date on purpose, and where the host's apt says no
    check_valid_until: bool = True


class Credential(Struct, frozen=True):
    """A login for one mirror, kept out of sources, argument lists and messages."""

    #: URL without credentials
    machine: str
    login: str
    password: str


class Setup(Struct, frozen=True):
    """All that apt is told."""

    suites: tuple[Suite, ...]
    components: tuple[str, ...]
    arch: str
    #: mirrors, in the order in which `Package.repository` counts them
    bases: tuple[str, ...]
    #: keyring files that may sign; the existing ones of them are used
    keyrings: tuple[str, ...]
    credentials: tuple[Credential, ...] = ()
    #: (name, value) of further apt.conf settings
    settings: tuple[tuple[str, str], ...] = ()
    #: the host's own credentials, where the mirror is the host's: file and directory
    netrc: str = ""
    netrc_parts: str = ""
    #: default suites that are left out because no mirror for them is known
    absent: tuple[str, ...] = ()
    #: the mirror's address is from the host's apt configuration
    from_host: bool = False


class Request(Struct, frozen=True):
    """A request, taken apart."""

    name: str
    version: str = ""
    arch: str = ""

    @property
    def argument(self) -> str:
        """Return the request as apt-get spells it."""
        return f"{self.name}:{self.arch}" if self.arch else self.name + (f"={self.version}" if self.version else "")

    @property
    def lookup(self) -> str:
        """Return the package without a version, as apt-cache spells it."""
        return f"{self.name}:{self.arch}" if self.arch else self.name


def parse_request(text: str) -> Request:
    """Return the request `name`, `name=version` or `name/arch`. Raises RecipeError for anything else."""
    match = _REQUEST.fullmatch(text)
    if not match:
        raise RecipeError(f"{text!r} is not a package", "write name, name=version or name/arch")
    return Request(match["name"], match["version"] or "", match["arch"] or "")


def split_credentials(url: str) -> tuple[str, Credential | None]:
    """Return `url` (with file:/// as file:/, without a trailing slash) without its credentials, and those."""
    from urllib.parse import unquote

    scheme, colon, rest = url.partition("://")
    if not colon:
        return url.rstrip("/"), None
    if scheme.lower().endswith("file"):
        return f"{scheme}:/{rest.strip('/')}", None
    authority, slash, path = rest.partition("/")
    login, at, machine = authority.rpartition("@")
    bare = f"{scheme}://{machine}{slash}{path}".rstrip("/")
    if not at:
        return bare, None
    name, _, password = login.partition(":")
    credential = Credential(bare, unquote(name), unquote(password))
    if re.search(r"[\s\x00-\x1f]", credential.login + credential.password) or not credential.login:
        raise RecipeError(f"distribution: the credentials for {bare} have blanks or no name", "apt cannot use those")
    return bare, credential


def place_suites(distribution: Distribution, default_suites: Sequence[str], host: HostApt) -> Setup:
    """Decide which suites come from which mirrors, and how these are reached.

    Arguments: the recipe's table; the distribution's suites (see open_source) for where the table has none; the
    host's apt configuration. `keyrings` of the result has only the recipe's, or the host's for that mirror.
    Raises RecipeError for values that no archive can have and for a mirror that is nowhere to be found.
    """
    check_values(distribution)
    release = release_name(distribution, default_suites)
    found = None
    if not distribution.mirror:
        found = best_entry(host, "{release}", release, distribution.name, component=distribution.components[0])
        if found is None:
            where = f"the host's apt has no address for {distribution.name}"
            raise RecipeError(f"distribution.mirror: {where}", "set a mirror")
    main = distribution.mirror or (found.uri if found else "")
    keyrings = [distribution.keyring] if distribution.keyring else list(found.keyrings if found else ())
    credentials: list[Credential] = []
    suites: list[Suite] = []
    absent: list[str] = []
    bases = [_base(distribution, release, main, credentials)]
    for text in distribution.suites or tuple(default_suites):
        *places, template = text.split() or [""]
        place, name = " ".join(places), template.replace("{release}", release)
        if not _SUITE.fullmatch(name):
            raise RecipeError(f"distribution.suites: {name!r} is not a suite", "write SUITE or URL SUITE")
        entry = _host_entry(distribution, release, name, host, found) if ":/" not in place else None
        if place and entry is None and ":/" not in place:
            absent.append(name)
            continue
        entry = entry or (None if place else found)
        raw = entry.uri if entry else place or main
        keyrings += entry.keyrings if entry and not distribution.keyring else ()
        base = _base(distribution, release, raw, credentials)
        bases += [base] if base not in bases else []
        suites.append(Suite(base, name, "{snapshot}" not in raw and (entry is None or host_checks(host, entry))))
    if distribution.snapshot and "{snapshot}" not in distribution.mirror + "".join(distribution.suites):
        raise RecipeError(
            "distribution.snapshot is set, but the mirror has no {snapshot} in it", "set a mirror with it"
        )
    return Setup(
        suites=tuple(suites), components=distribution.components, arch=distribution.arch, bases=tuple(bases),
        keyrings=tuple(dict.fromkeys(keyrings)), credentials=tuple(dict.fromkeys(credentials)),
        settings=_network(distribution, host, found is not None),
        netrc=host.netrc if found else "", netrc_parts=host.netrc_parts if found else "",
        absent=tuple(absent), from_host=found is not None,
    )  # fmt: skip


def release_name(distribution: Distribution, default_suites: Sequence[str]) -> str:
    """Return the release as suites are named after it: a recipe may also say `13` or `stable`."""
    first = default_suites[0].split()[-1] if default_suites and default_suites[0].split() else "{release}"
    return first.replace("{release}", distribution.release)


def _host_entry(
    distribution: Distribution, release: str, suite: str, host: HostApt, main: HostEntry | None
) -> HostEntry | None:
    """Return the host's entry for the mirror that has `suite`, or one like it of another release.

    None where the mirror is the recipe's, and for a kind of suite that the host has not.
    """
    if main is None:
        return None
    template = suite.replace(release, "{release}")
    component = distribution.components[0]
    return best_entry(host, template, release, distribution.name, component=component, near=main.uri)


def host_checks(host: HostApt, entry: HostEntry) -> bool:
    """Return whether the host's apt heeds Valid-Until for `entry`."""
    return host.check_valid_until if entry.check_valid_until is None else entry.check_valid_until


def check_values(distribution: Distribution) -> None:
    """Raise RecipeError for values of the table that could be taken for something else than what they are."""
    checks = (("release", _WORD, (distribution.release,)), ("arch", _ARCH, (distribution.arch,)),
              ("components", _WORD, distribution.components))  # fmt: skip
    for key, pattern, values in checks:
        if not values or not all(pattern.fullmatch(value) for value in values):
            raise RecipeError(f"distribution.{key}: {' '.join(values)!r} cannot be right", "letters, digits and dashes")
    urls = [("mirror", distribution.mirror)] if distribution.mirror else []
    urls += [("suites", suite.split()[0]) for suite in distribution.suites if ":/" in suite and suite.split()]
    for key, url in urls:
        if not _MIRROR.fullmatch(url):
            raise RecipeError(
                f"distribution.{key}: {_hidden(url)!r} is no address of a mirror", "http:, https: or file:/"
            )
    for key in ("proxy", "ca", "client_certificate", "client_key", "keyring", "snapshot"):
        if _UNQUOTABLE.search(getattr(distribution, key)):
            raise RecipeError(f"distribution.{key.replace('_', '-')}: quotes and control characters are not allowed")


def _hidden(url: str) -> str:
    return re.sub(r"//[^/]*@", "//…@", url)


def _base(distribution: Distribution, release: str, url: str, credentials: list[Credential]) -> str:
    if "{snapshot}" in url and not distribution.snapshot:
        raise RecipeError("distribution.mirror has {snapshot} in it, but distribution.snapshot is not set")
    url = url.replace("{snapshot}", distribution.snapshot).replace("{release}", release)
    base, credential = split_credentials(url)
    if credential:
        credentials.append(credential)
    return base


def _network(distribution: Distribution, host: HostApt, from_host: bool) -> tuple[tuple[str, str], ...]:
    settings: list[tuple[str, str]] = []
    if distribution.proxy:
        settings += [("Acquire::http::Proxy", distribution.proxy), ("Acquire::https::Proxy", distribution.proxy)]
    else:
        settings += host.proxies
    own = (("CAInfo", distribution.ca), ("SslCert", distribution.client_certificate),
           ("SslKey", distribution.client_key))  # fmt: skip
    if any(value for _, value in own):
        settings += [(f"Acquire::https::{name}", value) for name, value in own if value]
    elif from_host:
        settings += host.tls
    return tuple(settings)


def _quoted(value: str) -> str:
    if _UNQUOTABLE.search(value):
        raise RecipeError(f"apt cannot be told {value!r}: quotes and control characters are not allowed in a path")
    return f'"{value}"'


def render_conf(setup: Setup, architectures: Sequence[str], state: str, etc: str) -> str:
    """Return the apt.conf for `setup`.

    Arguments: the native architecture and the foreign ones that requests name; the directory that keeps apt's state
    (lists and caches); the directory with the rendered sources, keyrings and credentials. Both are absolute.
    """
    values = [
        ("Dir", f"{state}/"), ("Dir::State", state), ("Dir::State::lists", f"{state}/lists"),
        ("Dir::State::status", f"{state}/status"), ("Dir::State::extended_states", f"{state}/extended_states"),
        ("Dir::Cache", state), ("Dir::Cache::archives", f"{state}/archives"), ("Dir::Log", f"{state}/log"),
        # one cache file is enough: the second only helps when /var/lib/dpkg/status changes
        ("Dir::Cache::pkgcache", f"{state}/pkgcache.bin"), ("Dir::Cache::srcpkgcache", ""),
        ("Dir::Etc", etc), ("Dir::Etc::main", "apt.conf.none"), ("Dir::Etc::parts", "none.d"),
        ("Dir::Etc::sourcelist", "sources.none"), ("Dir::Etc::sourceparts", "sources.d"),
        ("Dir::Etc::preferences", "/dev/null"), ("Dir::Etc::preferencesparts", "none.d"),
        ("Dir::Etc::trusted", "/dev/null"), ("Dir::Etc::trustedparts", "none.d"),
        ("Dir::Etc::netrc", (not setup.credentials and setup.netrc) or "auth.conf"),
        ("Dir::Etc::netrcparts", setup.netrc_parts or "none.d"),
        ("APT::Architecture", architectures[0]),
        # else apt changes to the user _apt, who can write nothing here
        ("APT::Sandbox::User", "root"),
        ("APT::Install-Recommends", "false"), ("APT::Install-Suggests", "false"),
        ("APT::Get::Assume-Yes", "true"), ("APT::Get::AllowUnauthenticated", "false"),
        # a mirror that does not answer is an error, not a warning (apt-get(8), --error-on)
        ("APT::Update::Error-Mode", "any"),
        ("Acquire::AllowInsecureRepositories", "false"), ("Acquire::AllowWeakRepositories", "false"),
        ("Acquire::AllowDowngradeToInsecureRepositories", "false"), ("Acquire::Check-Valid-Until", "true"),
        ("Acquire::Languages", "none"), ("Acquire::ForceHash", "sha256"), ("Acquire::Retries", "2"),
        ("Acquire::http::Timeout", "20"), ("Acquire::https::Timeout", "20"),
        *setup.settings,
    ]  # fmt: skip
    lines = [f"{name} {_quoted(value)};" for name, value in values]
    lines.append("APT::Architectures { " + " ".join(f"{_quoted(each)};" for each in architectures) + " };")
    return "\n".join(lines) + "\n"


def render_sources(setup: Setup, architectures: Sequence[str], keyrings: Sequence[str]) -> str:
    """Return the deb822 sources file for `setup`; `keyrings` are paths without blanks."""
    return "\n".join(
        f"Types: deb\nURIs: {suite.base}\nSuites: {suite.name}\nComponents: {' '.join(setup.components)}\n"
        f"Architectures: {' '.join(architectures)}\nSigned-By: {' '.join(keyrings)}\n"
        + ("" if suite.check_valid_until else "Check-Valid-Until: no\n")
        for suite in setup.suites
    )


def render_auth(setup: Setup) -> str:
    """Return the apt_auth.conf(5) file for `setup`; without the scheme, apt would use an entry for https only."""
    return "".join(
        f"machine {each.machine} login {each.login} password {each.password}\n" for each in setup.credentials
    )
