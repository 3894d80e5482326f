"""What the Redis store promises beyond the contract of all job stores."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import redis.exceptions
from redis import Redis

from portico_celery import lifecycle
from portico_celery.adapters.job_store import redis_store
from portico_celery.adapters.job_store.redis_database import SCHEMA_VERSION
from portico_celery.adapters.job_store.redis_store import RedisJobStore
from portico_celery.exceptions import ConfigurationError, StoreError, StoreSchemaTooNew, StoreUnavailable
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease, Transition
from portico_celery.utils.logging import fields_of
from tests.contracts.stores import KNOCK, LEASE, a_job
from tests.services import PrivateRedis, free_port
from tests.waiting import eventually

DAY = 24 * 3600.0
COMPLETED = Transition(status=JobStatus.COMPLETED, retry_count=0)
AGAIN = Transition(status=JobStatus.RETRYING, retry_count=0, error_message="again")

StartRedis = Callable[..., PrivateRedis]


@pytest.fixture
def server(private_redis: StartRedis) -> PrivateRedis:
    return private_redis()


@pytest.fixture
def client(server: PrivateRedis) -> Iterator[Redis]:
    with Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def store(server: PrivateRedis) -> Iterator[RedisJobStore]:
    with closing(RedisJobStore(server.url)) as store:
        yield store


def insert(store: RedisJobStore, *jobs: Job) -> list[Job]:
    return [job for job, _created in store.insert(jobs, knock_seconds=KNOCK)]


def claim(store: RedisJobStore, *jobs: Job) -> list[ClaimedJob]:
    answers = store.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE) for job in jobs])
    return [claimed for claimed in answers if claimed is not None]


def finish(store: RedisJobStore, transition: Transition, *claimed: ClaimedJob) -> list[Job]:
    finishes = [Finish(job_id=each.job.id, attempt=each.attempt, transition=transition) for each in claimed]
    return [job for job in store.finish(finishes) if job is not None]


def completed(store: RedisJobStore, count: int) -> list[Job]:
    return finish(store, COMPLETED, *claim(store, *insert(store, *(a_job() for _ in range(count)))))


def sweep(store: RedisJobStore) -> Any:
    return store.take_due(limit=100, knock_seconds=KNOCK)


@contextmanager
def unavailable_in_time() -> Iterator[None]:
    """The block raises StoreUnavailable, and not long after the store's time limit."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="did not answer") as raised:
        yield
    assert time.monotonic() - started < 3.9  # 2 s is what it waits; to wait twice would take longer than this
    assert isinstance(raised.value.__cause__, redis.exceptions.RedisError)


def left(client: Redis) -> set[str]:
    """The keys that belong to jobs."""
    return {str(key) for key in client.scan_iter()} - {
        "{portico}:schema",
        "{portico}:sequence",
        "{portico}:counts:default",
    }


class TestCallsOfTheServer:
    @staticmethod
    def calls(client: Redis) -> dict[str, int]:
        stats: dict[str, Any] = client.info("commandstats")
        named = {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}
        return {name: named.get(name, 0) for name in ("evalsha", "script|load", "multi")}

    def test_each_transition_is_one_call_and_a_batch_one_pipeline(self, store: RedisJobStore, client: Redis) -> None:
        completed(store, 1)  # the server knows the scripts now
        client.config_resetstat()
        jobs = insert(store, *(a_job() for _ in range(50)))
        assert self.calls(client) == {"evalsha": 1, "script|load": 0, "multi": 0}
        claimed = claim(store, *jobs)
        assert finish(store, COMPLETED, *claimed)
        assert self.calls(client) == {"evalsha": 101, "script|load": 0, "multi": 0}

    def test_an_idle_sweep_is_one_call(self, store: RedisJobStore, client: Redis) -> None:
        insert(store, a_job())
        sweep(store)
        client.config_resetstat()
        assert sweep(store).next_due_in == pytest.approx(KNOCK, abs=5)
        assert self.calls(client) == {"evalsha": 1, "script|load": 0, "multi": 0}

    def test_scripts_that_the_server_has_forgotten_are_sent_again(self, store: RedisJobStore, client: Redis) -> None:
        jobs = insert(store, a_job(), a_job(), a_job())
        client.script_flush()
        claimed = claim(store, *jobs)
        assert [each.attempt for each in claimed] == [1, 1, 1]
        client.script_flush()
        assert [job.status for job in finish(store, COMPLETED, *claimed)] == [JobStatus.COMPLETED] * 3

    def test_all_keys_are_in_one_slot_of_a_cluster(self, private_redis: StartRedis) -> None:
        node = private_redis(**{"cluster-enabled": "yes", "cluster-port": str(free_port())})
        with Redis.from_url(node.url) as client, closing(RedisJobStore(node.url)) as store:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
            retried, job, lost = claim(store, *insert(store, a_job(), a_job(), a_job()))
            finish(store, AGAIN, retried)
            finish(store, Transition(status=JobStatus.DEAD_LETTER, retry_count=3, worker_lost=True), lost)
            assert store.extend([Lease(job_id=job.job.id, attempt=1)], lease_seconds=LEASE) == [True]
            assert len(sweep(store).knocks) == 2
            store.settle_loss(Lease(job_id=lost.job.id, attempt=1))
            assert store.requeue(JobFilter(job_ids=(lost.job.id,)), knock_seconds=KNOCK).knocks
            assert store.cancel(retried.job.id)
            assert store.discard(JobFilter(job_ids=(retried.job.id,))).jobs
            assert store.get(job.job.id)
            assert len(store.list_jobs(JobFilter(status=JobStatus.RUNNING)).jobs) == 1
            keys = [key.decode() for key in client.scan_iter()]
            assert len({client.cluster("KEYSLOT", key) for key in keys}) == 1
            assert len(keys) > 10


class TestRetention:
    def test_a_job_that_ended_is_kept_for_its_time_and_then_leaves_nothing(self, server: PrivateRedis) -> None:
        with (
            closing(RedisJobStore(server.url, result_ttl=DAY)) as store,
            Redis.from_url(server.url, decode_responses=True) as client,
        ):
            [dead, cancelled, done] = insert(store, *(replace(a_job(), created_by=uuid4()) for _ in range(3)))
            [claimed] = claim(store, dead)
            finish(store, Transition(status=JobStatus.DEAD_LETTER, retry_count=3), claimed)
            store.cancel(cancelled.id)
            finish(store, COMPLETED, *claim(store, done))
            store.clock_offset = DAY - 60
            sweep(store)
            assert len(store.list_jobs(JobFilter()).jobs) == 3
            store.clock_offset = DAY + 60
            sweep(store)
            assert store.list_jobs(JobFilter()).jobs == ()
            assert store.stats("default") == lifecycle.queue_stats("default", {})
            assert left(client) == set()

    def test_a_job_that_was_requeued_is_not_deleted(self, store: RedisJobStore) -> None:
        [job] = insert(store, a_job())
        store.cancel(job.id)
        store.requeue(JobFilter(job_ids=(job.id,)), knock_seconds=KNOCK)
        store.clock_offset = 30 * DAY
        assert [knock.job.id for knock in sweep(store).knocks] == [job.id]

    def test_much_is_deleted_in_several_sweeps_that_follow_at_once(self, store: RedisJobStore, client: Redis) -> None:
        completed(store, 450)
        store.clock_offset = 8 * DAY
        waits = []
        while store.stats("default").completed_count:
            waits.append(sweep(store).next_due_in)
        assert waits == [0.0, 0.0, None]
        assert left(client) == set()

    def test_a_job_that_was_discarded_leaves_nothing(self, store: RedisJobStore, client: Redis) -> None:
        [claimed] = claim(store, *insert(store, replace(a_job(), created_by=uuid4())))
        finish(store, Transition(status=JobStatus.DEAD_LETTER, retry_count=3), claimed)
        assert store.discard(JobFilter(job_ids=(claimed.job.id,))).jobs
        assert left(client) == set()

    def test_the_history_keeps_the_last_attempts(self, store: RedisJobStore) -> None:
        [job] = insert(store, a_job())
        for _ in range(30):
            finish(store, AGAIN, *claim(store, job))
        record = store.get(job.id)
        assert record is not None
        assert [attempt.number for attempt in record.attempts] == list(range(6, 31))

    def test_a_row_that_somebody_else_deleted_is_not_due_for_ever(self, store: RedisJobStore, client: Redis) -> None:
        waiting, running = insert(store, a_job(), a_job())
        claim(store, running)
        client.delete(f"{{portico}}:job:{waiting.id}", f"{{portico}}:job:{running.id}")
        store.clock_offset = DAY
        found = sweep(store)
        assert (found.knocks, found.expired, found.next_due_in) == ((), (), None)
        assert not client.exists("{portico}:due", "{portico}:leases")
        assert store.list_jobs(JobFilter()).jobs == ()


class TestWhatIsStored:
    def test_numbers_and_empty_objects_are_not_changed_by_lua(self, store: RedisJobStore) -> None:
        payload = {"big": 2**70 + 1, "empty": {}, "none": [], "precise": 0.1234567890123456}
        [job] = insert(store, replace(a_job(), payload=payload, metadata={"empty": {}}))
        envelope = {"embed": {}, "id": 2**53 + 1}
        adopted = replace(a_job(), payload=payload)
        [claimed] = store.claim(
            [Claim(job_id=adopted.id, worker="worker-1", lease_seconds=LEASE, adopt=adopted, envelope=envelope)]
        )
        assert claimed is not None
        assert (claimed.job.payload, claimed.envelope) == (payload, envelope)
        [running] = claim(store, job)
        finish(store, replace(COMPLETED, result_data=payload), running)
        record = store.get(job.id)
        assert record is not None
        assert (record.job.payload, record.job.metadata, record.result_data) == (payload, {"empty": {}}, payload)

    def test_an_error_may_hold_any_text(self, store: RedisJobStore) -> None:
        text = "no file 'na\udcefve'\x00 \"quoted\" \\ / Grüße \U0001f680\n"
        [claimed] = claim(store, *insert(store, a_job()))
        failed = Transition(status=JobStatus.FAILED, retry_count=0, error_message=text, traceback=text)
        [job] = finish(store, failed, claimed)
        record = store.get(job.id)
        assert record is not None
        assert (job.error_message, record.attempts[0].error, record.attempts[0].traceback) == (text, text, text)

    def test_a_page_of_rare_jobs_is_found_among_many(
        self, store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_store, "_MOST_LOOKED_AT", 7)
        rare = []
        for number in range(200):
            queue_name = "mail" if number % 2 else "reports"
            job_type = "mail.send" if number % 3 else "mail.bounce"
            [job] = insert(store, a_job(queue_name=queue_name, job_type=job_type))
            if queue_name == "mail" and job_type == "mail.bounce":
                rare.append(job.id)
        found = []
        wanted: JobFilter | None = JobFilter(queue_name="mail", job_type="mail.bounce", limit=4)
        while wanted is not None:
            page = store.list_jobs(wanted)
            found += [job.id for job in page.jobs]
            wanted = None if page.next_cursor is None else replace(wanted, cursor=page.next_cursor)
        assert found == rare[::-1]


class TestOutages:
    def test_the_first_call_after_a_restart_succeeds_and_nothing_is_lost(
        self, server: PrivateRedis, store: RedisJobStore
    ) -> None:
        jobs = insert(store, a_job(), a_job())
        for stop in (server.stop, server.kill):
            stop()
            server.start()
            assert len(store.list_jobs(JobFilter()).jobs) == 2
        assert len(claim(store, *jobs)) == 2

    def test_a_server_that_is_away(self, server: PrivateRedis, store: RedisJobStore) -> None:
        [job] = insert(store, a_job())
        server.kill()
        for call in (lambda: claim(store, job), lambda: store.get(job.id), lambda: sweep(store)):
            with unavailable_in_time():
                call()

    @pytest.mark.parametrize("used_before", [True, False])
    def test_a_server_that_is_frozen(self, server: PrivateRedis, store: RedisJobStore, used_before: bool) -> None:
        job = a_job()
        if used_before:
            insert(store, job)
        server.freeze()
        for _ in range(2):
            with unavailable_in_time():
                insert(store, job)
        with unavailable_in_time():
            store.list_jobs(JobFilter())
        server.thaw()
        assert insert(store, job)[0].id == job.id
        assert [claimed.job.id for claimed in claim(store, job)] == [job.id]

    def test_a_full_server_takes_no_new_jobs_and_lets_those_it_has_end(
        self, store: RedisJobStore, client: Redis
    ) -> None:
        running, waiting, retried = insert(store, a_job(), a_job(), a_job())
        held, again = claim(store, running, retried)
        client.config_set("maxmemory", 1)
        with unavailable_in_time():
            insert(store, a_job(), a_job())
        store.clock_offset = KNOCK + 10
        assert [knock.job.id for knock in sweep(store).knocks] == [waiting.id]
        assert store.extend([Lease(job_id=running.id, attempt=1)], lease_seconds=LEASE) == [True]
        assert finish(store, COMPLETED, held, *claim(store, waiting))
        assert finish(store, AGAIN, again)
        assert store.cancel(retried.id)
        assert store.stats("default") == lifecycle.queue_stats("default", {JobStatus.COMPLETED: 2, JobStatus.FAILED: 1})
        with closing(RedisJobStore(client_url(client))) as another:
            assert another.get(running.id) is not None

    def test_a_replica_that_can_not_be_written_to(self, store: RedisJobStore, client: Redis) -> None:
        [job] = insert(store, a_job())
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())  # type: ignore[no-untyped-call]
        with unavailable_in_time():
            claim(store, job)

    def test_a_wrong_password_is_refused_and_not_shown(self, private_redis: StartRedis) -> None:
        # The server asks for a password only once it runs: the test's own PING has none.
        server = private_redis()
        with Redis.from_url(server.url) as client:
            client.config_set("requirepass", "right")
        url = server.url.replace("redis://", "redis://:wrong@")
        with closing(RedisJobStore(url)) as store:
            with pytest.raises(StoreError, match="refused") as raised:
                insert(store, a_job())
            assert not isinstance(raised.value, StoreUnavailable)
            assert "wrong@" not in str(raised.value)


def client_url(client: Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"


class TestInitializing:
    @staticmethod
    def warnings(url: str, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
        """The warnings that a store logs when it is initialised, each with what it advises."""
        caplog.clear()
        with caplog.at_level(logging.WARNING), closing(RedisJobStore(url)) as store:
            store.initialize()
            store.initialize()
        told = [fields_of(record) or {} for record in caplog.records]
        assert len({fields["event"] for fields in told}) == len(told), "a warning was logged twice"
        return {fields["event"]: fields["remedy"] for fields in told}

    def test_a_server_that_keeps_its_jobs_is_not_warned_of(
        self, server: PrivateRedis, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert self.warnings(server.url, caplog) == {}

    def test_a_server_that_may_lose_jobs_is_warned_of_with_the_remedy(
        self, server: PrivateRedis, client: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        found = self.warnings(server.url, caplog)
        assert set(found) == {"redis_not_durable", "redis_may_evict"}
        assert "appendonly yes" in found["redis_not_durable"]
        assert "maxmemory-policy noeviction" in found["redis_may_evict"]

    def test_a_server_that_does_not_tell_its_settings_is_warned_of(
        self, server: PrivateRedis, client: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">secret", "~*", "+@all", "-info", "-config")  # type: ignore[no-untyped-call]
        found = self.warnings(server.url.replace("redis://", "redis://shop:secret@"), caplog)
        assert set(found) == {"redis_settings_unknown"}
        assert "appendonly yes" in found["redis_settings_unknown"]

    def test_a_newer_version_of_the_store_is_refused(self, store: RedisJobStore, client: Redis) -> None:
        client.set("{portico}:schema", SCHEMA_VERSION + 1)
        with pytest.raises(StoreSchemaTooNew, match="upgrade"):
            store.initialize()
        with pytest.raises(StoreSchemaTooNew):
            insert(store, a_job())

    def test_a_newer_version_is_taken_where_that_is_allowed(self, server: PrivateRedis, client: Redis) -> None:
        client.set("{portico}:schema", SCHEMA_VERSION + 1)
        with closing(RedisJobStore(server.url, allow_newer_schema=True)) as store:
            [job] = insert(store, a_job())
            assert store.get(job.id) is not None
        assert client.get("{portico}:schema") == str(SCHEMA_VERSION + 1)

    @pytest.mark.parametrize(
        "url", ["redis://localhost:port", "http://localhost", "redis://localhost?no_such_option=1", "redis://[::1"]
    )
    def test_a_url_that_can_not_be_served_is_refused_at_once(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="portico_store_url"):
            RedisJobStore(url)

    def test_stores_of_different_prefixes_know_nothing_of_each_other(
        self, server: PrivateRedis, store: RedisJobStore
    ) -> None:
        [job] = insert(store, a_job())
        with closing(RedisJobStore(server.url, prefix=f"other-{uuid4().hex}")) as other:
            assert other.get(job.id) is None
            assert other.list_jobs(JobFilter()).jobs == ()
