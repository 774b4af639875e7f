# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest
from lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Lab:
    """One laboratory a run: with several workers, their directories lie in one that is common to all."""
    base = tmp_path_factory.getbasetemp()
    session = (base if worker_id == "master" else base.parent) / "lab"
    session.mkdir(exist_ok=True)
    return Lab(session)
