# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host's own apt configuration says about mirrors: pure readers of sources.list(5) and `apt-config dump`.

Nothing else of the host's configuration is used: no hooks, no pins, no option that weakens signature checks. That
a mirror lags behind its Valid-Until date is a property of the mirror, which only its administrator knows: the host's
Check-Valid-Until is taken along with the host's mirror (and apt.py warns where it was needed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

#: Settings that say how the network is reached (apt-transport-http(1), apt-transport-https(1)), for all hosts or one.
#: `Verify-Peer` and its like are left out on purpose.
_PROXY = re.compile(r"Acquire::https?::(?:Proxy(?:::.+)?|Proxy-Auto-Detect|ProxyAutoDetect)$", re.IGNORECASE)
_TLS = re.compile(r"Acquire::https::(?:[^:]+::)?(?:CAInfo|SslCert|SslKey)$", re.IGNORECASE)
_DUMP_LINE = re.compile(r'^(\S+) "(.*)";$')
_OPTION = re.compile(r"\[([^]]*)\]")


class HostEntry(Struct, frozen=True):
    """One suite of one mirror in the host's sources."""

    #: without a trailing slash; may hold credentials
    uri: str
    suite: str
    components: tuple[str, ...]
    #: Signed-By, when it names files
    keyrings: tuple[str, ...] = ()
    #: Check-Valid-Until; None: as Acquire::Check-Valid-Until says
    check_valid_until: bool | None = None


class HostApt(Struct, frozen=True):
    """The host's apt configuration, as far as it concerns mirrors."""

    entries: tuple[HostEntry, ...] = ()
    #: (name, value) of proxy settings
    proxies: tuple[tuple[str, str], ...] = ()
    #: (name, value) of certificate settings
    tls: tuple[tuple[str, str], ...] = ()
    #: auth.conf(5): the file and the directory with credentials
    netrc: str = ""
    netrc_parts: str = ""
    #: Acquire::Check-Valid-Until
    check_valid_until: bool = True


def parse_dump(text: str) -> dict[str, str]:
    """Return name → value from the output of `apt-config dump` (list entries, whose names end in ::, left out)."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _DUMP_LINE.match(line)
        if match and not match[1].endswith("::"):
            found[match[1]] = match[2]
    return found


def network_settings(dump: dict[str, str]) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Return the settings of `dump` (see parse_dump) that say how mirrors are reached: proxies and certificates."""
    proxies = tuple((name, value) for name, value in dump.items() if value and _PROXY.match(name))
    tls = tuple((name, value) for name, value in dump.items() if value and _TLS.match(name))
    return proxies, tls


def is_false(value: str) -> bool:
    """Return whether apt takes `value` for false (apt-pkg/contrib/strutl.cc, StringToBool)."""
    return value.lower() in {"no", "false", "0", "off", "without", "disable"}


def _entries(
    uris: Sequence[str], suites: Sequence[str], components: Sequence[str], options: Mapping[str, str]
) -> Iterator[HostEntry]:
    signed_by, check = options.get("signed-by", ""), options.get("check-valid-until", "")
    keyrings = tuple(word for word in re.split(r"[\s,]+", signed_by) if word.startswith("/"))
    for uri in uris:
        if uri.startswith("cdrom:"):
            continue
        for suite in suites:
            yield HostEntry(uri.rstrip("/"), suite, tuple(components), keyrings, not is_false(check) if check else None)


def parse_sources_list(text: str) -> Iterable[HostEntry]:
    """Return the entries of a one-line-style sources file (sources.list(5)); lines that are none are passed over."""
    for line in text.splitlines():
        bare = line.split("#", 1)[0].strip()
        options = ""
        match = _OPTION.search(bare)
        if match:
            options, bare = match[1], bare[: match.start()] + " " + bare[match.end() :]
        words = bare.split()
        if len(words) < 3 or words[0] != "deb":
            continue
        named = {name.lower(): value for name, _, value in (option.partition("=") for option in options.split())}
        yield from _entries((words[1],), (words[2],), words[3:], named)


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    last = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += "\n" + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()


def parse_deb822(text: str) -> Iterable[HostEntry]:
    """Return the entries of a deb822-style sources file (sources.list(5)); disabled stanzas are passed over."""
    for fields in _stanzas(text):
        if is_false(fields.get("enabled", "yes")) or "deb" not in fields.get("types", "").split():
            continue
        uris, suites, components = (fields.get(name, "").split() for name in ("uris", "suites", "components"))
        yield from _entries(uris, suites, components, fields)


def _score(entry: HostEntry, distribution: str, component: str) -> int:
    """Return how sure it is that `entry` is the distribution's own archive and not a third party's."""
    score = 0
    if entry.keyrings:
        # Debian's and Ubuntu's keyring files are named after them: debian-archive-keyring.gpg (the package's name too)
        named = any(path.rpartition("/")[2].startswith(f"{distribution}-") for path in entry.keyrings)
        score += 4 if named else -1
    # http://MIRROR/debian, http://MIRROR/pub/debian, mirror+file:/etc/apt/mirrors/debian.list (cloud images)
    if entry.uri.rpartition("/")[2].partition(".")[0] in {distribution, f"{distribution}-security"}:
        score += 2
    return score + (1 if component in entry.components else -3)


def suite_pattern(template: str) -> re.Pattern[str]:
    """Return the pattern of suites that `template` (`{release}-security`) stands for, with the group `release`."""
    before, placeholder, after = template.partition("{release}")
    release = "(?P<release>[A-Za-z0-9.]+)" if placeholder else "(?P<release>)"
    return re.compile(re.escape(before) + release + re.escape(after))


def best_entry(
    host: HostApt, template: str, release: str, distribution: str, *, component: str, near: str = ""
) -> HostEntry | None:
    """Return the host's entry whose mirror has the suites of `template`, or None.

    Arguments: the suite template, `release` preferred over the host's other releases, the distribution's name, the
    component that must be there, and the address of the main mirror, which wins where it has such a suite.
    """
    pattern = suite_pattern(template)
    ranked: list[tuple[bool, int, bool, int, HostEntry]] = []
    for place, entry in enumerate(host.entries):
        match = pattern.fullmatch(entry.suite)
        score = _score(entry, distribution, component)
        if match and score >= 0:
            ranked.append((entry.uri == near, score, match["release"] == release, -place, entry))
    return max(ranked, key=lambda rank: rank[:4])[4] if ranked else None
