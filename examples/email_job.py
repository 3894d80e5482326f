"""Sending mail as a job: a handler, and the mailer that is injected into it.

What can't get better by trying again is a result; everything else is raised, and so retried.
The job's id is the Message-ID, so that a mail sent twice is recognisable as one mail.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Protocol

import aiosmtplib

from portico_celery.exceptions import PorticoError, ValidationError
from portico_celery.ports.job import Job, JobResult
from portico_celery.ports.job_handler import JobHandler
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


class MailRefused(PorticoError):
    """This mail will never be taken; the message is the server's, or says what is wrong with the mail."""


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail to one recipient. Two mails with the same key are the same mail."""

    key: str
    recipient: str
    subject: str
    body: str


class Mailer(Protocol):
    """What the handler needs of a mailer."""

    async def send(self, mail: Mail) -> None:
        """Hand the mail over. Raises MailRefused where that is final, and anything else where it is not."""


class SmtpMailer:
    """Sends each mail in an SMTP conversation of its own, so nothing is kept and nothing is bound to an event loop.

    STARTTLS is used where the server offers it.
    """

    def __init__(self, host: str, port: int, sender: str, timeout: float = 10.0) -> None:
        self._host = host
        self._port = port
        self._sender = sender
        self._timeout = timeout

    async def send(self, mail: Mail) -> None:
        message = _compose(mail, self._sender)
        async with aiosmtplib.SMTP(hostname=self._host, port=self._port, timeout=self._timeout) as client:
            try:
                await client.send_message(message)
            except aiosmtplib.SMTPException as error:
                refusal = _answer(error)
                if refusal is None or refusal.code < 500:
                    raise
                raise MailRefused(f"the mail server refused: {refusal.code} {refusal.message}") from error


class SendEmail(JobHandler):
    """Sends the mail that the payload's ``recipient``, ``subject`` and ``body`` describe."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer

    @property
    def job_type(self) -> str:
        return "email.send"

    async def handle(self, job: Job) -> JobResult:
        try:
            mail = _mail_of(job)
            await self._mailer.send(mail)
        except (ValidationError, MailRefused) as error:
            logger.warning("email_refused", job_id=str(job.id), error=str(error))
            return JobResult(success=False, error=error)
        logger.info("email_sent", job_id=str(job.id))
        sent_at = datetime.now(UTC).isoformat()
        return JobResult(success=True, result_data={"recipient": mail.recipient, "sent_at": sent_at})

    async def on_failure(self, job: Job, error: Exception) -> None:
        logger.error(
            "email_job_failed",
            job_id=str(job.id),
            error=str(error),
            retry_count=job.retry_count,
            retries_spent=job.retry_count >= job.max_retries,
        )


def _mail_of(job: Job) -> Mail:
    """Read the payload, before anything is done with it."""
    return Mail(
        key=str(job.id),
        recipient=_text(job, "recipient"),
        subject=_text(job, "subject"),
        body=_text(job, "body"),
    )


def _text(job: Job, name: str) -> str:
    text = job.payload.get(name)
    if not isinstance(text, str) or not text:
        raise ValidationError(f"payload needs a text: {name}")
    return text


def _compose(mail: Mail, sender: str) -> EmailMessage:
    message = EmailMessage()
    try:
        message["From"] = sender
        message["To"] = mail.recipient
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<{mail.key}@{message['From'].addresses[0].domain}>"
        message.set_content(mail.body)
        address = message["To"]
        single = len(address.addresses) == 1 and not address.defects
    except (ValueError, IndexError) as error:  # the email package's parser raises both
        raise MailRefused(f"not a mail that can be sent: {error}") from error
    if not single:
        raise MailRefused(f"recipient must be one mail address: {mail.recipient!r}")
    return message


def _answer(error: aiosmtplib.SMTPException) -> aiosmtplib.SMTPResponseException | None:
    """Return the server's answer to this mail, or None where the error says nothing of the mail itself."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return error.recipients[0]  # the only one
    if isinstance(error, (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError)):
        return error
    return None
