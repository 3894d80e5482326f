"""Who uses the demo: posts the samples, waits for the schedule's job, and follows every job to its end."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus

from portico_celery.demo.samples import MAIL, Expectation, Sample, expectation_of_open, fault_of, samples
from portico_celery.demo.schedule import NAME, TITLE, DemoSchedule
from portico_celery.demo.shop import EMAIL
from portico_celery.demo.webhook_client import Answer, WebhookClient
from portico_celery.lifecycle import TERMINAL
from portico_celery.ports.job import Job

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1
# A job that has not ended by then has not ended as it should.
_PATIENCE_SECONDS = 20.0


class Visitor:
    """``run`` it in a thread of its own: it ends when every job has ended, or soon after ``stopping`` is set."""

    def __init__(
        self, client: WebhookClient, open_jobs: Iterable[Job], schedule: DemoSchedule, stopping: threading.Event
    ) -> None:
        self._client = client
        self._schedule = schedule
        self._stopping = stopping
        self._followed = {str(job.id): expectation_of_open(job) for job in open_jobs}
        #: What was not as it should be.
        self.faults: list[str] = []
        #: Whether every job that was followed has ended.
        self.complete = False

    def run(self) -> None:
        """Post, follow and report."""
        try:
            self._post_all()
            self._await_schedule()
            self._follow()
        except Exception as error:  # noqa: BLE001  # whatever it is, the demo says so and ends with 1
            self.faults.append(f"the webhook could not be used: {error!r}")
        if not self._stopping.is_set():
            self._report()

    def _post_all(self) -> None:
        logger.info("\nPosting five requests to %s:", self._client.jobs_url)
        for sample in samples():
            self._post(sample)

    def _post(self, sample: Sample) -> None:
        answer = self._client.post(sample.request)
        logger.info("POST  %-38s -> %s", sample.title, _said(answer))
        expected = HTTPStatus.BAD_REQUEST if sample.expectation is None else HTTPStatus.ACCEPTED
        if answer.status != expected:
            self.faults.append(f"{sample.title}: the webhook should have answered {expected}, not {_said(answer)}")
        elif sample.expectation is not None:
            self._followed[answer.document["job_id"]] = sample.expectation

    def _await_schedule(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (job_id := self._schedule.last_job_id()) is None and time.monotonic() < deadline:
            if self._stopping.wait(_PAUSE_SECONDS):
                return
        if job_id is None:
            self.faults.append(f"the schedule {NAME!r} has not fired after {_PATIENCE_SECONDS:.0f} s")
        else:
            self._followed[job_id] = Expectation(title=TITLE)

    def _follow(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        waiting = dict(self._followed)
        while waiting and time.monotonic() < deadline and not self._stopping.wait(_PAUSE_SECONDS):
            waiting = {job_id: wanted for job_id, wanted in waiting.items() if not self._has_ended(job_id, wanted)}
        self.complete = not waiting
        if not self._stopping.is_set():
            late = [f"{job_id} ({wanted.title}) has not ended" for job_id, wanted in waiting.items()]
            self.faults += [f"{fault} after {_PATIENCE_SECONDS:.0f} s" for fault in late]

    def _has_ended(self, job_id: str, wanted: Expectation) -> bool:
        if self._stopping.is_set():
            return False
        answer = self._client.get(job_id)
        if answer.status != HTTPStatus.OK or answer.document["status"] not in TERMINAL:
            return False
        fault = fault_of(wanted, answer.document)
        if fault is not None:
            self.faults.append(f"{job_id} ({wanted.title}) {fault}")
        return True

    def _report(self) -> None:
        for fault in self.faults:
            logger.error("NOT AS IT SHOULD BE: %s", fault)
        if not self.faults:
            logger.info(
                "\nAll %d jobs have ended as they should, and the bad request was refused.", len(self._followed)
            )
        logger.info("\nTry it by hand:\n%s", "\n".join(self._curl_lines()))

    def _curl_lines(self) -> list[str]:
        post = f"curl -i {self._client.jobs_url} -H 'Content-Type: application/json' -d"
        mail = json.dumps({"job_type": EMAIL, "payload": MAIL})
        lines = ["# a mail", f"{post} '{mail}'", "# a bad request", f'{post} \'{{"job_type": "{EMAIL}"}}\'']
        for job_id in list(self._followed)[-1:]:
            lines += ["# how a job is", f"curl -s {self._client.jobs_url}/{job_id}"]
        return lines


def _said(answer: Answer) -> str:
    document = answer.document
    said = [document.get(name) for name in ("status", "job_id", "detail", "errors")]
    parts = said if answer.status == HTTPStatus.ACCEPTED else said[2:]
    return " ".join(str(part) for part in (answer.status, *parts) if part is not None)
