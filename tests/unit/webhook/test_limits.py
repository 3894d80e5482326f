"""How often, and how many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from flask import Flask

from portico_celery.adapters.job_trigger.webhook_trigger import (
    ApiKeys,
    GitHub,
    RateLimits,
    WebhookConfig,
    WebhookSource,
    WebhookTrigger,
)
from portico_celery.exceptions import ConfigurationError, StoreUnavailable
from portico_celery.kits.job import JobService
from portico_celery.ports.job_reader import JobFilter, JobPage
from tests.services import PrivateRedis, free_port
from tests.unit.queue_in_memory import QueueInMemory
from tests.unit.webhook.mounted import MAIL, Mounted, a_key, body_of, hex_hmac
from tests.waiting import eventually


def test_beyond_a_limit_the_answer_says_when_to_come_back() -> None:
    mounted = Mounted(rate_limits=RateLimits(per_job_type={"email.send": "2/hour"}))

    answers = [mounted.post("/jobs", MAIL) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    headers = answers[2].headers
    assert 0 < int(headers["Retry-After"]) <= 3600
    assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("2", "0")
    assert mounted.post("/jobs", {**MAIL, "job_type": "other"}).status_code == 202
    assert len(mounted.jobs) == 3


def test_each_caller_and_each_source_has_a_count_of_its_own() -> None:
    (shop, as_shop), (crm, as_crm) = a_key("shop"), a_key("crm")
    source = WebhookSource(scheme=GitHub("s"), events={"*": "repo.any"})
    mounted = Mounted(
        authentication=ApiKeys([shop, crm]), rate_limits=RateLimits(per_caller="1/hour"), sources={"github": source}
    )
    signed = {"X-Hub-Signature-256": f"sha256={hex_hmac('s', body_of({}))}"}

    assert [mounted.post("/jobs", MAIL, who).status_code for who in (as_shop, as_crm, as_shop)] == [202, 202, 429]
    assert [mounted.deliver("github", body_of({}), signed).status_code for _ in range(2)] == [202, 429]


def test_each_answer_tells_a_caller_how_many_requests_are_left_to_it() -> None:
    key, as_shop = a_key("shop")
    source = WebhookSource(scheme=GitHub("s"), events={"push": "repo.pushed"})
    mounted = Mounted(
        authentication=ApiKeys([key]), rate_limits=RateLimits(per_caller="9/hour"), sources={"github": source}
    )
    signed = {"X-Hub-Signature-256": f"sha256={hex_hmac('s', body_of({}))}"}
    created = mounted.post("/jobs", MAIL, as_shop)
    path = f"/webhooks/jobs/{created.get_json()['job_id']}"

    answers = [
        created,
        mounted.get("/jobs", as_shop),
        mounted.client.get(path, headers=as_shop),
        mounted.get("/queues/default/stats", as_shop),
        mounted.post("/jobs/batch", {"jobs": [MAIL]}, as_shop),
        mounted.client.post(f"{path}/cancel", headers=as_shop),
    ]

    assert [answer.status_code for answer in answers] == [202, 200, 200, 200, 202, 200]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["8", "7", "6", "5", "4", "3"]
    assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"9"}
    assert all(0 < int(answer.headers["RateLimit-Reset"]) <= 3600 for answer in answers)
    ignored = mounted.deliver("github", body_of({}), signed)
    assert (ignored.status_code, ignored.headers["RateLimit-Remaining"]) == (202, "8")


def test_without_a_limit_of_callers_nothing_is_said_of_one() -> None:
    mounted = Mounted(rate_limits=RateLimits(per_address="9/hour"))

    assert not any(name.startswith("RateLimit") for name, _ in mounted.post("/jobs", MAIL).headers)


def test_an_address_is_counted_before_its_key_is_looked_at() -> None:
    key, _as_shop = a_key("shop")
    mounted = Mounted(authentication=ApiKeys([key]), rate_limits=RateLimits(per_address="2/hour"))

    assert [mounted.post("/jobs", MAIL).status_code for _ in range(3)] == [401, 401, 429]


def test_in_redis_the_count_is_shared(redis_url: str) -> None:
    job_type = f"email.t{uuid4().hex}"
    limits = RateLimits(per_job_type={job_type: "1/hour"}, storage=redis_url)
    first, second = Mounted(rate_limits=limits), Mounted(rate_limits=limits)

    assert first.post("/jobs", {**MAIL, "job_type": job_type}).status_code == 202
    assert second.post("/jobs", {**MAIL, "job_type": job_type}).status_code == 429


def test_where_redis_is_away_each_process_counts_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    mounted = Mounted(rate_limits=RateLimits(per_caller="2/hour", storage=nowhere))

    assert [mounted.post("/jobs", MAIL).status_code for _ in range(3)] == [202, 202, 429]
    assert any("rate_limit_storage_unavailable" in record.getMessage() for record in caplog.records)


def test_when_redis_is_back_the_count_is_shared_again(private_redis: Callable[..., PrivateRedis]) -> None:
    server = private_redis()
    limits = RateLimits(per_caller="1000000/hour", storage=server.url)
    mounted, other = Mounted(rate_limits=limits), Mounted(rate_limits=limits)

    def used(which: Mounted) -> int:
        answer = which.post("/jobs", MAIL)
        assert answer.status_code == 202
        return 1_000_000 - int(answer.headers["RateLimit-Remaining"])

    def count_together() -> bool:
        first = used(mounted)
        return [used(other), used(mounted)] == [first + 1, first + 2]

    assert count_together()
    server.stop()
    assert [used(mounted), used(other)] == [1, 1]
    server.start()

    # It is asked again after five seconds.
    eventually(count_together, describe="one count for both")


@pytest.mark.parametrize("needs_event_loop", [False, True])
def test_a_creator_that_needs_an_event_loop_is_counted_too(needs_event_loop: bool) -> None:
    queue = QueueInMemory(needs_event_loop=needs_event_loop)
    key, as_shop = a_key("shop")
    limits = RateLimits(per_address="9/hour", per_caller="9/hour", per_job_type={"email.send": "2/hour"})
    trigger = WebhookTrigger(JobService(queue), WebhookConfig(authentication=ApiKeys([key]), rate_limits=limits))
    asyncio.run(trigger.start())
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)
    client = app.test_client()

    answers = [client.post("/webhooks/jobs", json=MAIL, headers=as_shop) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["8", "7", "0"]
    assert len(queue.jobs) == 2


def test_many_threads_are_counted_each_for_its_own_caller() -> None:
    callers = [a_key(f"caller{number}") for number in range(8)]
    keys = ApiKeys([key for key, _ in callers])
    mounted = Mounted(authentication=keys, rate_limits=RateLimits(per_caller="10/hour"))

    def post(header: dict[str, str]) -> int:
        app = mounted.client.application
        return app.test_client().post("/webhooks/jobs", json=MAIL, headers=header).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(post, [header for _, header in callers] * 12))

    assert Counter(statuses) == {202: 80, 429: 16}
    assert Counter(job.metadata["webhook"]["caller"] for job in mounted.jobs) == {
        f"caller{number}": 10 for number in range(8)
    }


def test_a_batch_that_was_accepted_is_replayed_when_there_are_too_many_jobs_of_its_type() -> None:
    mounted = Mounted(rate_limits=RateLimits(per_job_type={"email.send": "2/hour"}))
    jobs, key = {"jobs": [MAIL, MAIL]}, {"Idempotency-Key": "k"}

    first, again = (mounted.post("/jobs/batch", jobs, key).get_json() for _ in range(2))
    other = mounted.post("/jobs/batch", jobs, {"Idempotency-Key": "other"}).get_json()

    assert [(one["status"], one["replayed"]) for one in first["jobs"]] == [(202, False), (202, False)]
    assert [(one["status"], one["replayed"]) for one in again["jobs"]] == [(202, True), (202, True)]
    assert [one["job_id"] for one in again["jobs"]] == [one["job_id"] for one in first["jobs"]]
    assert [one["status"] for one in other["jobs"]] == [429, 429]
    assert all(0 < one["retry_after"] <= 3600 and one["request_id"] for one in other["jobs"])
    assert len(mounted.jobs) == 2


def test_where_keys_of_refused_jobs_can_not_be_looked_up_nothing_has_been_created_behind_the_503() -> None:
    class Unreadable(QueueInMemory):
        async def list_jobs(self, job_filter: JobFilter) -> JobPage:  # noqa: ARG002  # the port's signature
            raise StoreUnavailable("it is slow")

    queue = Unreadable()
    mounted = Mounted(queue=queue, rate_limits=RateLimits(per_job_type={"email.send": "1/hour"}))
    good, too_many = {**MAIL, "job_type": "report.daily"}, {**MAIL, "idempotency_key": "a"}

    assert mounted.post("/jobs", MAIL).status_code == 202
    refused = mounted.post("/jobs/batch", {"jobs": [good, too_many]})

    assert refused.status_code == 503
    assert queue.store.stats("default").pending_count == 1


def test_a_batch_that_no_time_would_let_pass_is_not_told_to_wait() -> None:
    mounted = Mounted(rate_limits=RateLimits(per_job_type={"email.send": "2/hour"}))

    answer = mounted.post("/jobs/batch", {"jobs": [MAIL] * 3}).get_json()

    assert [one["status"] for one in answer["jobs"]] == [400] * 3
    assert "at most 2 at once" in answer["jobs"][0]["detail"]
    assert mounted.post("/jobs/batch", {"jobs": [MAIL] * 2}).get_json()["accepted"] == 2


@pytest.mark.parametrize(
    "limits",
    [
        {"per_caller": "many"},
        {"per_caller": "0/minute"},
        {"per_address": "5/second;100/minute"},
        {"per_job_type": {"a": "1"}},
        {"storage": "mongodb://x"},
        {"storage": "redis"},
        {"storage": "redis://:a/b@127.0.0.1:6379/0"},
    ],
)
def test_a_limit_that_can_t_be_read_is_refused_at_start(limits: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"must be memory://|is no rate limit"):
        RateLimits(**limits)  # type: ignore[arg-type]  # wrong on purpose


def test_a_storage_s_option_that_can_t_be_read_is_refused_at_start() -> None:
    limits = RateLimits(storage="redis://127.0.0.1:6379/0?socket_timeout=soon")

    with pytest.raises(ConfigurationError, match="can't be read"):
        Mounted(rate_limits=limits)


def test_above_the_high_water_mark_no_more_jobs_are_taken() -> None:
    mounted = Mounted(max_pending=2, jobs_api=True)

    full = [mounted.post("/jobs", {**MAIL, "queue_name": "full"}).status_code for _ in range(2)]
    refused = mounted.post("/jobs", {**MAIL, "queue_name": "full"})

    assert full == [202, 202]
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert mounted.post("/jobs/batch", {"jobs": [{**MAIL, "queue_name": "full"}]}).status_code == 503
    assert mounted.post("/jobs/batch", {"jobs": [MAIL] * 3}).status_code == 503
    assert mounted.post("/jobs", MAIL).status_code == 202
