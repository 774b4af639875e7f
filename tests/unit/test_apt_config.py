# SPDX-License-Identifier: LGPL-2.1-or-later
"""What apt is told: mirrors, suites, keys and credentials decided from recipe and host, and the files rendered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.errors import RecipeError
from preroot.packages.apt_config import (
    Setup,
    parse_request,
    place_suites,
    render_auth,
    render_conf,
    render_sources,
    split_credentials,
)
from preroot.packages.apt_host import (
    HostApt,
    HostEntry,
    network_settings,
    parse_deb822,
    parse_dump,
    parse_sources_list,
)
from preroot.recipe.schema import Distribution

SUITES = ("{release}", "{release}-updates", "../debian-security {release}-security")
KEYS = ("/usr/share/keyrings/debian-archive-keyring.gpg",)
MAIN, SECURITY = "http://mirror.example/debian", "http://mirror.example/debian-security"


def debian(*suites: str, uri: str = MAIN, keyrings: tuple[str, ...] = KEYS) -> tuple[HostEntry, ...]:
    return tuple(HostEntry(uri, suite, ("main",), keyrings) for suite in suites)


HOST = HostApt(debian("bookworm", "bookworm-updates") + debian("bookworm-security", uri=SECURITY))


def placed(setup: Setup) -> list[tuple[str, str]]:
    return [(suite.base, suite.name) for suite in setup.suites]


# where the mirror comes from


def test_the_hosts_mirrors_with_the_recipes_release() -> None:
    setup = place_suites(Distribution(release="trixie"), SUITES, HOST)
    assert placed(setup) == [(MAIN, "trixie"), (MAIN, "trixie-updates"), (SECURITY, "trixie-security")]
    assert setup.bases == (MAIN, SECURITY)
    assert setup.keyrings == KEYS
    assert setup.from_host
    assert setup.absent == ()


@pytest.mark.parametrize("asked", ["trixie", "13", "stable"])
def test_suites_with_the_release_filled_in(asked: str) -> None:
    """As distributions.py gives them; the recipe may have asked by number."""
    filled = tuple(suite.replace("{release}", "trixie") for suite in SUITES)
    setup = place_suites(Distribution(release=asked), filled, HOST)
    assert setup == place_suites(Distribution(release="trixie"), SUITES, HOST)
    own = Distribution(release=asked, suites=("{release}-backports",))
    assert placed(place_suites(own, filled, HOST)) == [(MAIN, "trixie-backports")]


def test_a_recipes_mirror_is_not_mixed_with_the_hosts() -> None:
    setup = place_suites(Distribution(mirror="https://other.example/debian/"), SUITES, HOST)
    assert placed(setup) == [
        ("https://other.example/debian", "trixie"),
        ("https://other.example/debian", "trixie-updates"),
    ]
    assert setup.absent == ("trixie-security",)
    assert setup.keyrings == ()
    assert not setup.from_host


def test_security_without_a_mirror_is_left_out_by_name() -> None:
    assert place_suites(Distribution(), SUITES, HostApt(debian("sid"))).absent == ("trixie-security",)


@pytest.mark.parametrize(
    "stranger",
    [
        HostEntry("https://packages.example/debian/12/prod", "trixie", ("main",), ("/usr/share/keyrings/example.gpg",)),
        HostEntry("https://download.example/linux/debian", "trixie", ("stable",)),
        HostEntry("https://repo.example/tool/7.0/tool", "trixie", ("main",)),
    ],
)
def test_third_parties_are_not_taken_for_the_distribution(stranger: HostEntry) -> None:
    for entries in ((stranger, *HOST.entries), (*HOST.entries, stranger)):
        assert place_suites(Distribution(), SUITES, HostApt(entries)).bases == (MAIN, SECURITY)


def test_a_private_mirror_with_its_own_key() -> None:
    entries = debian("trixie", uri="http://aptly.example/trixie-main", keyrings=("/etc/apt/keyrings/own.gpg",))
    setup = place_suites(Distribution(), ("{release}",), HostApt(entries))
    assert placed(setup) == [("http://aptly.example/trixie-main", "trixie")]
    assert setup.keyrings == ("/etc/apt/keyrings/own.gpg",)


def test_backports_on_the_same_mirror_do_not_confuse() -> None:
    host = HostApt(debian("bookworm-backports", uri=MAIN) + HOST.entries)
    assert place_suites(Distribution(), SUITES, host).bases == (MAIN, SECURITY)


def test_no_mirror_at_all() -> None:
    with pytest.raises(RecipeError, match=r"distribution\.mirror"):
        place_suites(Distribution(), SUITES, HostApt())
    with pytest.raises(RecipeError, match=r"distribution\.mirror"):
        place_suites(Distribution(name="ubuntu"), SUITES, HostApt((HostEntry(MAIN, "trixie", ("contrib",), ()),)))


def test_suites_of_the_recipe() -> None:
    table = Distribution(mirror=MAIN, suites=("{release}", f"{SECURITY}/ {{release}}-security", "stable-extra"))
    setup = place_suites(table, SUITES, HOST)
    assert placed(setup) == [(MAIN, "trixie"), (SECURITY, "trixie-security"), (MAIN, "stable-extra")]
    assert setup.bases == (MAIN, SECURITY)


def test_snapshot() -> None:
    table = Distribution(mirror="http://s.example/debian/{snapshot}/", snapshot="20260101T000000Z", suites=("sid",))
    setup = place_suites(table, SUITES, HOST)
    assert setup.bases == ("http://s.example/debian/20260101T000000Z",)
    assert "Check-Valid-Until: no\n" in render_sources(setup, ("amd64",), KEYS)


def test_snapshot_and_mirror_that_do_not_fit() -> None:
    with pytest.raises(RecipeError, match="snapshot is not set"):
        place_suites(Distribution(mirror="http://s.example/{snapshot}/"), SUITES, HOST)
    for mirror in (MAIN, ""):
        with pytest.raises(RecipeError, match=r"no \{snapshot\}"):
            place_suites(Distribution(mirror=mirror, snapshot="20260101T000000Z"), SUITES, HOST)


def test_valid_until_is_checked_unless_the_host_says_otherwise_of_its_own_mirror() -> None:
    lax = HostApt(HOST.entries, check_valid_until=False)
    assert not place_suites(Distribution(), SUITES, lax).suites[0].check_valid_until
    assert place_suites(Distribution(), SUITES, HOST).suites[0].check_valid_until
    assert place_suites(Distribution(mirror=MAIN), SUITES, lax).suites[0].check_valid_until


# how it is reached


def test_credentials_are_taken_out_of_the_address() -> None:
    setup = place_suites(Distribution(mirror="https://me:p%40ss@m.example:8443/debian"), ("{release}",), HOST)
    assert setup.bases == ("https://m.example:8443/debian",)
    assert render_auth(setup) == "machine https://m.example:8443/debian login me password p@ss\n"
    text = render_sources(setup, ("amd64",), KEYS) + render_conf(setup, ("amd64",), "/state", "/etc-private")
    assert "p@ss" not in text
    assert "p%40ss" not in text


@pytest.mark.parametrize("mirror", ["https://me:two%20words@m.example/", "https://:secret@m.example/"])
def test_credentials_that_apt_cannot_use(mirror: str) -> None:
    with pytest.raises(RecipeError, match="credentials") as caught:
        place_suites(Distribution(mirror=mirror), SUITES, HOST)
    assert "secret" not in str(caught.value)
    assert "two" not in str(caught.value)


def test_file_addresses_have_one_form() -> None:
    for spelling in ("file:/srv/debian", "file:///srv/debian", "file:///srv/debian/"):
        assert split_credentials(spelling) == ("file:/srv/debian", None)


def test_network_settings_of_the_host() -> None:
    dump = parse_dump(
        'Acquire::http::Proxy "http://proxy:3128";\nAcquire::http::Proxy::m.example "DIRECT";\n'
        'Acquire::https::CAInfo "/ca.pem";\nAcquire::https::m.example::SslCert "/c.pem";\n'
        'Acquire::https::Verify-Peer "false";\nAcquire::AllowInsecureRepositories "true";\n'
        'APT::Update::Post-Invoke:: "touch /x";\nDPkg::Pre-Install-Pkgs "y";\nAcquire::https::Proxy "";\n'
    )
    proxies, tls = network_settings(dump)
    assert [name for name, _ in proxies] == ["Acquire::http::Proxy", "Acquire::http::Proxy::m.example"]
    assert [name for name, _ in tls] == ["Acquire::https::CAInfo", "Acquire::https::m.example::SslCert"]
    host = HostApt(HOST.entries, proxies, tls)
    conf = render_conf(place_suites(Distribution(), SUITES, host), ("amd64",), "/s", "/e")
    assert 'Acquire::http::Proxy "http://proxy:3128";' in conf
    assert 'Acquire::https::CAInfo "/ca.pem";' in conf
    own = render_conf(place_suites(Distribution(mirror=MAIN, proxy="http://p:1"), SUITES, host), ("amd64",), "/s", "/e")
    assert "3128" not in own
    assert "ca.pem" not in own
    assert 'Acquire::https::Proxy "http://p:1";' in own


# what apt is told


def test_configuration_is_private_and_strict() -> None:
    conf = render_conf(place_suites(Distribution(), SUITES, HOST), ("amd64", "arm64"), "/state", "/private")
    told = parse_dump(conf)
    assert told["Dir::Etc"] == "/private"
    for name in ("main", "parts", "sourcelist", "preferencesparts", "trustedparts"):
        assert not told[f"Dir::Etc::{name}"].startswith("/"), name
    for name in ("Dir::State", "Dir::State::lists", "Dir::State::status", "Dir::Cache", "Dir::Cache::archives"):
        assert told[name].startswith("/state"), name
    assert told["APT::Sandbox::User"] == "root"
    assert told["APT::Install-Recommends"] == "false"
    for name in ("AllowInsecureRepositories", "AllowWeakRepositories", "AllowDowngradeToInsecureRepositories"):
        assert told[f"Acquire::{name}"] == "false"
    assert 'APT::Architectures { "amd64"; "arm64"; };' in conf


def test_every_source_names_its_keys() -> None:
    text = render_sources(place_suites(Distribution(), SUITES, HOST), ("amd64",), ("/private/keyring0.gpg",))
    assert text.count("Types: deb") == text.count("Signed-By: /private/keyring0.gpg") == 3
    assert "trusted" not in text.lower()


@pytest.mark.parametrize(
    "table",
    [
        {"release": "trixie\nTrusted: yes"}, {"release": "-x"}, {"release": ""}, {"arch": "amd64 i386"},
        {"components": ()}, {"components": ("main", "a\nb")}, {"mirror": "http://m.example/a b"},
        {"mirror": "http://m.example/\nTrusted: yes"}, {"mirror": "ftp://m.example"}, {"mirror": "m.example/debian"},
        {"mirror": 'http://m.example/"; x "'}, {"proxy": 'http://p"; APT::Update::Pre-Invoke { "x"; }; y "'},
        {"ca": "/a\nb"}, {"suites": ("x y z",)}, {"suites": ("",)}, {"suites": ("flat/",)},
        {"suites": ("ftp://m.example/ trixie",)}, {"suites": ("[trusted=yes]",)}, {"keyring": '/a"b'},
    ],
)  # fmt: skip
def test_values_that_would_be_taken_for_something_else(table: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="distribution"):
        place_suites(Distribution(**table), SUITES, HOST)  # type: ignore[arg-type]


def test_cache_with_a_quote() -> None:
    with pytest.raises(RecipeError, match="quotes"):
        render_conf(place_suites(Distribution(), SUITES, HOST), ("amd64",), '/ca"che', "/e")


# requests


def test_requests() -> None:
    assert parse_request("libstdc++6").argument == "libstdc++6"
    assert parse_request("linux-image-amd64=6.12.1-1~bpo12+1").argument == "linux-image-amd64=6.12.1-1~bpo12+1"
    assert parse_request("dpkg=1:2.0").lookup == "dpkg"
    assert parse_request("libc6/arm64").argument == "libc6:arm64"


@given(st.text())
def test_no_request_is_an_option_or_an_operator_of_apt(text: str) -> None:
    try:
        argument = parse_request(text).argument
    except RecipeError:
        return
    assert argument[0].isalnum()
    assert not set(argument) & set(" *?^~!()[]{}/|&;<>\n\"'$\\,") - {"~"}


# readers of the host's files


def test_sources_list() -> None:
    text = (
        "# comment\ndeb http://m.example/debian/ bookworm main contrib # more\n"
        "deb-src http://m.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg check-valid-until=no] https://m.example/x stable main\n"
        "deb cdrom:[Debian]/ bookworm main\ndeb\ndeb broken\n"
    )
    assert list(parse_sources_list(text)) == [
        HostEntry("http://m.example/debian", "bookworm", ("main", "contrib")),
        HostEntry("https://m.example/x", "stable", ("main",), ("/k.gpg",), False),
    ]


def test_deb822() -> None:
    text = (
        "# one\nTypes: deb deb-src\nURIs: http://m.example/debian/\nSuites: a\n b\n# between\nComponents: main\n"
        "Signed-By: /k.gpg, /l.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://off.example\nSuites: x\n\n\n"
        "Types: deb-src\nURIs: http://src.example\nSuites: x\n\n"
        "Types: deb\nURIs: http://n.example\nSuites: c\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )
    assert list(parse_deb822(text)) == [
        HostEntry("http://m.example/debian", "a", ("main",), ("/k.gpg", "/l.gpg")),
        HostEntry("http://m.example/debian", "b", ("main",), ("/k.gpg", "/l.gpg")),
        HostEntry("http://n.example", "c", ()),
    ]


@given(st.text())
def test_readers_take_anything(text: str) -> None:
    for entry in (*parse_sources_list(text), *parse_deb822(text)):
        assert entry.uri
        assert entry.suite
    parse_dump(text)


WORD = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9)


@given(st.lists(st.tuples(WORD, st.lists(WORD, min_size=1, max_size=3), st.lists(WORD, max_size=2)), max_size=4))
def test_both_formats_say_the_same(entries: list[tuple[str, list[str], list[str]]]) -> None:
    lines = [f"deb http://{uri} {suite} {' '.join(parts)}" for uri, suites, parts in entries for suite in suites]
    stanzas = [
        f"Types: deb\nURIs: http://{uri}\nSuites: {' '.join(suites)}\nComponents: {' '.join(parts)}\n"
        for uri, suites, parts in entries
    ]
    assert list(parse_sources_list("\n".join(lines))) == list(parse_deb822("\n".join(stanzas)))
