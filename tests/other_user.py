# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running Python as another user than root, for what must not need root or must not depend on who runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Debian's nobody; also where a user namespace maps this user to
NOBODY = 65534


def run_as_other(check: str = "") -> list[str]:
    """Return the words before a command that run it as another, ordinary user.

    setpriv(1) where that user can read Python and this checkout, else a user namespace (user_namespaces(7)): Python or
    the checkout may lie in a home that nobody else may enter. `check` are statements that must work there. That
    neither way does is a failure in CI.
    """
    ways = [
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"],
        ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"],
    ]
    program = f"import os, ssl, msgspec, preroot; assert os.getuid() == {NOBODY}; {check}"
    for way in ways:
        # env, because a first program is still started with the rights of the user before
        done = subprocess.run([*way, "env", sys.executable, "-c", program], capture_output=True, check=False)
        if done.returncode == 0:
            return [*way, "env"]
    if os.environ.get("CI"):
        pytest.fail("neither setpriv nor unshare can run Python as another user")
    pytest.skip("neither setpriv nor unshare can run Python as another user")
