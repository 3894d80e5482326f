"""System calls of the programs under test, by strace: noted, and made to fail."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.waiting import eventually

_SECONDS = 20.0
_CALL = re.compile(r"(?:^\d+ +)?(\d+\.\d+) f(?:data)?sync\(", re.MULTILINE)
_SYNCS = "fsync,fdatasync"


@cache
def can_trace() -> bool:
    """Whether strace is there and this system lets it look into other processes."""
    program = shutil.which("strace")
    if program is None:
        return False
    return subprocess.run([program, "-e", "trace=none", "true"], capture_output=True, check=False).returncode == 0


def noting_syncs(log: Path, *injected: str) -> list[str]:
    """Return the command under which a program's syncs are noted, with what is to be injected into them."""
    inject = [f"--inject=fdatasync:{what}" for what in injected]
    return ["strace", "--follow-forks", "--quiet=all", "-ttt", f"--trace={_SYNCS}", *inject, f"--output={log}"]


@contextmanager
def attached(pids: Iterable[int], log: Path, *injected: str) -> Iterator[None]:
    """Trace processes that run, inside the block."""
    targets = [f"--attach={pid}" for pid in pids]
    with subprocess.Popen(
        [*noting_syncs(log, *injected), *targets], stdin=subprocess.DEVNULL, start_new_session=True
    ) as tracer:
        try:
            eventually(lambda: _all_traced(targets, tracer.pid), _SECONDS, "a tracer")
            yield
        finally:
            tracer.send_signal(signal.SIGTERM)  # it lets go of those that it traces


def _all_traced(targets: list[str], tracer: int) -> bool:
    for target in targets:
        status = Path(f"/proc/{target.partition('=')[2]}/status")
        if status.exists() and f"TracerPid:\t{tracer}\n" not in status.read_text():
            return False
    return True


def sync_times(log: Path) -> list[float]:
    """Return when each sync began."""
    return [float(at) for at in _CALL.findall(log.read_text())]


def is_injected(log: Path) -> bool:
    """Whether a sync was made to fail."""
    return "(INJECTED)" in log.read_text()
