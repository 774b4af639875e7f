# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one file asks for, resolved in the world of the packages."""
