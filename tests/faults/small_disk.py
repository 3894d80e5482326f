"""A file system that is soon full, and files that are not allowed to grow."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

_CHUNK = bytes(4_096)


@contextmanager
def a_small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """Yield the root of a small file system, mounted for the length of the block."""
    directory.mkdir(mode=0o755)
    options = f"size={megabytes}m,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(directory)], check=True, capture_output=True)
    try:
        yield directory
    finally:
        # Lazily: what a test has left open must not keep it.
        subprocess.run(["umount", "--lazy", str(directory)], check=True, capture_output=True)


@cache
def can_mount() -> bool:
    """Whether this system lets us: it takes root, and not every container lets root."""
    with TemporaryDirectory() as directory:
        try:
            with a_small_disk(Path(directory) / "disk", megabytes=1):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a file system to its last byte for the length of the block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(_CHUNK)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def no_file_larger_than(path: Path) -> Iterator[None]:
    """Let no file grow that this process writes to and that is as large as this one: the next best to a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(path).st_size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
