"""What every job store promises of the jobs that a filter means: listed, requeued and discarded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from portico_celery import lifecycle
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, Finish
from tests.contracts.job_store_contract import ENDED, HOUR, NOT_ENDED, at, brought_to, in_threads, transition_to
from tests.contracts.stores import KNOCK, LEASE, StoreUnderTest, a_job

FAILED = [JobStatus.FAILED, JobStatus.DEAD_LETTER]
MANY, BATCH = 2_000, 200
#: Makes a step of a change: the ids of the jobs that it changed, and where the next begins.
Step = Callable[[JobFilter], tuple[list[UUID], str | None]]


def dead(jobs: StoreUnderTest, error: str = "ConnectionError: hung up", job: Job | None = None) -> Job:
    """A dead letter that says why."""
    claimed = jobs.take(job or a_job())
    transition = replace(transition_to(JobStatus.DEAD_LETTER, claimed.job), error_message=error)
    stored = jobs.finish(claimed, transition)
    assert stored is not None
    return stored


def many_dead(jobs: StoreUnderTest, count: int) -> list[UUID]:
    ids: list[UUID] = []
    for _batch in range(count // BATCH):
        new = jobs.insert(*(a_job() for _ in range(BATCH)))
        taken = jobs.store.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE) for job in new])
        jobs.store.finish(
            [
                Finish(job_id=one.job.id, attempt=1, transition=transition_to(JobStatus.DEAD_LETTER, one.job))
                for one in taken
                if one is not None
            ]
        )
        ids += [job.id for job in new]
    return ids


def listed(jobs: StoreUnderTest, wanted: JobFilter) -> set[UUID]:
    return {job.id for job in jobs.store.list_jobs(wanted).jobs}


def step_of(jobs: StoreUnderTest, change: str) -> Step:
    def requeue(wanted: JobFilter) -> tuple[list[UUID], str | None]:
        step = jobs.store.requeue(wanted, knock_seconds=KNOCK)
        return [knock.job.id for knock in step.knocks], step.next_cursor

    def discard(wanted: JobFilter) -> tuple[list[UUID], str | None]:
        page = jobs.store.discard(wanted)
        return [job.id for job in page.jobs], page.next_cursor

    return {"requeue": requeue, "discard": discard}[change]


def steps(step: Step, wanted: JobFilter) -> Iterator[list[UUID]]:
    """All steps, as far as there are any."""
    for _ in range(1_000):
        changed, cursor = step(wanted)
        yield changed
        if cursor is None:
            return
        wanted = replace(wanted, cursor=cursor)
    raise AssertionError("it does not come to an end")


class Filtering:
    def test_jobs_are_found_by_a_part_of_their_error(self, jobs: StoreUnderTest) -> None:
        hung_up, full = dead(jobs), dead(jobs, "OSError: 100% of the disk_is full: ű")
        jobs.insert(a_job())
        for part, expected in [
            ("hung up", {hung_up.id}),
            ("Error: ", {hung_up.id, full.id}),
            ("100% of", {full.id}),
            ("disk_is", {full.id}),
            ("ű", {full.id}),
            ("Hung Up", set()),
            ("hung%", set()),
            ("hung_up", set()),
            ("[a-z]", set()),
        ]:
            assert listed(jobs, JobFilter(error_contains=part)) == expected, part

    @pytest.mark.parametrize("status", ENDED)
    def test_jobs_are_found_by_when_they_ended(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        ended_at = at(job.completed_at or job.failed_at)
        a_moment = timedelta(microseconds=1)
        for bounds, found in [
            (JobFilter(ended_since=ended_at), True),
            (JobFilter(ended_since=ended_at + a_moment), False),
            (JobFilter(ended_until=ended_at), False),
            (JobFilter(ended_until=ended_at + a_moment), True),
            (JobFilter(ended_since=ended_at, ended_until=ended_at), False),
            (JobFilter(ended_since=ended_at, ended_until=ended_at + a_moment, status=status), True),
        ]:
            assert listed(jobs, bounds) == ({job.id} if found else set()), bounds

    @pytest.mark.parametrize("status", NOT_ENDED)
    def test_a_job_that_has_not_ended_has_no_such_time(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        brought_to(jobs, status)
        now = jobs.now()
        assert listed(jobs, JobFilter(ended_since=now - timedelta(days=9))) == set()
        assert listed(jobs, JobFilter(ended_until=now + timedelta(days=9))) == set()

    def test_a_job_that_was_requeued_has_not_ended(self, jobs: StoreUnderTest) -> None:
        job = dead(jobs)
        jobs.requeue(job.id)
        assert listed(jobs, JobFilter(ended_until=jobs.now() + timedelta(days=9))) == set()
        assert listed(jobs, JobFilter(error_contains="hung up")) == set()

    def test_jobs_are_found_by_their_creator(self, jobs: StoreUnderTest) -> None:
        ann, bob = uuid4(), uuid4()
        anns, bobs, nobodys = (
            jobs.insert(replace(a_job(), created_by=who), replace(a_job(), created_by=who)) for who in (ann, bob, None)
        )
        assert listed(jobs, JobFilter(created_by=ann)) == {job.id for job in anns}
        assert listed(jobs, JobFilter(created_by=uuid4())) == set()
        assert listed(jobs, JobFilter()) == {job.id for job in (*anns, *bobs, *nobodys)}
        assert jobs.store.cancel(anns[0].id)
        assert listed(jobs, JobFilter(created_by=ann, status=JobStatus.PENDING)) == {anns[1].id}
        adopted = replace(a_job(), created_by=bob)
        jobs.store.claim([Claim(job_id=adopted.id, worker="worker-1", lease_seconds=LEASE, adopt=adopted)])
        assert listed(jobs, JobFilter(created_by=bob)) == {*(job.id for job in bobs), adopted.id}

    def test_pages_of_one_creator_among_many_others_are_full(self, jobs: StoreUnderTest) -> None:
        ann, bob = uuid4(), uuid4()
        anns = [jobs.insert(*(replace(a_job(), created_by=who) for who in (ann, *[bob] * 30)))[0] for _ in range(7)]
        wanted, pages = JobFilter(created_by=ann, limit=3), []
        while True:
            page = jobs.store.list_jobs(wanted)
            pages.append([job.id for job in page.jobs])
            if page.next_cursor is None:
                break
            wanted = replace(wanted, cursor=page.next_cursor)
        assert [len(page) for page in pages] == [3, 3, 1]
        assert {job_id for page in pages for job_id in page} == {job.id for job in anns}

    def test_a_change_of_many_keeps_to_one_creator(self, jobs: StoreUnderTest) -> None:
        ann, bob = uuid4(), uuid4()
        anns, bobs = (dead(jobs, job=replace(a_job(), created_by=who)) for who in (ann, bob))
        assert step_of(jobs, "requeue")(JobFilter(created_by=ann))[0] == [anns.id]
        assert step_of(jobs, "discard")(JobFilter(created_by=bob))[0] == [bobs.id]
        assert listed(jobs, JobFilter(created_by=bob)) == set()
        assert listed(jobs, JobFilter(created_by=ann)) == {anns.id}

    def test_jobs_are_found_by_their_ids(self, jobs: StoreUnderTest) -> None:
        first, second, third = (jobs.insert(a_job())[0] for _ in range(3))
        wanted = JobFilter(job_ids=(first.id, third.id, uuid4()))
        assert listed(jobs, wanted) == {first.id, third.id}
        assert listed(jobs, replace(wanted, queue_name="another")) == set()
        assert listed(jobs, JobFilter(job_ids=())) == set()
        page = jobs.store.list_jobs(JobFilter(job_ids=(first.id, second.id, third.id), limit=2))
        rest = jobs.store.list_jobs(JobFilter(job_ids=(first.id, second.id, third.id), cursor=page.next_cursor))
        assert {job.id for job in (*page.jobs, *rest.jobs)} == {first.id, second.id, third.id}
        assert (len(page.jobs), rest.next_cursor) == (2, None)

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    def test_pages_of_a_filter_hold_each_job_once(self, jobs: StoreUnderTest, limit: int) -> None:
        wanted = set()
        for _ in range(3):
            wanted.add(dead(jobs).id)
            dead(jobs, "OSError: disk full")
            brought_to(jobs, JobStatus.COMPLETED)
        filtered = JobFilter(error_contains="hung up", status=JobStatus.DEAD_LETTER, limit=limit)
        found: list[UUID] = []
        while True:
            page = jobs.store.list_jobs(filtered)
            found += [job.id for job in page.jobs]
            if page.next_cursor is None:
                break
            assert len(page.jobs) == limit
            filtered = replace(filtered, cursor=page.next_cursor)
        assert sorted(found) == sorted(wanted)


class ChangingMany:
    @pytest.fixture(params=["requeue", "discard"])
    def step(self, request: pytest.FixtureRequest, jobs: StoreUnderTest) -> Step:
        return step_of(jobs, request.param)

    def test_all_that_a_filter_means_starts_afresh_and_nothing_else(self, jobs: StoreUnderTest) -> None:
        meant = [dead(jobs) for _ in range(3)]
        others = [
            dead(jobs, "OSError: disk full"),
            dead(jobs, job=a_job(queue_name="another")),
            dead(jobs, job=a_job(job_type="report.daily")),
            brought_to(jobs, JobStatus.FAILED),
        ]
        jobs.advance(HOUR)
        others.append(dead(jobs))
        wanted = JobFilter(
            queue_name="default",
            job_type="email.send",
            status=JobStatus.DEAD_LETTER,
            error_contains="hung up",
            ended_until=jobs.now() - timedelta(minutes=30),
        )
        step = jobs.store.requeue(wanted, knock_seconds=KNOCK)
        assert step.next_cursor is None
        fresh = {knock.job.id: knock.job for knock in step.knocks}
        assert fresh == {job.id: lifecycle.requeued(job) for job in meant}
        assert all(jobs.job(job.id) == fresh[job.id] for job in meant)
        assert all(jobs.job(job.id) == job for job in others)
        assert jobs.store.stats("default").pending_count == jobs.store.count_knocked("default") == len(meant)

    def test_all_that_a_filter_means_is_deleted_and_nothing_else(self, jobs: StoreUnderTest) -> None:
        meant = {dead(jobs).id for _ in range(3)}
        other = dead(jobs, "OSError: disk full")
        page = jobs.store.discard(JobFilter(status=JobStatus.DEAD_LETTER, error_contains="hung up"))
        assert {job.id for job in page.jobs} == meant
        assert page.next_cursor is None
        assert listed(jobs, JobFilter()) == {other.id}
        assert jobs.store.stats("default").dead_letter_count == 1

    @pytest.mark.parametrize(("change", "changed"), [("requeue", FAILED), ("discard", ENDED)])
    @pytest.mark.parametrize("by_status", [False, True])
    def test_what_may_not_be_changed_is_left_as_it_is(
        self, jobs: StoreUnderTest, change: str, changed: list[JobStatus], by_status: bool
    ) -> None:
        stored = {status: brought_to(jobs, status) for status in JobStatus}
        found = set()
        for wanted in [JobFilter(status=status) for status in JobStatus] if by_status else [JobFilter()]:
            for ids in steps(step_of(jobs, change), wanted):
                found |= set(ids)
        # What is requeued is PENDING, and may not be requeued again.
        assert found == {stored[status].id for status in changed}
        assert all(jobs.job(job.id) == job for status, job in stored.items() if status not in changed)

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
    def test_steps_are_bounded_and_change_each_job_once_the_newest_first(
        self, jobs: StoreUnderTest, step: Step, limit: int
    ) -> None:
        ids = []
        for _ in range(5):
            ids.append(dead(jobs).id)
            brought_to(jobs, JobStatus.COMPLETED)
            jobs.advance(1)
        wanted = JobFilter(status=JobStatus.DEAD_LETTER, limit=limit)
        taken = list(steps(step, wanted))
        assert all(len(changed) <= limit for changed in taken)
        assert [job_id for changed in taken for job_id in changed] == ids[::-1]

    def test_a_job_that_dies_again_is_not_met_by_the_further_steps(self, jobs: StoreUnderTest) -> None:
        ids = {dead(jobs).id for _ in range(5)}
        found: list[UUID] = []
        for changed in steps(step_of(jobs, "requeue"), JobFilter(status=JobStatus.DEAD_LETTER, limit=2)):
            found += changed
            for job_id in changed:
                dead(jobs, job=jobs.job(job_id))
        assert sorted(found) == sorted(ids)

    def test_what_a_plain_clients_message_carried_goes_with_the_knock(self, jobs: StoreUnderTest) -> None:
        adopted, job = a_job(), dead(jobs)
        envelope = {"task_id": "7", "chain": [1]}
        claim = Claim(job_id=adopted.id, worker="worker-1", lease_seconds=LEASE, adopt=adopted, envelope=envelope)
        [claimed] = jobs.store.claim([claim])
        assert claimed is not None
        jobs.finish(claimed, transition_to(JobStatus.DEAD_LETTER, claimed.job))
        step = jobs.store.requeue(JobFilter(), knock_seconds=KNOCK)
        assert {knock.job.id: knock.envelope for knock in step.knocks} == {adopted.id: envelope, job.id: None}
        assert not any(knock.again for knock in step.knocks)

    def test_the_history_of_what_is_requeued_stays_and_of_what_is_discarded_goes(self, jobs: StoreUnderTest) -> None:
        requeued, discarded = dead(jobs), dead(jobs)
        jobs.store.requeue(JobFilter(job_ids=(requeued.id,)), knock_seconds=KNOCK)
        jobs.store.discard(JobFilter(job_ids=(discarded.id,)))
        record = jobs.store.get(requeued.id)
        assert record is not None
        assert [attempt.error for attempt in record.attempts] == ["ConnectionError: hung up"]
        jobs.insert(discarded)
        record = jobs.store.get(discarded.id)
        assert record is not None
        assert record.attempts == ()

    def test_a_step_refuses_a_cursor_that_no_page_gave(self, jobs: StoreUnderTest, step: Step) -> None:
        job = dead(jobs)
        with pytest.raises(ValidationError, match="cursor"):
            step(JobFilter(cursor="nonsense"))
        assert jobs.job(job.id) == job

    def test_of_two_admins_at_once_each_job_is_changed_by_one(self, jobs: StoreUnderTest, step: Step) -> None:
        ids = many_dead(jobs, MANY)
        wanted = JobFilter(status=JobStatus.DEAD_LETTER, limit=100)

        def change_all(_admin: str) -> list[UUID]:
            return [job_id for changed in steps(step, wanted) for job_id in changed]

        changed = in_threads(2, change_all)
        assert sorted(job_id for part in changed.values() for job_id in part) == sorted(ids)
        assert jobs.store.stats("default").dead_letter_count == 0


class JobFilterContract(Filtering, ChangingMany):
    """All that a job store promises of filters."""
