"""The mail handler, in conversation with a real SMTP server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import aiosmtplib
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from examples.email_job import MailRefused, SendEmail, SmtpMailer
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job, JobResult

LOCALHOST = "127.0.0.1"


@dataclass
class Mailbox:
    """An aiosmtpd handler: keeps what it takes. ``answers`` are given first, one a mail, in place of its own."""

    rcpt_answers: list[str] = field(default_factory=list)
    data_answers: list[str] = field(default_factory=list)
    drop_after_data: int = 0
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.rcpt_answers:
            return self.rcpt_answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data_answers:
            return self.data_answers.pop(0)
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        if self.drop_after_data:
            self.drop_after_data -= 1
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return "250 OK"


@asynccontextmanager
async def mail_server(mailbox: Mailbox) -> AsyncIterator[int]:
    """Serve SMTP on a free port, and yield the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="mail.example", loop=loop, enable_SMTPUTF8=True), LOCALHOST, 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


def a_job(**payload: Any) -> Job:
    mail = {"recipient": "zsofia@example.org", "subject": "Your order", "body": "It is on its way."}
    return Job(id=uuid4(), queue_name="default", job_type="email.send", payload=mail | payload)


def handler_for(port: int, **settings: Any) -> SendEmail:
    return SendEmail(SmtpMailer(LOCALHOST, port, "The Shop <shop@example.com>", **settings))


def run_against(mailbox: Mailbox, *jobs: Job) -> list[JobResult | Exception]:
    """Handle the jobs one after the other, with one handler; what was raised is returned as well."""

    async def conversation() -> list[JobResult | Exception]:
        async with mail_server(mailbox) as port:
            handler = handler_for(port)
            return [await outcome(handler.handle(job)) for job in jobs]

    return asyncio.run(conversation())


async def outcome(handling: Coroutine[Any, Any, JobResult]) -> JobResult | Exception:
    try:
        return await handling
    except Exception as error:  # noqa: BLE001 (it is what the test asks about)
        return error


def refused(result: JobResult | Exception) -> Exception:
    """Return the error of a failure that is final."""
    assert isinstance(result, JobResult)
    assert not result.success
    assert result.error is not None
    return result.error


def test_the_mail_arrives_as_the_payload_says() -> None:
    mailbox = Mailbox()
    job = a_job(subject="Rechnung für März", body="Grüße\naus Köln 👋")

    [result] = run_against(mailbox, job)

    [mail] = mailbox.mails
    assert (mail["From"], mail["To"]) == ("The Shop <shop@example.com>", "zsofia@example.org")
    assert mail["Subject"] == "Rechnung für März"
    assert mail.get_content().splitlines() == ["Grüße", "aus Köln 👋"]
    assert mail["Date"].datetime.tzinfo is not None
    assert isinstance(result, JobResult)
    assert result.success
    assert result.result_data["recipient"] == "zsofia@example.org"


def test_a_job_run_twice_sends_the_same_message_id_twice() -> None:
    mailbox = Mailbox()
    job, other = a_job(), a_job()

    run_against(mailbox, job, job, other)

    first, second, third = (mail["Message-ID"] for mail in mailbox.mails)
    assert first == second == f"<{job.id}@example.com>"
    assert third == f"<{other.id}@example.com>"


def test_a_connection_lost_after_the_mail_was_taken_is_raised_and_the_retry_is_recognisable() -> None:
    mailbox = Mailbox(drop_after_data=1)
    job = a_job()

    lost, retried = run_against(mailbox, job, job)

    assert isinstance(lost, aiosmtplib.SMTPServerDisconnected)
    assert isinstance(retried, JobResult)
    assert retried.success
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == 1


def test_a_recipient_refused_for_good_is_a_result_that_carries_the_servers_words() -> None:
    [result] = run_against(Mailbox(rcpt_answers=["550 No such user here"]), a_job())

    error = refused(result)
    assert isinstance(error, MailRefused)
    assert "550 No such user here" in str(error)


def test_a_recipient_refused_for_now_is_raised_and_taken_later() -> None:
    mailbox = Mailbox(rcpt_answers=["451 Greylisted, come back later"])
    job = a_job()

    refused_for_now, later = run_against(mailbox, job, job)

    assert isinstance(refused_for_now, aiosmtplib.SMTPRecipientsRefused)
    assert isinstance(later, JobResult)
    assert later.success


@pytest.mark.parametrize(("answer", "final"), [("554 Looks like spam", True), ("452 Disk is full", False)])
def test_content_that_is_refused_is_final_only_for_a_5xx(answer: str, final: bool) -> None:
    [result] = run_against(Mailbox(data_answers=[answer]), a_job())

    if final:
        assert isinstance(refused(result), MailRefused)
    else:
        assert isinstance(result, aiosmtplib.SMTPDataError)


def test_a_mail_server_that_is_down_is_raised() -> None:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind((LOCALHOST, 0))
        handler = handler_for(bound_but_deaf.getsockname()[1])

        with pytest.raises(ConnectionError):
            asyncio.run(handler.handle(a_job()))


def test_a_mail_server_that_never_answers_is_raised_when_the_time_is_up() -> None:
    with socket.socket() as silent:
        silent.bind((LOCALHOST, 0))
        silent.listen()
        handler = handler_for(silent.getsockname()[1], timeout=0.1)

        with pytest.raises(TimeoutError):
            asyncio.run(handler.handle(a_job()))


@pytest.mark.parametrize("name", ["recipient", "subject", "body"])
@pytest.mark.parametrize("value", [None, "", 7, ["a@example.org"]])
def test_a_payload_without_its_texts_is_refused_before_anything_is_sent(name: str, value: Any) -> None:
    mailer = AsyncMock()

    result = asyncio.run(SendEmail(mailer).handle(a_job(**{name: value})))

    error = refused(result)
    assert isinstance(error, ValidationError)
    assert name in str(error)
    mailer.send.assert_not_awaited()


@pytest.mark.parametrize(
    "mail",
    [
        {"recipient": "nobody"},
        {"recipient": "@"},
        {"recipient": "a@"},
        {"recipient": "a@example.org, b@example.org"},
        {"recipient": "a@example.org\r\nBcc: everybody@example.org"},
        {"subject": "Hello\r\nBcc: everybody@example.org"},
        {"subject": "half a pair: \ud83d"},
        {"body": "half a pair: \ud83d"},
    ],
)
def test_a_mail_that_cannot_be_written_is_refused_and_nothing_is_sent(mail: dict[str, str]) -> None:
    mailbox = Mailbox()

    [result] = run_against(mailbox, a_job(**mail))

    assert isinstance(refused(result), MailRefused)
    assert mailbox.mails == []


def test_a_recipient_may_carry_a_name() -> None:
    mailbox = Mailbox()

    run_against(mailbox, a_job(recipient='"Nagy, Zsófia" <zsofia@example.org>'))

    [address] = mailbox.mails[0]["To"].addresses
    assert (address.display_name, address.addr_spec) == ("Nagy, Zsófia", "zsofia@example.org")


def test_mails_of_many_jobs_at_once_all_arrive() -> None:
    mailbox = Mailbox()
    jobs = [a_job() for _ in range(20)]

    async def all_at_once() -> list[JobResult]:
        async with mail_server(mailbox) as port:
            handler = handler_for(port)
            return await asyncio.gather(*(handler.handle(job) for job in jobs))

    assert all(result.success for result in asyncio.run(all_at_once()))
    assert {mail["Message-ID"] for mail in mailbox.mails} == {f"<{job.id}@example.com>" for job in jobs}


def test_a_failure_is_logged_with_what_is_left_of_the_retries(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(SendEmail(AsyncMock()).on_failure(a_job(), MailRefused("no")))

    assert "event=email_job_failed" in caplog.text
    assert "retries_spent=false" in caplog.text
