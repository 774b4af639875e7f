# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be learnt from one file's bytes, read once when a package is unpacked; nothing is resolved here."""
