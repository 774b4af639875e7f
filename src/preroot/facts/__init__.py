# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is so: frozen facts about architectures, kernels, distributions and hosts."""
