# SPDX-License-Identifier: GPL-2.0-or-later
"""What registers, logs, command lines and tools tell, as observations."""
