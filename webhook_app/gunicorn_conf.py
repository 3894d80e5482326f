"""Settings for gunicorn: ``PORTICO_APP=shop gunicorn -c python:webhook_app.gunicorn_conf``.

Every view waits for the job store and does little else, so threads serve it better than more processes.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from typing import Any

from webhook_app.access_log import FORMAT
from webhook_app.bounded_worker import BoundedUnreader
from webhook_app.processors import allowed_processors, keep_to, processor_for

wsgi_app = "webhook_app:create_app()"
worker_class = "webhook_app.bounded_worker.BoundedWorker"
# Most of them wait, for the store or for slow clients; one that was never needed was never started.
threads = 256
# What is being created when it is told to stop has so many seconds to end in.
graceful_timeout = 30
# Its place is in the home directory, which a container may have read-only.
control_socket_disable = True
limit_request_fields = 64
limit_request_field_size = 8_190
accesslog = "-"
logger_class = "webhook_app.access_log.AccessLog"
access_log_format = FORMAT


def on_starting(server: Any) -> None:
    """Give each of several processes a socket of its own: with one for all, one of them often gets every connection.

    A single process has none to share, and then a second server on the same port is an error. Unix sockets, and those
    that systemd hands over, are for all.
    """
    if server.cfg.workers > 1 and is_tcp(server.cfg.address, os.environ):
        server.cfg.set("reuse_port", True)
        # gunicorn says where it listens only by the sockets of its main process, which has none now.
        server.log.info("Each of %d processes listens at: %s", server.cfg.workers, ", ".join(server.cfg.bind))


def is_tcp(addresses: Sequence[object], environment: Mapping[str, str]) -> bool:
    """Whether a server listens at addresses of its own, each a host and a port."""
    return "LISTEN_FDS" not in environment and all(isinstance(address, tuple) for address in addresses)


def on_reload(server: Any) -> None:
    """Keep to what was decided at the start: without sockets in the main process, each has its own."""
    if not server.LISTENERS:
        server.cfg.set("reuse_port", True)


def pre_fork(server: Any, worker: Any) -> None:
    """Choose a processor for a new process."""
    taken = [getattr(other, "processor", None) for other in server.WORKERS.values()]
    worker.processor = processor_for(allowed_processors(), workers=server.num_workers, taken=taken)


def post_fork(_server: Any, worker: Any) -> None:
    """Keep a new process to its processor, before it starts threads."""
    keep_to(worker.processor)


def post_worker_init(_worker: Any) -> None:
    """Leave what has been loaded out of the garbage collector's rounds.

    It stays anyway, and a round through all of it takes tens of milliseconds, in which nobody is served.
    """
    gc.collect()
    gc.freeze()


def pre_request(_worker: Any, request: Any) -> None:
    """Tell the worker that a request's head has come."""
    if isinstance(request.unreader, BoundedUnreader):
        request.unreader.note_head()
