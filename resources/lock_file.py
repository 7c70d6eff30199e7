"""Lock files: one process of several has something to itself, and a process that dies lets go.

Belongs here: opening one, whichever user made it, and waiting for it. Does not: what is guarded.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOR_ALL = 0o666
_POLL_SECONDS = 0.05


@contextmanager
def held(path: Path, wait_seconds: float) -> Iterator[int | None]:
    """Hold the lock of the file at ``path`` for the length of a ``with`` block.

    Args:
        wait_seconds: for another process that holds it; 0: ask once.

    Yields:
        the open file; None: another process holds it still.

    Raises:
        OSError: the file can be neither made nor opened.
    """
    descriptor = _opened(path)
    try:
        yield descriptor if _taken(descriptor, time.monotonic() + wait_seconds) else None
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """The lock file, made for every user of its folder: who made it first must shut nobody out."""
    # A link that another user has put there is not followed: the file's mode is about to change.
    both = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, both | os.O_CREAT | os.O_EXCL, _FOR_ALL)
    except FileExistsError:
        try:
            return os.open(path, both)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # enough for a lock
    os.fchmod(descriptor, _FOR_ALL)  # the umask has taken some of it away
    return descriptor


def _taken(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True
