# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked for: recipes, features and distributions, loaded and validated; nothing here reads packages."""
