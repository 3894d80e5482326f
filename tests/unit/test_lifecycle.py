"""The life of a job, as pure functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico_celery import lifecycle
from portico_celery.exceptions import JobFailed
from portico_celery.lifecycle import Failed, Lost, Released, RetryPolicy, Succeeded
from portico_celery.ports.job import Job, JobResult, JobStatus, QueueStats
from portico_celery.ports.job_store import Transition

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
EARLIER = NOW - timedelta(seconds=1)
ERROR = ConnectionError("the mail server hung up")

JOB = Job(id=UUID(int=7), queue_name="default", job_type="email.send", payload={"n": 1}, max_retries=3)
RUNNING = replace(JOB, status=JobStatus.RUNNING, created_at=EARLIER, started_at=EARLIER)

WAITING = [JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.RETRYING]
NOT_WAITING = [status for status in JobStatus if status not in WAITING]
REQUEUABLE = [JobStatus.FAILED, JobStatus.DEAD_LETTER]


def in_state(status: JobStatus) -> Job:
    return replace(
        RUNNING, status=status, retry_count=2, error_message="before", scheduled_at=EARLIER, failed_at=EARLIER
    )


class TestEntering:
    def test_a_job_without_a_time_is_pending(self) -> None:
        assert lifecycle.enqueued(JOB, NOW) == replace(JOB, status=JobStatus.PENDING, created_at=NOW)

    @pytest.mark.parametrize("moment", [EARLIER, NOW])
    def test_a_job_whose_time_has_come_is_pending(self, moment: datetime) -> None:
        job = replace(JOB, scheduled_at=moment)
        assert lifecycle.enqueued(job, NOW) == replace(job, status=JobStatus.PENDING, created_at=NOW)

    def test_a_job_whose_time_is_ahead_is_scheduled(self) -> None:
        job = replace(JOB, scheduled_at=LATER)
        assert lifecycle.enqueued(job, NOW) == replace(job, status=JobStatus.SCHEDULED, created_at=NOW)

    @pytest.mark.parametrize("status", list(JobStatus))
    def test_nothing_has_happened_to_a_job_that_enters(self, status: JobStatus) -> None:
        job = replace(in_state(status), completed_at=EARLIER)
        entered = lifecycle.enqueued(job, NOW)
        assert (entered.status, entered.created_at) == (JobStatus.PENDING, NOW)
        assert (entered.started_at, entered.completed_at, entered.failed_at) == (None, None, None)
        assert entered.error_message is None

    def test_a_scheduled_job_becomes_pending(self) -> None:
        job = in_state(JobStatus.SCHEDULED)
        assert lifecycle.due(job) == replace(job, status=JobStatus.PENDING)

    @pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.SCHEDULED])
    def test_any_other_job_stays_what_it_is_when_it_falls_due(self, status: JobStatus) -> None:
        assert lifecycle.due(in_state(status)) == in_state(status)


class TestStarting:
    @pytest.mark.parametrize("status", WAITING)
    def test_a_waiting_job_may_start_from_its_time_on(self, status: JobStatus) -> None:
        job = in_state(status)
        assert lifecycle.may_start(job, EARLIER, NOW)
        assert lifecycle.may_start(job, NOW, NOW)
        assert not lifecycle.may_start(job, LATER, NOW)

    @pytest.mark.parametrize("status", NOT_WAITING)
    def test_a_job_that_does_not_wait_may_not_start(self, status: JobStatus) -> None:
        assert not lifecycle.may_start(in_state(status), EARLIER, NOW)

    def test_a_started_job_runs_and_keeps_all_else(self) -> None:
        job = in_state(JobStatus.RETRYING)
        assert lifecycle.started(job, NOW) == replace(job, status=JobStatus.RUNNING, started_at=NOW)


class TestFinishingAgain:
    @pytest.mark.parametrize("outcome", [Succeeded(result_data={}), Failed(error=ERROR), Lost(worker="w", attempt=1)])
    def test_a_job_stands_where_a_transition_has_led_it(self, outcome: lifecycle.Outcome) -> None:
        transition = lifecycle.decide(RUNNING, outcome)
        assert not lifecycle.is_finished_so(RUNNING, transition)
        assert lifecycle.is_finished_so(lifecycle.finished(RUNNING, transition, NOW), transition)

    def test_the_error_of_an_earlier_attempt_does_not_tell_a_success_apart(self) -> None:
        transition = lifecycle.decide(RUNNING, Succeeded(result_data={}))
        job = lifecycle.finished(replace(RUNNING, error_message="before"), transition, NOW)
        assert lifecycle.is_finished_so(job, transition)

    @pytest.mark.parametrize("change", [{"status": JobStatus.FAILED}, {"retry_count": 2}, {"error_message": "another"}])
    def test_another_transition_is_told_apart(self, change: dict[str, Any]) -> None:
        transition = lifecycle.decide(RUNNING, Failed(error=ERROR))
        job = lifecycle.finished(RUNNING, transition, NOW)
        assert not lifecycle.is_finished_so(job, replace(transition, **change))


class TestDeciding:
    def test_success_completes_the_job(self) -> None:
        job = replace(RUNNING, retry_count=2)
        assert lifecycle.decide(job, Succeeded(result_data={"sent": True}), retry_delay=9.0) == Transition(
            status=JobStatus.COMPLETED, retry_count=2, result_data={"sent": True}
        )

    @pytest.mark.parametrize("retries", [0, 1, 2])
    def test_an_unexpected_failure_is_retried_while_retries_are_left(self, retries: int) -> None:
        outcome = Failed(error=ERROR, traceback="Traceback", result_data={"code": 4})
        assert lifecycle.decide(replace(RUNNING, retry_count=retries), outcome, retry_delay=9.0) == Transition(
            status=JobStatus.RETRYING,
            retry_count=retries + 1,
            delay=9.0,
            error_message="ConnectionError: the mail server hung up",
            traceback="Traceback",
            result_data={"code": 4},
        )

    @pytest.mark.parametrize(("retries", "max_retries"), [(3, 3), (4, 3), (0, 0)])
    def test_an_unexpected_failure_without_retries_left_is_a_dead_letter(self, retries: int, max_retries: int) -> None:
        job = replace(RUNNING, retry_count=retries, max_retries=max_retries)
        assert lifecycle.decide(job, Failed(error=ERROR), retry_delay=9.0) == Transition(
            status=JobStatus.DEAD_LETTER,
            retry_count=retries,
            error_message="ConnectionError: the mail server hung up",
        )

    @pytest.mark.parametrize("retries", [0, 3])
    def test_an_expected_failure_is_final(self, retries: int) -> None:
        outcome = Failed(error=ERROR, retryable=False, result_data={"code": 550})
        assert lifecycle.decide(replace(RUNNING, retry_count=retries), outcome, retry_delay=9.0) == Transition(
            status=JobStatus.FAILED,
            retry_count=retries,
            error_message="ConnectionError: the mail server hung up",
            result_data={"code": 550},
        )

    def test_the_fourth_rejection_of_a_job_with_three_retries_makes_it_a_dead_letter(self) -> None:
        job, states = JOB, []
        for _ in range(4):
            job = lifecycle.started(job, NOW)
            job = lifecycle.finished(job, lifecycle.decide(job, Failed(error=ERROR)), NOW)
            states.append((job.status, job.retry_count))
        assert states == [
            (JobStatus.RETRYING, 1),
            (JobStatus.RETRYING, 2),
            (JobStatus.RETRYING, 3),
            (JobStatus.DEAD_LETTER, 3),
        ]

    def test_a_message_takes_the_place_of_the_errors_own(self) -> None:
        assert lifecycle.decide(RUNNING, Failed(error=ERROR, error_message="busy")).error_message == "busy"
        assert lifecycle.decide(RUNNING, Failed()).error_message is None

    def test_a_lost_worker_is_a_failure_that_is_retried(self) -> None:
        transition = lifecycle.decide(RUNNING, Lost(worker="worker-1", attempt=2), retry_delay=9.0)
        assert transition == Transition(
            status=JobStatus.RETRYING,
            retry_count=1,
            delay=9.0,
            error_message="WorkerLost: worker-1 was lost during attempt 2; its outcome is unknown",
            worker_lost=True,
        )

    def test_a_lost_worker_without_retries_left_leaves_a_dead_letter(self) -> None:
        transition = lifecycle.decide(replace(RUNNING, retry_count=3), Lost(worker="worker-1", attempt=4))
        assert (transition.status, transition.retry_count) == (JobStatus.DEAD_LETTER, 3)
        assert transition.worker_lost

    def test_a_job_that_may_start_only_once_says_why_it_is_not_started_again(self) -> None:
        once = replace(RUNNING, max_retries=0)
        message = lifecycle.decide(once, Lost(worker="worker-1", attempt=1)).error_message
        assert message is not None
        assert message.endswith("max_retries=0 forbids a second start")

    @pytest.mark.parametrize(("retries", "max_retries"), [(0, 3), (3, 3), (0, 0)])
    def test_a_released_job_is_due_at_once_and_has_spent_no_retry(self, retries: int, max_retries: int) -> None:
        job = replace(RUNNING, retry_count=retries, max_retries=max_retries)
        assert lifecycle.decide(job, Released(worker="worker-1", attempt=2), retry_delay=9.0) == Transition(
            status=JobStatus.RETRYING,
            retry_count=retries,
            delay=0.0,
            error_message="Released: worker-1 gave it back in attempt 2",
        )

    def test_messages_and_tracebacks_are_bounded(self) -> None:
        long = "x" * 100_000
        for outcome in (
            Failed(error=ValueError(long), traceback=long + "end"),
            Failed(error_message=long, traceback=long + "end"),
        ):
            transition = lifecycle.decide(RUNNING, outcome)
            assert transition.error_message is not None
            assert transition.traceback is not None
            assert len(transition.error_message) == lifecycle.MAX_MESSAGE_CHARS
            assert len(transition.traceback) == lifecycle.MAX_TRACEBACK_CHARS
            assert transition.traceback.endswith("end")

    def test_text_that_no_database_takes_is_made_storable(self) -> None:
        odd = "file \udce9\x00.txt"
        for outcome in (Failed(error=OSError(odd), traceback=odd), Failed(error_message=odd, traceback=odd)):
            transition = lifecycle.decide(RUNNING, outcome)
            for text in (transition.error_message, transition.traceback):
                assert text is not None
                assert text.encode().decode().endswith(r"file \udce9\x00.txt")


class TestReadingResults:
    def test_success_is_success(self) -> None:
        assert lifecycle.outcome_of(JobResult(success=True, result_data={"sent": True})) == Succeeded(
            result_data={"sent": True}
        )

    def test_failure_is_final(self) -> None:
        result = JobResult(success=False, error=ERROR, result_data={"code": 550})
        assert lifecycle.outcome_of(result) == Failed(error=ERROR, retryable=False, result_data={"code": 550})

    @pytest.mark.parametrize(
        ("recommended", "retryable"), [(True, True), (False, False), (1, False), ("true", False), (None, False)]
    )
    def test_failure_is_retried_only_where_that_is_said_plainly(self, recommended: object, retryable: bool) -> None:
        result = JobResult(success=False, error=ERROR, result_data={"retry_recommended": recommended})
        outcome = lifecycle.outcome_of(result)
        assert isinstance(outcome, Failed)
        assert outcome.retryable is retryable

    def test_failure_with_a_text_in_place_of_an_error_says_it(self) -> None:
        result = JobResult(success=False, error="no such user")  # type: ignore[arg-type]
        outcome = lifecycle.outcome_of(result)
        assert isinstance(outcome, Failed)
        assert (type(outcome.error), outcome.retryable) == (JobFailed, False)
        assert "no such user" in str(outcome.error)

    def test_failure_with_data_that_is_no_dict_is_final(self) -> None:
        outcome = lifecycle.outcome_of(JobResult(success=False, error=ERROR, result_data=None))  # type: ignore[arg-type]
        assert outcome == Failed(error=ERROR, retryable=False, result_data=None)

    def test_failure_without_an_error_gets_one_that_shows_the_result(self) -> None:
        outcome = lifecycle.outcome_of(JobResult(success=False, result_data={"code": 550}))
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, JobFailed)
        assert "550" in str(outcome.error)


class TestFinishing:
    def test_a_completed_job_has_its_time_and_keeps_the_last_error(self) -> None:
        job = replace(RUNNING, retry_count=2, error_message="before")
        transition = Transition(status=JobStatus.COMPLETED, retry_count=2)
        assert lifecycle.finished(job, transition, NOW) == replace(job, status=JobStatus.COMPLETED, completed_at=NOW)

    def test_a_retrying_job_has_neither_end(self) -> None:
        transition = Transition(status=JobStatus.RETRYING, retry_count=1, error_message="now", delay=5.0)
        assert lifecycle.finished(RUNNING, transition, NOW) == replace(
            RUNNING, status=JobStatus.RETRYING, retry_count=1, error_message="now"
        )

    @pytest.mark.parametrize("status", REQUEUABLE)
    def test_a_job_that_ended_badly_has_its_time_and_its_error(self, status: JobStatus) -> None:
        job = replace(RUNNING, error_message="before")
        for message in ("now", None):
            transition = Transition(status=status, retry_count=1, error_message=message)
            assert lifecycle.finished(job, transition, NOW) == replace(
                job, status=status, retry_count=1, error_message=message, failed_at=NOW
            )


class TestAdministering:
    @pytest.mark.parametrize("status", WAITING)
    def test_a_waiting_job_is_cancelled(self, status: JobStatus) -> None:
        job = in_state(status)
        assert lifecycle.cancelled(job, NOW) == replace(
            job, status=JobStatus.FAILED, error_message="Job cancelled", failed_at=NOW
        )

    @pytest.mark.parametrize("status", NOT_WAITING)
    def test_it_is_too_late_to_cancel(self, status: JobStatus) -> None:
        assert lifecycle.cancelled(in_state(status), NOW) is None

    @pytest.mark.parametrize("status", [*WAITING, JobStatus.RUNNING])
    def test_a_running_job_is_cancelled_where_it_is_asked_for(self, status: JobStatus) -> None:
        job = in_state(status)
        assert lifecycle.cancelled(job, NOW, running=True) == replace(
            job, status=JobStatus.FAILED, error_message="Job cancelled", failed_at=NOW
        )

    @pytest.mark.parametrize("status", [JobStatus.COMPLETED, *REQUEUABLE])
    def test_a_job_that_has_ended_is_never_cancelled(self, status: JobStatus) -> None:
        assert lifecycle.cancelled(in_state(status), NOW, running=True) is None

    @pytest.mark.parametrize("status", REQUEUABLE)
    def test_a_failed_job_starts_afresh(self, status: JobStatus) -> None:
        assert lifecycle.requeued(in_state(status)) == replace(JOB, created_at=EARLIER)

    @pytest.mark.parametrize("status", [status for status in JobStatus if status not in REQUEUABLE])
    def test_any_other_job_does_not(self, status: JobStatus) -> None:
        assert lifecycle.requeued(in_state(status)) is None


class TestLosingWorkers:
    def test_the_handler_hears_of_a_retried_job_as_it_was_when_it_failed(self) -> None:
        job = lifecycle.finished(RUNNING, lifecycle.decide(RUNNING, Lost(worker="worker-1", attempt=1)), NOW)
        again = lifecycle.started(job, LATER)
        assert (lifecycle.as_it_failed(again).retry_count, again.retry_count) == (0, 1)
        assert lifecycle.as_it_failed(again).status is JobStatus.RUNNING

    def test_the_handler_hears_of_a_dead_letter_with_all_retries_spent(self) -> None:
        job = replace(RUNNING, retry_count=3)
        dead = lifecycle.finished(job, lifecycle.decide(job, Lost(worker="worker-1", attempt=4)), NOW)
        assert lifecycle.as_it_failed(dead) == dead
        assert dead.retry_count >= dead.max_retries

    @pytest.mark.parametrize("status", list(JobStatus))
    def test_only_a_dead_letter_of_a_lost_worker_owes_a_notice(self, status: JobStatus) -> None:
        assert lifecycle.owes_loss_notice(in_state(status), True) == (status is JobStatus.DEAD_LETTER)
        assert not lifecycle.owes_loss_notice(in_state(status), False)


class TestDescribing:
    def test_an_error_is_its_type_and_its_message(self) -> None:
        assert lifecycle.describe(ERROR) == "ConnectionError: the mail server hung up"
        assert lifecycle.describe(ValueError()) == "ValueError"

    def test_an_error_that_can_not_be_shown_is_still_named(self) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        assert lifecycle.describe(Broken()).startswith("Broken")


class TestKnocking:
    def test_each_knock_doubles_the_wait(self) -> None:
        assert [lifecycle.knock_delay(knocks, 30.0) for knocks in range(4)] == [30.0, 60.0, 120.0, 240.0]

    @given(st.integers(0, 10**9), st.floats(0, 1e9))
    def test_no_wait_is_longer_than_an_hour(self, knocks: int, knock_seconds: float) -> None:
        assert 0 <= lifecycle.knock_delay(knocks, knock_seconds) <= 3_600.0

    def test_the_longest_wait_is_an_hour(self) -> None:
        assert lifecycle.knock_delay(7, 30.0) == lifecycle.knock_delay(10**9, 30.0) == 3_600.0


class TestCounting:
    def test_what_waits_for_its_time_or_for_a_retry_is_pending(self) -> None:
        counts = {status: 10**place for place, status in enumerate(JobStatus)}
        assert lifecycle.queue_stats("default", counts) == QueueStats(
            queue_name="default",
            pending_count=counts[JobStatus.PENDING] + counts[JobStatus.SCHEDULED] + counts[JobStatus.RETRYING],
            running_count=counts[JobStatus.RUNNING],
            completed_count=counts[JobStatus.COMPLETED],
            failed_count=counts[JobStatus.FAILED],
            dead_letter_count=counts[JobStatus.DEAD_LETTER],
        )

    def test_a_state_without_jobs_counts_nothing(self) -> None:
        assert lifecycle.queue_stats("default", {}) == QueueStats("default", 0, 0, 0, 0, 0)


delays = st.floats(0, 1e6)
chances = st.floats(0, 1, exclude_max=True)
retry_counts = st.one_of(st.integers(0, 80), st.integers(0, 10**30))
policies = st.builds(RetryPolicy, base_delay=delays, max_delay=delays, jitter=st.floats(0, 1))


class TestRetryPolicy:
    def test_the_backoff_doubles(self) -> None:
        policy = RetryPolicy(base_delay=2.0, max_delay=600.0, jitter=0.0)
        assert [policy.delay(retries, 0.5) for retries in range(5)] == [2.0, 4.0, 8.0, 16.0, 32.0]

    def test_the_backoff_is_capped(self) -> None:
        policy = RetryPolicy(base_delay=2.0, max_delay=600.0, jitter=0.0)
        assert [policy.delay(retries, 0.5) for retries in (8, 9, 10**12)] == [512.0, 600.0, 600.0]

    def test_chance_takes_away_up_to_the_jitter(self) -> None:
        policy = RetryPolicy(base_delay=10.0, max_delay=600.0, jitter=0.2)
        assert policy.delay(0, 0.0) == 10.0
        assert policy.delay(0, 0.5) == pytest.approx(9.0)
        assert policy.delay(0, 1.0) == pytest.approx(8.0)

    @given(policies, retry_counts, chances)
    def test_no_delay_is_negative_or_beyond_the_cap(self, policy: RetryPolicy, retries: int, chance: float) -> None:
        assert 0 <= policy.delay(retries, chance) <= policy.max_delay

    @given(policies, retry_counts, chances)
    def test_jitter_only_shortens_and_only_by_its_part(self, policy: RetryPolicy, retries: int, chance: float) -> None:
        full = replace(policy, jitter=0.0).delay(retries, chance)
        assert full * (1 - policy.jitter) <= policy.delay(retries, chance) <= full

    @given(policies, retry_counts, retry_counts, chances)
    def test_without_jitter_a_later_retry_never_waits_less(
        self, policy: RetryPolicy, one: int, other: int, chance: float
    ) -> None:
        steady = replace(policy, jitter=0.0)
        assert steady.delay(min(one, other), chance) <= steady.delay(max(one, other), chance)
