# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures preroot against the other initrd generators: same kernel, same machine, same run (`make bench`)."""
