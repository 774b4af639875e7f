# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import hypothesis

# No deadline: these machines are shared, and a wall-clock bound is no property of the code.
hypothesis.settings.register_profile("preroot", deadline=None)
hypothesis.settings.load_profile("preroot")
