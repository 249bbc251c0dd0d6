"""A private directory for Unix sockets, whose paths the kernel limits to 107 bytes."""

import os
import shutil
import tempfile
from pathlib import Path

#: Bytes of a socket's path that the kernel takes, from sys/un.h
PATH_LIMIT = 107


class SocketDir:
    """The directory `wanted`, or a short temporary one where `name` in it would make too long a path."""

    def __init__(self, wanted: Path, name: str) -> None:
        too_long = len(os.fsencode(wanted / name)) > PATH_LIMIT
        self._temporary = Path(tempfile.mkdtemp(prefix="engine-")) if too_long else None
        self.path = self._temporary or wanted
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove what was temporary."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
