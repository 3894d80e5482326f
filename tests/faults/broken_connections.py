"""Breaking connections from outside, as a firewall or a cable would."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from functools import cache

SECONDS = 60.0


def abort_sockets(port: int) -> None:
    """Have the kernel abort every connection to a port of this machine: both ends learn of it, and nothing is said."""
    which = f"( dport = :{port} or sport = :{port} )"
    command = ["ss", "--kill", "--tcp", "--no-header", "state", "established", which]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    if not done.stdout:
        raise RuntimeError(f"there was no connection to port {port} to abort, or ss may not: {done.stderr}")


@cache
def can_abort_sockets() -> bool:
    """Whether this system lets us: it takes root, and a kernel that was built for it."""
    if shutil.which("ss") is None or os.geteuid() != 0:
        return False
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.settimeout(1.0)
        try:
            abort_sockets(server.getsockname()[1])
            client.recv(1)
        except ConnectionError:
            return True
        except (OSError, RuntimeError, subprocess.SubprocessError):
            return False
    return False
