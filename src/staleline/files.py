# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are written as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["replace_whole"]

_ONLY_MINE = 0o600


def replace_whole(path: Path, content: bytes, mode: int = _ONLY_MINE) -> None:
    """Readers see the old file, the new one or none, never a part.

    Args:
        path: Where; a symbolic link is replaced itself.
        content: All of it.
        mode: Who may read it.

    Raises:
        OSError: It cannot be written; what was there is there.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
