# SPDX-License-Identifier: LGPL-2.1-or-later
"""Temporary directories: nobody else's are touched, and what killed owners left goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from preroot.errors import BuildError
from preroot.scratch import scratch, sweep


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_there_for_the_time_of_the_context(base: Path) -> None:
    with scratch("probe") as one, scratch("probe") as two:
        (one / "file").write_text("x")
        assert one != two and one.parent == base
        assert one.stat().st_mode & 0o777 == 0o700
        assert sweep(str(base)) == 0  # both are locked by their owner
        assert (one / "file").exists()
    assert list(base.iterdir()) == []


def test_only_what_was_left_behind_is_removed(base: Path) -> None:
    kept = ["preroot-test", "preroot-out", "preroot-work-deadbeef0", "preroot-DEADBEEF", "other-probe-0123abcd"]
    for name in (*kept, "preroot-probe-0123abcd", "preroot-deadbeef"):
        (base / name).mkdir()
        (base / name / "mine").write_text("x")
    (base / "preroot-file-0123abcd").write_text("a file is nobody's scratch directory")
    (base / "preroot-link-0123abcd").symlink_to(base / "preroot-test")
    assert sweep(str(base)) == 2
    assert sorted(path.name for path in base.iterdir()) == sorted(
        [*kept, "preroot-file-0123abcd", "preroot-link-0123abcd"]
    )
    assert (base / "preroot-test/mine").exists()


def test_what_fails_elsewhere_is_not_blamed_on_it(base: Path) -> None:
    with pytest.raises(FileNotFoundError), scratch("probe"):
        (base / "cache/file").read_bytes()
    with (
        pytest.raises(BuildError, match=f"cannot use the temporary directory {base}: No such file"),
        scratch("p") as own,
    ):
        (own / "none").read_bytes()
