# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may have a shell: the script that decides it, run by the shells that run it in images."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preroot.recipe.library import load_features
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.tree.cmdline import effective

HELPERS = Path(__file__).parents[2] / "src/preroot/runtime/helpers"
SHELLS = (["dash"], ["busybox", "sh"])
LOCKED_SHADOW = "root:*:::::::\nu:$6$x$y:::::::\n"
HASH = "$6$salt$hash"


def ask(
    shell: list[str], directory: Path, policy: str, *, cmdline: str = "", shadow: str = LOCKED_SHADOW,
    credential: str | None = None,
) -> list[str]:  # fmt: skip
    """Return what a script that wants a shell says and opens: `tell …`, `open`, `ask`, `none`."""
    (directory / "policy").write_text(policy)
    (directory / "shadow").write_text(shadow)
    (directory / "credential").unlink(missing_ok=True)
    if credential is not None:
        (directory / "credential").write_text(credential)
    text = "\n".join((HELPERS / name).read_text() for name in ("cmdline.sh", "access.sh"))
    for path, name in (
        ("/etc/preroot/policy", "policy"), ("/etc/shadow", "shadow"),
        ("/run/credentials/@system/passwd.hashed-password.root", "credential"),
    ):  # fmt: skip
        assert path in text
        text = text.replace(path, str(directory / name))
    script = f"""set -eu
{text}
tell() {{ echo "tell $1"; }}
open_shell() {{ echo open; }}
ask_shell() {{ echo ask; }}
cmdline=$1
access_shell "leave it" || echo none
"""
    done = subprocess.run(
        [*shell, "-c", script, "sh", cmdline], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [
        line if line.startswith("tell The shell is locked") else line.split()[0] for line in done.stdout.splitlines()
    ]


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    found: list[str] = request.param
    return found


@pytest.mark.parametrize(
    ("policy", "cmdline", "opened"),
    [
        ("access=open\naction=shell\n", "", "open"),
        ("action=shell\naccess=open\n", "rd.shell", "open"),
        ("access=open\n", "rd.shell=1 quiet", "open"),
        ("access=open\n", "rd.shell=0", "none"),
        ("access=open\n", "rd.shell rd.shell=no", "none"),
        ("access=locked\n", "", "none"),
        ("access=locked\n", "rd.shell=1 rd.shell access=open", "none"),
        ("", "", "none"),
        ("access=Open\n", "", "none"),
        ("access=nonsense\n", "", "none"),
        ("access=password\n", "", "none"),
    ],
)
def test_the_policy(shell: list[str], tmp_path: Path, policy: str, cmdline: str, opened: str) -> None:
    assert ask(shell, tmp_path, policy, cmdline=cmdline)[-1] == opened


@pytest.mark.parametrize(
    ("shadow", "credential", "opened", "kept"),
    [
        (f"root:{HASH}:::::::\n", None, "ask", f"root:{HASH}:::::::\n"),
        (f"u:*:::::::\nroot:{HASH}:1::::::\n", "$6$other$one\n", "ask", f"u:*:::::::\nroot:{HASH}:1::::::\n"),
        (LOCKED_SHADOW, f"{HASH}\n", "ask", f"root:{HASH}:::::::\n"),
        (LOCKED_SHADOW, HASH, "ask", f"root:{HASH}:::::::\n"),  # no line break at its end
        ("root:!:::::::\n", HASH, "ask", f"root:{HASH}:::::::\n"),
        ("root::::::::\n", None, "none", "root::::::::\n"),  # an empty password is none
        (LOCKED_SHADOW, "", "none", LOCKED_SHADOW),
        (LOCKED_SHADOW, "sesame\n", "none", LOCKED_SHADOW),  # no hash
        (LOCKED_SHADOW, "$6$a:0:0\n", "none", LOCKED_SHADOW),  # would be other fields
        (LOCKED_SHADOW, "*\n", "none", LOCKED_SHADOW),
        (LOCKED_SHADOW, "$\n", "none", LOCKED_SHADOW),
    ],
)
def test_the_password(
    shell: list[str], tmp_path: Path, *, shadow: str, credential: str | None, opened: str, kept: str
) -> None:
    assert ask(shell, tmp_path, "access=password\n", shadow=shadow, credential=credential)[-1] == opened
    assert (tmp_path / "shadow").read_text() == kept


def test_a_credential_opens_nothing_on_a_locked_image(shell: list[str], tmp_path: Path) -> None:
    assert ask(shell, tmp_path, "access=locked\n", credential=HASH)[-1] == "none"
    assert (tmp_path / "shadow").read_text() == LOCKED_SHADOW


def test_a_locked_image_says_how_it_would_be_opened(shell: list[str], tmp_path: Path) -> None:
    said = ask(shell, tmp_path, "access=locked\n")
    assert (
        said[0] == 'tell The shell is locked. To open it, build the image with [access] policy = "open" or "password".'
    )


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_characters="\0\r"), max_size=30), st.integers(0, 1))
def test_no_command_line_opens_a_locked_image(
    tmp_path_factory: pytest.TempPathFactory, cmdline: str, which: int
) -> None:
    directory = tmp_path_factory.mktemp("access")
    assert ask(SHELLS[which], directory, "access=locked\n", cmdline=cmdline)[-1] == "none"


def test_what_would_widen_access_is_taken_away_in_every_image() -> None:
    feature = load_features(SearchPath((BUILT_IN,)))["access"]
    entries = [entry for content in (feature, *feature.variant) for entry in content.cmdline]
    names = {entry.name for entry in effective(entries, "locked") if entry.widens_access}
    assert names >= {
        "systemd.debug_shell", "rd.systemd.debug_shell", "systemd.crash_shell", "systemd.set_credential*",
        "systemd.setenv", "rd.systemd.unit", "rd.systemd.wants", "rd.systemd.mount-extra", "systemd.mount-extra",
    }  # fmt: skip
    assert not [entry for entry in effective(entries, "open") if entry.widens_access]
