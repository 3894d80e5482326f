"""The mail server that the demo's mails go to. It keeps none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, Envelope, Session

from portico_celery import event_loop
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_LOCALHOST = "127.0.0.1"


class _Inbox:
    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's
        mail = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        # The example's mailer makes a Message-ID of the job's id.
        job_id = str(mail["Message-ID"]).strip("<>").partition("@")[0]
        logger.info("mail_received", job_id=job_id, subject=str(mail["Subject"]), recipient=str(mail["To"]))
        return "250 OK"


@contextmanager
def serving_mail() -> Iterator[int]:
    """Serve SMTP on a free port of this machine, on the process's event loop. Yields the port."""
    server = event_loop.wait(_start())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        event_loop.wait(_stop(server))


async def _start() -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: SMTP(_Inbox(), hostname="mail.example", loop=loop, enable_SMTPUTF8=True), _LOCALHOST, 0
    )


async def _stop(server: asyncio.Server) -> None:
    server.close()
