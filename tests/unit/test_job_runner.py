"""Running one job, from the claim to the record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from portico_celery import lifecycle
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.exceptions import ConfigurationError, JobFailed, JobTimedOut, UnknownJobType, WorkerLost
from portico_celery.interruption import Interruption
from portico_celery.kits.job import HandlerRegistry, JobRunner, RunReport
from portico_celery.lifecycle import Lost, RetryPolicy
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_reader import JobRecord
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Postponement, Transition

SHORT = 0.02
STEADY = RetryPolicy(base_delay=2.0, max_delay=600.0, jitter=0.0)
JOB = Job(
    id=UUID(int=7),
    queue_name="default",
    job_type="email.send",
    payload={},
    status=JobStatus.RUNNING,
    started_at=datetime(2030, 1, 2, tzinfo=UTC),
)
CLAIMED = ClaimedJob(job=JOB, attempt=1, worker="worker-1")
ERROR = ConnectionError("the mail server hung up")


async def forever() -> None:
    await asyncio.Event().wait()


async def succeed(_job: Job) -> Any:
    return JobResult(success=True, result_data={"sent": True})


async def take_turns(job: Job) -> Any:
    for _ in range(100):
        await asyncio.sleep(0)
    return await succeed(job)


async def fail(_job: Job) -> Any:
    raise ERROR.with_traceback(None)  # which earlier raising has left behind


async def nothing(_job: Job, _error: Exception) -> None: ...


@dataclass
class Handler:
    """Does what it is told to, and keeps what it hears."""

    work: Callable[[Job], Awaitable[Any]] = succeed
    then: Callable[[Job, Exception], Awaitable[None]] = nothing
    job_type: str = "email.send"
    handled: list[Job] = field(default_factory=list)
    heard: list[tuple[Job, Exception]] = field(default_factory=list)

    async def handle(self, job: Job) -> Any:
        self.handled.append(job)
        return await self.work(job)

    async def on_failure(self, job: Job, error: Exception) -> None:
        self.heard.append((job, error))
        await self.then(job, error)

    @property
    def last_error(self) -> Exception:
        return self.heard[-1][1]


@dataclass
class Records:
    """Takes what is recorded; ``taken=False`` is a store that knows of a later attempt."""

    taken: bool = True
    transitions: list[Transition] = field(default_factory=list)

    async def __call__(self, transition: Transition) -> bool:
        self.transitions.append(transition)
        return self.taken


def runner_for(*handlers: Handler, time_limit: float | None = None, **options: Any) -> JobRunner:
    registry = HandlerRegistry()
    for handler in handlers:
        registry.register(handler, time_limit=time_limit)
    return JobRunner(registry, **{"retry_policy": STEADY, "chance": lambda: 0.0, **options})


def run(handler: Handler, claimed: ClaimedJob = CLAIMED, records: Records | None = None, **options: Any) -> RunReport:
    records = Records() if records is None else records
    report = asyncio.run(runner_for(handler, **options).run(claimed, records))
    assert records.transitions == [report.transition]
    assert report.recorded is records.taken
    return report


def lead_to_its_end(handler: Handler, *, max_retries: int) -> JobRecord:
    """Store a job and run it, again and again, as workers do."""
    store = MemoryJobStore()
    store.insert([replace(JOB, max_retries=max_retries)], knock_seconds=30)

    async def attempt() -> bool:
        [claimed] = store.claim([Claim(job_id=JOB.id, worker="worker-1", lease_seconds=30)])
        if claimed is None:
            return False

        async def record(transition: Transition) -> bool:
            finish = Finish(job_id=JOB.id, attempt=claimed.attempt, transition=transition)
            return store.finish([finish]) != [None]

        await runner_for(handler, retry_policy=replace(STEADY, base_delay=0.0)).run(claimed, record)
        return True

    while asyncio.run(attempt()):
        pass
    found = store.get(JOB.id)
    assert found is not None
    return found


class TestSuccess:
    def test_a_handler_that_succeeds_completes_its_job(self) -> None:
        handler = Handler()
        report = run(handler)
        assert report == RunReport(
            transition=Transition(status=JobStatus.COMPLETED, retry_count=0, result_data={"sent": True}),
            error=None,
            recorded=True,
        )
        assert handler.handled == [JOB]
        assert handler.heard == []

    def test_a_result_of_other_classes_is_read_by_its_shape(self) -> None:
        @dataclass
        class TheirResult:
            success: bool
            error: Exception | None
            result_data: dict[str, Any]

        async def theirs(_job: Job) -> Any:
            return TheirResult(True, None, {"sent": 1})

        assert run(Handler(theirs)).transition.result_data == {"sent": 1}

    @pytest.mark.parametrize("data", [{"at": datetime(2030, 1, 2, tzinfo=UTC)}, {("a", 1): {2}}, {"n": float("nan")}])
    def test_a_report_that_is_not_json_does_not_undo_the_work(
        self, data: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def report(_job: Job) -> Any:
            return JobResult(success=True, result_data=data)

        record = lead_to_its_end(Handler(report), max_retries=3)
        assert record.job.status is JobStatus.COMPLETED
        assert record.result_data == {str(key): str(value) for key, value in data.items()}
        assert "event=result_data_not_json" in caplog.text

    @pytest.mark.parametrize("data", [None, {}, ["a"], "text", 7])
    def test_a_report_that_is_no_dict_does_not_undo_the_work(self, data: Any) -> None:
        async def report(_job: Job) -> Any:
            return JobResult(success=True, result_data=data)

        record = lead_to_its_end(Handler(report), max_retries=3)
        assert record.job.status is JobStatus.COMPLETED
        assert record.result_data == ({"result": data} if data else {})
        assert len(record.attempts) == 1


class TestUnexpectedFailure:
    def test_a_handler_that_raises_is_retried_after_the_backoff(self) -> None:
        handler = Handler(fail)
        claimed = replace(CLAIMED, job=replace(JOB, retry_count=2))
        report = run(handler, claimed)
        assert report.error is ERROR
        assert report.transition.status is JobStatus.RETRYING
        assert (report.transition.retry_count, report.transition.delay) == (3, 8.0)
        assert report.transition.error_message == "ConnectionError: the mail server hung up"
        assert handler.heard == [(claimed.job, ERROR)]

    def test_chance_shortens_the_backoff(self) -> None:
        policy = RetryPolicy(base_delay=10.0, max_delay=600.0, jitter=0.5)
        report = run(Handler(fail), retry_policy=policy, chance=lambda: 0.5)
        assert report.transition.delay == pytest.approx(7.5)

    def test_the_traceback_shows_where_it_was_raised(self) -> None:
        trace = run(Handler(fail)).transition.traceback
        assert trace is not None
        assert "in fail\n" in trace
        assert trace.endswith("ConnectionError: the mail server hung up\n")

    def test_a_job_without_retries_left_is_a_dead_letter(self) -> None:
        report = run(Handler(fail), replace(CLAIMED, job=replace(JOB, max_retries=0)))
        assert (report.transition.status, report.transition.retry_count) == (JobStatus.DEAD_LETTER, 0)

    @pytest.mark.parametrize("max_retries", [0, 1, 3])
    def test_on_failure_counts_the_retries_already_made(self, max_retries: int) -> None:
        handler = Handler(fail)
        record = lead_to_its_end(handler, max_retries=max_retries)
        assert [job.retry_count for job, _error in handler.heard] == list(range(max_retries + 1))
        assert [job.retry_count >= job.max_retries for job, _error in handler.heard] == [False] * max_retries + [True]
        assert {job.status for job, _error in handler.heard} == {JobStatus.RUNNING}
        assert (record.job.status, record.job.retry_count) == (JobStatus.DEAD_LETTER, max_retries)
        assert len(record.attempts) == len(handler.handled) == max_retries + 1

    def test_a_job_that_succeeds_in_the_end_is_completed(self) -> None:
        async def at_the_third_time(job: Job) -> Any:
            return await (succeed if job.retry_count == 2 else fail)(job)

        handler = Handler(at_the_third_time)
        record = lead_to_its_end(handler, max_retries=3)
        assert (record.job.status, record.job.retry_count) == (JobStatus.COMPLETED, 2)
        assert [attempt.error is None for attempt in record.attempts] == [False, False, True]
        assert len(handler.heard) == 2

    @pytest.mark.parametrize(
        "raised",
        [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), BaseExceptionGroup("many", [SystemExit(1)])],
    )
    def test_a_handler_that_would_end_the_process_only_fails(self, raised: BaseException) -> None:
        async def leave(_job: Job) -> Any:
            raise raised

        handler = Handler(leave)
        report = run(handler)
        assert report.transition.status is JobStatus.RETRYING
        assert isinstance(report.error, JobFailed)
        assert type(raised).__name__ in str(report.error)
        assert report.error.__cause__ is raised
        assert handler.last_error is report.error

    def test_an_error_that_can_not_be_shown_still_fails_its_job(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

            __repr__ = __str__

        async def break_down(_job: Job) -> Any:
            raise Broken

        async def break_down_too(_job: Job, error: Exception) -> None:
            raise error

        report = run(Handler(break_down, break_down_too))
        assert report.transition.status is JobStatus.RETRYING
        assert report.transition.error_message is not None
        assert report.transition.error_message.startswith("Broken")
        assert "event=on_failure_raised" in caplog.text

    @pytest.mark.parametrize("known", ["nothing", "the name"])
    def test_a_job_that_has_no_handler_here_is_retried(self, known: str, caplog: pytest.LogCaptureFixture) -> None:
        registry, records = HandlerRegistry(), Records()
        if known == "the name":
            registry.declare("email.send")
        report = asyncio.run(JobRunner(registry, retry_policy=STEADY).run(CLAIMED, records))
        assert isinstance(report.error, UnknownJobType if known == "nothing" else ConfigurationError)
        assert report.transition.status is JobStatus.RETRYING
        assert report.transition.error_message is not None
        assert "email.send" in report.transition.error_message
        assert "on_failure_raised" not in caplog.text


class TestExpectedFailure:
    @pytest.mark.parametrize("retries", [0, 3])
    def test_a_result_that_says_failure_is_final(self, retries: int) -> None:
        async def refuse(_job: Job) -> Any:
            return JobResult(success=False, error=error, result_data={"code": 550})

        error, handler = ConnectionError("the mail server hung up"), Handler(refuse)
        claimed = replace(CLAIMED, job=replace(JOB, retry_count=retries))
        assert run(handler, claimed).transition == Transition(
            status=JobStatus.FAILED,
            retry_count=retries,
            result_data={"code": 550},
            error_message="ConnectionError: the mail server hung up",
        )
        assert handler.heard == [(claimed.job, error)]

    def test_a_failure_without_an_error_is_told_as_one(self) -> None:
        async def refuse(_job: Job) -> Any:
            return JobResult(success=False, result_data={"code": 550})

        handler = Handler(refuse)
        report = run(handler)
        assert isinstance(handler.last_error, JobFailed)
        assert "550" in str(handler.last_error)
        assert report.error is handler.last_error

    def test_a_failure_that_recommends_it_is_retried(self) -> None:
        async def refuse(_job: Job) -> Any:
            return JobResult(success=False, error=ERROR, result_data={"retry_recommended": True})

        handler = Handler(refuse)
        record = lead_to_its_end(handler, max_retries=2)
        assert (record.job.status, record.job.retry_count) == (JobStatus.DEAD_LETTER, 2)
        assert record.result_data == {"retry_recommended": True}
        assert len(handler.heard) == 3

    def test_the_traceback_of_an_error_that_was_caught_is_kept(self) -> None:
        async def refuse(job: Job) -> Any:
            try:
                return await fail(job)
            except ConnectionError as error:
                return JobResult(success=False, error=error)

        trace = run(Handler(refuse)).transition.traceback
        assert trace is not None
        assert "in fail\n" in trace

    @pytest.mark.parametrize("returned", [None, True, {"success": True}, "done"])
    def test_a_handler_that_returns_no_result_fails_for_good(self, returned: object) -> None:
        async def forget(_job: Job) -> Any:
            return returned

        handler = Handler(forget)
        report = run(handler)
        assert report.transition.status is JobStatus.FAILED
        assert isinstance(handler.last_error, JobFailed)
        assert f"returned {type(returned).__name__}, not a JobResult" in str(handler.last_error)


class TestOnFailure:
    def test_what_it_raises_is_logged_and_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        async def raise_too(_job: Job, _error: Exception) -> None:
            raise LookupError("no pager")

        quiet = run(Handler(fail))
        caplog.clear()
        loud = run(Handler(fail, raise_too))
        assert replace(loud.transition, traceback=None) == replace(quiet.transition, traceback=None)
        [logged] = [record for record in caplog.records if "event=on_failure_raised" in record.getMessage()]
        assert logged.levelno == logging.ERROR
        assert str(JOB.id) in logged.getMessage()
        assert "no pager" in logged.getMessage()
        assert "in raise_too" in caplog.text

    @pytest.mark.parametrize(
        "raised",
        [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), UnknownJobType("alert.send"), TimeoutError()],
    )
    def test_whatever_it_raises_is_logged(self, raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
        async def raise_too(_job: Job, _error: Exception) -> None:
            raise raised

        assert run(Handler(fail, raise_too)).transition.status is JobStatus.RETRYING
        assert "event=on_failure_raised" in caplog.text

    def test_it_has_a_time_limit_of_its_own(self, caplog: pytest.LogCaptureFixture) -> None:
        async def hang(_job: Job, _error: Exception) -> None:
            await forever()

        report = run(Handler(fail, hang), on_failure_time_limit=SHORT)
        assert report.transition.status is JobStatus.RETRYING
        assert report.error is ERROR
        assert "event=on_failure_raised" in caplog.text
        assert "TimeoutError" in caplog.text

    def test_it_is_over_before_the_end_is_recorded(self) -> None:
        order: list[str] = []

        async def note(_job: Job, _error: Exception) -> None:
            order.append("on_failure")

        async def record(_transition: Transition) -> bool:
            order.append("record")
            return True

        asyncio.run(runner_for(Handler(fail, note)).run(CLAIMED, record))
        assert order == ["on_failure", "record"]


class TestTimeLimit:
    async def hang(self, _job: Job) -> Any:
        await forever()

    @pytest.mark.parametrize("options", [{"time_limit": SHORT}, {"default_time_limit": SHORT}])
    def test_a_handler_that_outlives_it_has_failed(self, options: dict[str, Any]) -> None:
        handler = Handler(self.hang)
        report = run(handler, **options)
        assert report.transition.status is JobStatus.RETRYING
        assert isinstance(report.error, JobTimedOut)
        assert isinstance(report.error, TimeoutError)
        assert str(SHORT) in str(report.error)
        assert handler.heard == [(JOB, report.error)]

    def test_the_handlers_own_limit_comes_before_the_default(self) -> None:
        assert isinstance(run(Handler(self.hang), time_limit=SHORT, default_time_limit=600).error, JobTimedOut)
        assert run(Handler(take_turns), time_limit=600, default_time_limit=0.000_001).error is None
        assert isinstance(run(Handler(take_turns), default_time_limit=0.000_001).error, JobTimedOut)

    def test_the_handler_may_clean_up(self) -> None:
        cleaned: list[Job] = []

        async def hang(job: Job) -> Any:
            try:
                await forever()
            finally:
                cleaned.append(job)

        assert isinstance(run(Handler(hang), time_limit=SHORT).error, JobTimedOut)
        assert cleaned == [JOB]

    def test_a_timeout_of_the_handlers_own_is_an_error_like_any(self) -> None:
        async def time_out(_job: Job) -> Any:
            async with asyncio.timeout(0):
                await forever()

        report = run(Handler(time_out), time_limit=60)
        assert type(report.error) is TimeoutError
        assert report.transition.status is JobStatus.RETRYING


class TestLostWorkers:
    LOST = replace(
        CLAIMED,
        job=replace(JOB, retry_count=1, error_message="WorkerLost: worker-1 was lost"),
        attempt=2,
        lost_error="WorkerLost: worker-1 was lost",
    )

    def test_the_handler_hears_of_the_lost_worker_before_the_run(self) -> None:
        order: list[str] = []

        async def note_work(job: Job) -> Any:
            order.append(f"handle, {job.retry_count} retries")
            return await succeed(job)

        async def note(job: Job, error: Exception) -> None:
            order.append(f"on_failure, {job.retry_count} retries, {error!r}")

        report = run(Handler(note_work, note), self.LOST)
        assert order == ["on_failure, 0 retries, WorkerLost('worker-1 was lost')", "handle, 1 retries"]
        assert report.transition.status is JobStatus.COMPLETED

    def test_a_failure_in_telling_does_not_hinder_the_run(self) -> None:
        async def raise_too(_job: Job, _error: Exception) -> None:
            raise LookupError("no pager")

        assert run(Handler(succeed, raise_too), self.LOST).transition.status is JobStatus.COMPLETED

    def test_the_handler_of_a_dead_letter_is_only_told(self) -> None:
        dead = replace(self.LOST, job=replace(JOB, status=JobStatus.DEAD_LETTER, retry_count=3))
        handler = Handler()
        error = asyncio.run(runner_for(handler).tell_of_loss(dead))
        assert isinstance(error, WorkerLost)
        assert str(error) == "worker-1 was lost"
        assert handler.heard == [(dead.job, error)]
        assert dead.job.retry_count >= dead.job.max_retries
        assert handler.handled == []

    def test_the_reaper_concludes_without_telling(self) -> None:
        handler, records = Handler(), Records()
        outcome = Lost(worker="worker-1", attempt=1)
        report = asyncio.run(runner_for(handler).conclude(CLAIMED, outcome, records))
        assert records.transitions == [lifecycle.decide(JOB, outcome, retry_delay=2.0)]
        assert report.error is None
        assert not handler.heard
        assert not handler.handled


class TestRecording:
    @pytest.mark.parametrize("work", [succeed, fail])
    def test_a_stale_attempt_is_reported_as_such(
        self, work: Callable[[Job], Awaitable[Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert run(Handler(work), records=Records(taken=False)).recorded is False
        assert "event=stale_attempt_refused" in caplog.text
        assert "event=job_completed" not in caplog.text
        assert "event=job_retrying" not in caplog.text

    @pytest.mark.parametrize(
        ("work", "retries", "event"),
        [
            (succeed, 0, "job_completed"),
            (fail, 0, "job_retrying"),
            (fail, 3, "job_dead_letter"),
            (lambda _job: asyncio.sleep(0), 0, "job_failed"),
        ],
    )
    def test_the_log_tells_how_the_job_went(
        self,
        work: Callable[[Job], Awaitable[Any]],
        retries: int,
        event: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        run(Handler(work), replace(CLAIMED, job=replace(JOB, retry_count=retries)))
        said = [record.getMessage() for record in caplog.records if str(JOB.id) in record.getMessage()]
        assert [line.split()[0] for line in said] == ["event=job_started", f"event={event}"]

    def test_a_store_that_fails_is_the_callers_matter(self) -> None:
        async def refuse(_transition: Transition) -> bool:
            raise ERROR

        with pytest.raises(ConnectionError):
            asyncio.run(runner_for(Handler()).run(CLAIMED, refuse))

    @pytest.mark.parametrize("hanging", ["handle", "on_failure"])
    def test_a_run_that_is_cancelled_records_nothing(self, hanging: str) -> None:
        records = Records()

        async def cancel() -> None:
            started = asyncio.Event()

            async def hang(*_arguments: object) -> Any:
                started.set()
                await forever()

            handler = Handler(hang) if hanging == "handle" else Handler(fail, hang)
            running = asyncio.create_task(runner_for(handler, time_limit=60).run(CLAIMED, records))
            await started.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        asyncio.run(cancel())
        assert records.transitions == []


RELEASED = Transition(
    status=JobStatus.RETRYING, retry_count=0, error_message="Released: worker-1 gave it back in attempt 1"
)


def run_interrupted(
    handler: Handler, *, when: Callable[[], Awaitable[object]], claimed: ClaimedJob = CLAIMED, **options: Any
) -> RunReport:
    """Run a job and interrupt it from another thread, as soon as ``when`` is over."""

    async def interrupt_it() -> RunReport:
        interruption = Interruption()
        running = asyncio.create_task(runner_for(handler, **options).run(claimed, Records(), interruption))
        await when()
        await asyncio.to_thread(interruption.request)
        return await asyncio.wait_for(running, 10)

    return asyncio.run(interrupt_it())


class TestInterruption:
    """A run that is asked to stop, from another thread."""

    @pytest.fixture
    def begun(self) -> asyncio.Event:
        return asyncio.Event()

    @pytest.mark.parametrize("max_retries", [0, 3])
    def test_a_handler_that_has_not_begun_does_not_begin(self, max_retries: int) -> None:
        handler, interruption = Handler(), Interruption()
        interruption.request()
        claimed = replace(CLAIMED, job=replace(JOB, max_retries=max_retries))
        report = asyncio.run(runner_for(handler).run(claimed, Records(), interruption))
        assert report == RunReport(transition=RELEASED, error=None, recorded=True)
        assert (handler.handled, handler.heard) == ([], [])

    @pytest.mark.parametrize("options", [{}, {"time_limit": 60.0}, {"default_time_limit": 60.0}])
    def test_a_handler_is_stopped_at_its_next_await_and_its_job_given_back(
        self, options: dict[str, Any], begun: asyncio.Event
    ) -> None:
        cleaned: list[Job] = []

        async def hang(job: Job) -> Any:
            try:
                begun.set()
                await forever()
            finally:
                cleaned.append(job)

        handler = Handler(hang)
        report = run_interrupted(handler, when=begun.wait, **options)
        assert report == RunReport(transition=RELEASED, error=None, recorded=True)
        assert (cleaned, handler.heard) == ([JOB], [])

    def test_the_retries_that_a_job_has_spent_stay_as_they_are(self, begun: asyncio.Event) -> None:
        async def hang(_job: Job) -> Any:
            begun.set()
            await forever()

        claimed = replace(CLAIMED, job=replace(JOB, retry_count=3, max_retries=3))
        transition = run_interrupted(Handler(hang), when=begun.wait, claimed=claimed).transition
        assert (transition.status, transition.retry_count, transition.delay) == (JobStatus.RETRYING, 3, 0.0)

    @pytest.mark.parametrize("success", [True, False])
    def test_the_result_of_a_handler_that_ends_well_all_the_same_counts(
        self, success: bool, begun: asyncio.Event
    ) -> None:
        async def finish_quickly(_job: Job) -> Any:
            try:
                begun.set()
                await forever()
            except asyncio.CancelledError:
                await asyncio.sleep(0)  # a handler may still await, once it has been told
                return JobResult(success=success, error=None if success else ERROR, result_data={"sent": 7})

        report = run_interrupted(Handler(finish_quickly), when=begun.wait)
        assert report.transition.status is (JobStatus.COMPLETED if success else JobStatus.FAILED)
        assert report.transition.result_data == {"sent": 7}

    def test_what_a_handler_raises_on_being_stopped_is_not_its_jobs_failure(self, begun: asyncio.Event) -> None:
        async def break_down(_job: Job) -> Any:
            try:
                begun.set()
                await forever()
            except asyncio.CancelledError:
                raise ERROR from None

        handler = Handler(break_down)
        report = run_interrupted(handler, when=begun.wait)
        assert (report.transition, report.error, handler.heard) == (RELEASED, None, [])

    def test_it_does_nothing_to_a_handler_that_has_failed_by_itself(self, begun: asyncio.Event) -> None:
        async def note(_job: Job, _error: Exception) -> None:
            begun.set()
            await asyncio.sleep(SHORT)

        handler = Handler(fail, note)
        report = run_interrupted(handler, when=begun.wait)
        assert (report.transition.status, report.transition.retry_count) == (JobStatus.RETRYING, 1)
        assert report.error is ERROR
        assert len(handler.heard) == 1

    def test_it_does_nothing_to_the_record_of_a_result(self) -> None:
        interruption, records = Interruption(), Records()

        async def record(transition: Transition) -> bool:
            interruption.request()
            await asyncio.sleep(0)
            return await records(transition)

        report = asyncio.run(runner_for(Handler()).run(CLAIMED, record, interruption))
        assert report.transition.status is JobStatus.COMPLETED
        assert records.transitions == [report.transition]

    def test_a_time_limit_that_is_over_before_is_a_failure_all_the_same(self) -> None:
        async def hang(_job: Job) -> Any:
            await forever()

        async def record(_transition: Transition) -> bool:
            interruption.request()
            return True

        interruption = Interruption()
        report = asyncio.run(runner_for(Handler(hang), time_limit=SHORT).run(CLAIMED, record, interruption))
        assert isinstance(report.error, JobTimedOut)
        assert report.transition.retry_count == 1

    def test_a_handler_that_does_not_heed_it_goes_on_and_its_result_counts(self, begun: asyncio.Event) -> None:
        async def go_on(_job: Job) -> Any:
            begun.set()
            for _ in range(5):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(SHORT)
            return await succeed(_job)

        report = run_interrupted(Handler(go_on), when=begun.wait)
        assert report.transition.status is JobStatus.COMPLETED

    def test_asking_again_while_the_handler_cleans_up_is_asking_once(self, caplog: pytest.LogCaptureFixture) -> None:
        told: list[str] = []

        async def hang(_job: Job) -> Any:
            try:
                interruption.request()
                await forever()
            except asyncio.CancelledError:
                told.append("stop")
                interruption.request()
                await asyncio.sleep(SHORT)
                raise

        interruption = Interruption()
        report = asyncio.run(runner_for(Handler(hang)).run(CLAIMED, Records(), interruption))
        assert report.transition == RELEASED
        assert told == ["stop"]
        assert [record for record in caplog.records if record.name == "asyncio"] == []


class TestNewsOfALostWorker:
    def test_it_is_told_without_what_workers_without_a_handler_have_added(self) -> None:
        lost = lifecycle.decide(JOB, Lost(worker="worker-0", attempt=1)).error_message
        retrying = replace(JOB, status=JobStatus.RETRYING, retry_count=1, error_message=lost)
        meeting = Postponement(job_id=JOB.id, job_type=JOB.job_type, worker="worker-1", patience=900.0)
        put_back = lifecycle.postponed(retrying, meeting, waited=1.0, worker_lost=True, now=datetime.now(UTC))
        handler = Handler()
        run(handler, replace(CLAIMED, job=replace(JOB, retry_count=1), lost_error=put_back.error_message))
        [(job, error)] = handler.heard
        assert isinstance(error, WorkerLost)
        assert str(error) == "worker-0 was lost during attempt 1; its outcome is unknown"
        assert job.retry_count == 0
