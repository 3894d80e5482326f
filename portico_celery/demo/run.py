"""Puts the demo together, runs it, and says how it went."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from portico_celery.compose import PorticoCelery
from portico_celery.demo.embedded_worker import run_worker, stop_worker
from portico_celery.demo.mail_server import serving_mail
from portico_celery.demo.open_jobs import find_open_jobs
from portico_celery.demo.schedule import DemoSchedule, EmbeddedBeat
from portico_celery.demo.shop import EMAIL, IMPORT, UNREACHABLE, open_shop
from portico_celery.demo.step_log import show_steps
from portico_celery.demo.visitor import Visitor
from portico_celery.demo.web_server import LOCALHOST, add_orders_file, listen, serving_web
from portico_celery.demo.webhook_client import WebhookClient
from portico_celery.exceptions import ConfigurationError, PorticoError
from webhook_app import create_app

logger = logging.getLogger(__name__)

_PREFIX = "/webhooks"
_CONFIG = {
    "PORTICO_WEBHOOK_PREFIX": _PREFIX,
    # It listens on this machine alone.
    "PORTICO_WEBHOOK_AUTH": "none",
    "PORTICO_WEBHOOK_ALLOWED_JOB_TYPES": ",".join((EMAIL, IMPORT, UNREACHABLE)),
}
_AS_IT_SHOULD, _OTHERWISE, _CANNOT_START = 0, 1, 2


def run(*, once: bool) -> int:
    """Run the demo; with ``once``, until its jobs have ended. Returns the exit code."""
    show_steps(sys.stdout)
    try:
        with ExitStack() as stack:
            return _run(stack, once=once)
    except PorticoError as error:
        sys.stderr.write(f"The demo can't start: {error}\n")
        return _CANNOT_START


def _run(stack: ExitStack, *, once: bool) -> int:
    listener = stack.enter_context(listen(os.environ.get("PORT", "")))
    directory = _state_directory()
    port = listener.getsockname()[1]
    mail_port = stack.enter_context(serving_mail())
    own_url = f"http://{LOCALHOST}:{port}"
    portico = stack.enter_context(open_shop(directory, own_url=own_url, mail_port=mail_port))
    application = create_app(portico, _CONFIG)
    add_orders_file(application, directory / "requests")
    stack.enter_context(serving_web(application, listener))
    logger.info("The webhook is at %s%s, for this machine alone. Jobs are kept in %s.", own_url, _PREFIX, directory)
    return _work(portico, WebhookClient(port, _PREFIX), EmbeddedBeat(portico.app, directory), once=once)


def _state_directory() -> Path:
    directory = Path(os.environ.get("PORTICO_DEMO_DIR") or ".portico-demo").absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the directory for its jobs can't be made ({error}): name another one by PORTICO_DEMO_DIR"
        ) from error
    return directory


def _work(portico: PorticoCelery, client: WebhookClient, beat: EmbeddedBeat, *, once: bool) -> int:
    """Run the worker on this thread, and beat and the visitor on others."""
    stopping = threading.Event()
    visitor = Visitor(client, find_open_jobs(portico), DemoSchedule(portico), stopping)

    def visit() -> None:
        beat.start()
        visitor.run()
        if stopping.is_set():
            return
        if once:
            stop_worker()
        else:
            logger.info("\nIt stays up until Ctrl-C. Started again, it goes on with the jobs that are open.")

    visiting = threading.Thread(target=visit, name="demo-visitor", daemon=True)
    worker_exit_code = run_worker(portico.app, when_ready=visiting.start, stopping=stopping)
    if visiting.ident is not None:
        visiting.join()
    beat.stop()
    failed = bool(worker_exit_code or visitor.faults)
    if once and not visitor.complete and not failed:
        logger.error("Stopped before every job had ended.")
        failed = True
    return _OTHERWISE if failed else _AS_IT_SHOULD
