# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m staleline``."""

import sys

from staleline.cli.main import main

sys.exit(main())
