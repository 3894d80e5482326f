"""Canvas of a plain Celery client, whose members are jobs: also where one is retried, or its worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult
from kombu import Queue

from portico_celery.adapters.celery.knock import adopted_job_id
from portico_celery.exceptions import JobFailed
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter
from tests.integration.dying_backend import BEFORE_THE_CHORD, BEFORE_THE_RESULT, death_warrant
from tests.integration.worker_process import Journey, a_journey

SECONDS = 30
SETTINGS = {"retry_base_delay": 0.3, "sweep_seconds": 0.2, "lease_seconds": 3.0}


@dataclass(kw_only=True)
class Canvas:
    """A plain client with a result backend, and a worker of ours."""

    app: Celery
    journey: Journey

    def job(self, job_type: str, *, immutable: bool = False, **payload: Any) -> Any:
        """Return the signature of a job."""
        return self.app.signature(
            job_type, kwargs=payload, queue=self.journey.queue_name, immutable=immutable, task_id=str(uuid4())
        )

    def kill_the_worker_of(self, signature: Any) -> None:
        """Kill the process that runs a job of the canvas, once it has begun."""
        job_id = UUID(signature.options["task_id"])
        os.kill(self.journey.started(job_id), signal.SIGKILL)

    def kill_its_process(self, signature: Any, point: str) -> None:
        """Have the process of a job killed when its end is recorded, and Celery has not heard all of it."""
        death_warrant(self.journey.ledger_path, signature.options["task_id"], point).touch()

    def result(self, task_id: object) -> AsyncResult[Any]:
        return self.app.AsyncResult(str(task_id))

    def starts(self, signature: Any) -> list[int]:
        """Return the retry count of each run of a job."""
        lines = self.journey.ledger(adopted_job_id(signature.options["task_id"]), "start")
        return [line.retry_count for line in lines]

    def waits_for_its_retry(self, signature: Any) -> None:
        """Return when a job has failed, and Celery has heard that it will be run again."""
        result = self.result(signature.options["task_id"])
        self.journey.eventually(lambda: result.state == "RETRY", "a job that waits for its retry")

    def cancel(self, signature: Any, how: str) -> None:
        task_id = signature.options["task_id"]
        if how == "cancel_job":
            assert self.journey.portico.sync.cancel_job(task_id)
        else:
            self.app.control.revoke(task_id, reply=True, timeout=20, limit=1)

    def was_never_created(self, signature: Any) -> bool:
        return self.journey.portico.sync.get_record(signature.options["task_id"]) is None

    def status(self, signature: Any) -> tuple[JobStatus, int]:
        job = self.journey.ended(adopted_job_id(signature.options["task_id"])).job
        return job.status, job.retry_count

    def called(self, marker: str) -> list[Any]:
        """Return the jobs whose payload has a ``marker``, once there is one that has ended."""

        def ended() -> list[Any]:
            page = self.journey.portico.sync.list_jobs(JobFilter(queue_name=self.journey.queue_name))
            return [job for job in page.jobs if job.payload.get("marker") == marker]

        return [self.journey.ended(job.id).job for job in self.journey.eventually(ended, f"a job marked {marker}")]


@contextmanager
def a_canvas(amqp_url: str, redis_url: str, directory: Path, pool: str, **settings: Any) -> Iterator[Canvas]:
    with a_journey(amqp_url, directory, **{**SETTINGS, **settings}) as journey:
        results = {"result_backend_transport_options": {"global_keyprefix": str(uuid4())}, "result_expires": 600}
        dying = f"tests.integration.dying_backend:DyingBackend+{redis_url}"
        journey.settings = {**journey.settings, **results, "result_backend": dying}
        app = Celery("plain", broker=amqp_url, set_as_current=False)
        app.conf.update(results, result_backend=redis_url)
        app.conf.task_queues = [Queue(journey.queue_name, queue_arguments={"x-max-priority": 10})]
        with journey.worker(pool, concurrency=3):
            yield Canvas(app=app, journey=journey)
        app.close()


@pytest.fixture(scope="module")
def canvas(amqp_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canvas]:
    with a_canvas(amqp_url, redis_url, tmp_path_factory.mktemp("canvas"), "prefork") as canvas:
        yield canvas


@pytest.fixture(scope="module")
def patient_canvas(amqp_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canvas]:
    """One whose jobs wait long for their retry, in a worker of threads."""
    directory = tmp_path_factory.mktemp("patient")
    with a_canvas(amqp_url, redis_url, directory, "threads", retry_base_delay=60) as canvas:
        yield canvas


def result_of(payload: dict[str, Any]) -> dict[str, Any]:
    return {"payload": payload}


def test_the_result_of_a_task_that_was_sent_is_its_jobs(canvas: Canvas) -> None:
    sent = canvas.app.send_task("journey.succeed", kwargs={"to": "ada"}, queue=canvas.journey.queue_name)

    assert sent.get(timeout=SECONDS) == result_of({"to": "ada"})
    assert canvas.journey.completed(UUID(sent.id)).result_data == sent.result


def test_the_result_of_a_job_that_is_retried_comes_with_its_last_run(canvas: Canvas) -> None:
    task = canvas.job("journey.raise", times=2)

    assert task.apply_async().get(timeout=SECONDS) == {}
    assert canvas.status(task) == (JobStatus.COMPLETED, 2)


def test_the_error_of_a_job_that_died_is_raised_at_its_client(canvas: Canvas) -> None:
    with pytest.raises(RuntimeError, match="it does not work"):
        canvas.job("journey.raise").apply_async().get(timeout=SECONDS)


def test_the_result_of_a_job_whose_worker_was_killed_is_that_of_the_next(canvas: Canvas) -> None:
    task = canvas.job("journey.hang_at_its_first_start")
    sent = task.apply_async()

    canvas.kill_the_worker_of(task)

    assert sent.get(timeout=SECONDS) == {}
    assert canvas.status(task) == (JobStatus.COMPLETED, 1)


def test_a_chain_hands_on_the_result_data_as_payload(canvas: Canvas) -> None:
    sent = chain(canvas.job("journey.succeed", a=1), canvas.job("journey.succeed", b=2)).apply_async()

    assert sent.get(timeout=SECONDS) == result_of({"payload": {"a": 1}, "b": 2})


def test_a_chain_goes_on_after_a_member_that_was_retried_or_killed(canvas: Canvas) -> None:
    killed = canvas.job("journey.hang_at_its_first_start")
    retried = canvas.job("journey.raise", immutable=True, times=1)
    sent = chain(killed, retried, canvas.job("journey.succeed", immutable=True, end=True)).apply_async()

    canvas.kill_the_worker_of(killed)

    assert sent.get(timeout=SECONDS) == result_of({"end": True})
    assert (canvas.status(killed), canvas.status(retried)) == ((JobStatus.COMPLETED, 1), (JobStatus.COMPLETED, 1))


def test_a_group_has_the_results_of_all_its_members(canvas: Canvas) -> None:
    killed = canvas.job("journey.hang_at_its_first_start")
    members = [canvas.job("journey.succeed", n=1), canvas.job("journey.raise", times=1), killed]
    sent = group(members, app=canvas.app).apply_async()

    canvas.kill_the_worker_of(killed)

    assert sent.get(timeout=SECONDS) == [result_of({"n": 1}), {}, {}]


def test_the_body_of_a_chord_runs_once_after_members_that_were_retried_or_killed(canvas: Canvas) -> None:
    marker = f"body {uuid4()}"
    killed = canvas.job("journey.hang_at_its_first_start")
    header = [canvas.job("journey.succeed", n=1), canvas.job("journey.raise", times=1), killed]
    sent = chord(header, app=canvas.app)(canvas.job("journey.succeed", marker=marker))

    canvas.kill_the_worker_of(killed)

    # What a chord's body is called with is a list: as any argument that is no dict, it is under ``args``.
    assert sent.get(timeout=SECONDS) == result_of({"args": [[result_of({"n": 1}), {}, {}]], "marker": marker})
    assert len(canvas.called(marker)) == 1


def test_a_chord_of_which_a_member_died_fails(canvas: Canvas) -> None:
    header = [canvas.job("journey.succeed", n=1), canvas.job("journey.decline")]
    sent = chord(header, app=canvas.app)(canvas.job("journey.succeed"))

    # The member's own error, where the client looks at the chord's header first.
    with pytest.raises((ChordError, JobFailed), match="no such address"):
        sent.get(timeout=SECONDS)
    canvas.journey.eventually(lambda: sent.state == "FAILURE", "the failure of the chord")


def test_a_link_is_called_once_by_a_job_that_was_retried(canvas: Canvas) -> None:
    marker = f"link {uuid4()}"
    task = canvas.job("journey.raise", times=2)
    task.link(canvas.job("journey.succeed", immutable=True, marker=marker))

    task.apply_async().get(timeout=SECONDS)

    (linked,) = canvas.called(marker)
    assert linked.status is JobStatus.COMPLETED


def test_a_link_error_is_called_once_by_a_dead_letter_and_not_by_its_retries(canvas: Canvas) -> None:
    marker = f"link_error {uuid4()}"
    task = canvas.job("journey.raise")
    task.link_error(canvas.job("journey.succeed", immutable=True, marker=marker))

    with pytest.raises(RuntimeError):
        task.apply_async().get(timeout=SECONDS)

    (linked,) = canvas.called(marker)
    assert linked.status is JobStatus.COMPLETED
    assert canvas.status(task) == (JobStatus.DEAD_LETTER, 3)


def test_a_chain_ends_where_a_running_member_is_cancelled(canvas: Canvas) -> None:
    task, following = canvas.job("journey.succeed", seconds=60), canvas.job("journey.succeed")
    sent: Any = chain(task, following).apply_async()
    job_id = UUID(task.options["task_id"])
    canvas.journey.started(job_id)

    assert canvas.journey.portico.sync.cancel_job(job_id, running=True)

    with pytest.raises(TaskRevokedError):
        sent.parent.get(timeout=SECONDS)
    canvas.journey.eventually(lambda: sent.state == "REVOKED", "the end of the chain")
    assert canvas.status(task) == (JobStatus.FAILED, 0)
    assert canvas.was_never_created(following)


@pytest.mark.parametrize("how", ["cancel_job", "revoke"])
def test_a_chord_fails_where_a_member_is_cancelled_that_waits_for_its_retry(patient_canvas: Canvas, how: str) -> None:
    canvas, member = patient_canvas, patient_canvas.job("journey.raise")
    body, following = canvas.job("journey.succeed"), canvas.job("journey.succeed")
    header = [canvas.job("journey.succeed"), chain(member, following)]
    sent = chord(header, app=canvas.app)(body)
    canvas.waits_for_its_retry(member)

    canvas.cancel(member, how)

    canvas.journey.eventually(lambda: sent.state == "FAILURE", "the failure of the chord")
    assert str(canvas.result(member.options["task_id"]).state) == "REVOKED"
    assert canvas.was_never_created(following)
    assert canvas.was_never_created(body)


def test_a_link_error_is_called_once_by_a_job_that_is_cancelled(patient_canvas: Canvas) -> None:
    canvas, marker = patient_canvas, f"cancelled {uuid4()}"
    waits, runs = canvas.job("journey.raise"), canvas.job("journey.succeed", seconds=60)
    for task in (waits, runs):
        task.link_error(canvas.job("journey.succeed", immutable=True, marker=marker))
        task.apply_async()
    canvas.waits_for_its_retry(waits)
    running = UUID(runs.options["task_id"])
    canvas.journey.started(running)

    canvas.cancel(waits, "cancel_job")
    assert canvas.journey.portico.sync.cancel_job(running, running=True)

    called = canvas.journey.eventually(lambda: len(canvas.called(marker)) == 2, "both calls")
    # The worker comes to the end of the run that was cancelled, and of whatever was sent for it.
    canvas.journey.eventually(lambda: f"[{running}] ignored" in canvas.journey.shown(), "the end of the run")
    assert called
    assert len(canvas.called(marker)) == 2


def test_the_result_of_a_scheduled_job_that_is_cancelled_is_that_it_was_revoked(patient_canvas: Canvas) -> None:
    job_id = patient_canvas.journey.create("journey.succeed", scheduled_at=datetime.now(UTC) + timedelta(hours=1))

    assert patient_canvas.journey.portico.sync.cancel_job(job_id)

    with pytest.raises(TaskRevokedError):
        patient_canvas.result(job_id).get(timeout=SECONDS)


@pytest.mark.parametrize("limit", ["time_limit", "soft_time_limit"])
def test_celerys_time_limit_holds_up_a_canvas_and_does_not_fail_it(canvas: Canvas, limit: str) -> None:
    linked, failed = f"link {uuid4()}", f"link_error {uuid4()}"
    # Of this message: the retry has none.
    task = canvas.job("journey.hang_at_its_first_start").set(**{limit: 1})
    task.link(canvas.job("journey.succeed", immutable=True, marker=linked))
    task.link_error(canvas.job("journey.succeed", immutable=True, marker=failed))

    assert task.apply_async().get(timeout=SECONDS) == {}

    assert canvas.status(task) == (JobStatus.COMPLETED, 1)
    assert len(canvas.called(linked)) == 1
    page = canvas.journey.portico.sync.list_jobs(JobFilter(queue_name=canvas.journey.queue_name))
    assert failed not in [job.payload.get("marker") for job in page.jobs]


@pytest.mark.parametrize("times", [0, 1], ids=["its own message", "the knock of its retry"])
def test_a_chain_goes_on_where_a_process_is_killed_after_the_end_was_recorded(canvas: Canvas, times: int) -> None:
    task = canvas.job("journey.raise", times=times)
    canvas.kill_its_process(task, BEFORE_THE_RESULT)

    sent: Any = chain(task, canvas.job("journey.succeed", immutable=True, end=True)).apply_async()

    assert sent.get(timeout=SECONDS) == result_of({"end": True})
    assert sent.parent.get(timeout=SECONDS) == {}
    assert canvas.starts(task) == list(range(times + 1))


@pytest.mark.parametrize("point", [BEFORE_THE_RESULT, BEFORE_THE_CHORD])
def test_a_chord_goes_on_where_a_process_is_killed_after_the_end_was_recorded(canvas: Canvas, point: str) -> None:
    killed, marker = canvas.job("journey.succeed", n=2), f"body {uuid4()}"
    canvas.kill_its_process(killed, point)

    sent = chord([canvas.job("journey.succeed", n=1), killed], app=canvas.app)(
        canvas.job("journey.succeed", marker=marker)
    )

    args = [[result_of({"n": 1}), result_of({"n": 2})]]
    assert sent.get(timeout=SECONDS) == result_of({"args": args, "marker": marker})
    assert canvas.starts(killed) == [0]
    assert len(canvas.called(marker)) == 1


def test_a_link_error_is_called_where_a_process_is_killed_after_the_end_was_recorded(canvas: Canvas) -> None:
    task, marker = canvas.job("journey.decline"), f"link_error {uuid4()}"
    task.link_error(canvas.job("journey.succeed", immutable=True, marker=marker))
    canvas.kill_its_process(task, BEFORE_THE_RESULT)

    with pytest.raises(JobFailed, match="no such address"):
        task.apply_async().get(timeout=SECONDS)

    assert len(canvas.called(marker)) == 1
    assert canvas.starts(task) == [0]


def test_the_result_of_a_job_comes_where_its_worker_is_killed_after_the_end_was_recorded(
    amqp_url: str, redis_url: str, tmp_path: Path
) -> None:
    with a_canvas(amqp_url, redis_url, tmp_path, "threads") as canvas:
        (worker,) = canvas.journey.programs
        job_id = uuid4()
        death_warrant(canvas.journey.ledger_path, str(job_id), BEFORE_THE_RESULT).touch()
        canvas.journey.create("journey.succeed", {"n": 1}, job_id=job_id)
        canvas.journey.eventually(lambda: not worker.running, "the end of the worker")

        with canvas.journey.worker("threads"):
            assert canvas.result(job_id).get(timeout=SECONDS) == result_of({"n": 1})

        assert [line.retry_count for line in canvas.journey.ledger(job_id, "start")] == [0]
