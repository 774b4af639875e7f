# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where bytes come from: sources, package archives, the store and the lock."""
