# SPDX-License-Identifier: GPL-2.0-or-later
"""The built machine as a fixture; what needs it is skipped where it is not built."""

from __future__ import annotations

import pytest
from tools.build_machine import BuildError, installed

from staleline.simulation.emulator import BuiltMachine


@pytest.fixture(scope="session")
def emulator() -> BuiltMachine:
    """The simulated machine of this checkout's patches."""
    try:
        return installed()
    except BuildError as error:
        pytest.skip(str(error))
