# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes into a part, and why."""
