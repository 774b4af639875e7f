# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every scenario that comes with preroot (src/preroot/scenarios): what `preroot test` runs for users."""

from __future__ import annotations

import pytest
from lab import Lab

from preroot.engine import Engine
from preroot.engine.testing import Chosen, ScenarioRunner, choose
from preroot.recipe.search import BUILT_IN, SearchPath

_ALL = choose((), SearchPath((BUILT_IN,)))


@pytest.mark.parametrize(
    "chosen",
    [pytest.param(each, id=each.name, marks=[pytest.mark.matrix] if each.spec.matrix else []) for each in _ALL],
)
def test_scenario(lab: Lab, chosen: Chosen) -> None:
    with Engine(lab.workspace) as engine:
        result = ScenarioRunner(engine, lab.session / "scenarios").run(chosen)
    assert result.problems == ()
