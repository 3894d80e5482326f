"""Listing, waiting for, cancelling and requeueing jobs: a caller's own."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from uuid import UUID

import pytest

from portico_celery.adapters.job_trigger.webhook_trigger import ApiKeys
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.unit.webhook.mounted import MAIL, Mounted, a_key

NOBODYS = "0b0e7e0c-2f3e-4c55-8d3c-0d6a4d3f5a11"


@pytest.fixture
def shop() -> Any:
    """A webhook with two callers; ``shop.as_shop`` and ``shop.as_crm`` are their headers."""
    (one, as_shop), (other, as_crm) = a_key("shop"), a_key("crm")
    mounted: Any = Mounted(authentication=ApiKeys([one, other]))
    mounted.as_shop, mounted.as_crm = as_shop, as_crm
    return mounted


def fail(mounted: Mounted, queue_name: str = "default") -> str:
    """Take a job and let it fail."""

    async def run() -> str:
        queue = mounted.service._job_queue
        job = await queue.dequeue(queue_name, timeout=5)
        assert job is not None
        await queue.reject(job.id, requeue=False, error_message="no")
        return str(job.id)

    return asyncio.run(run())


def test_a_caller_lists_its_own_jobs_by_pages_and_filters(shop: Any) -> None:
    for number in range(3):
        shop.post("/jobs", {**MAIL, "queue_name": f"q{number}"}, shop.as_shop)
    shop.post("/jobs", {**MAIL, "queue_name": "q1"}, shop.as_crm)

    first = shop.get("/jobs?limit=2", shop.as_shop).get_json()
    rest = shop.get(f"/jobs?limit=2&cursor={first['next_cursor']}", shop.as_shop).get_json()

    listed = [job["queue_name"] for page in (first, rest) for job in page["jobs"]]
    assert listed == ["q2", "q1", "q0"]
    assert rest["next_cursor"] is None
    only = shop.get("/jobs?queue_name=q1&status=pending&job_type=email.send", shop.as_shop).get_json()
    assert [job["queue_name"] for job in only["jobs"]] == ["q1"]
    assert "payload" not in only["jobs"][0]


def test_a_page_is_full_however_many_jobs_others_have(shop: Any) -> None:
    for number in range(4):
        shop.post("/jobs", {**MAIL, "queue_name": f"q{number}"}, shop.as_shop)
        shop.post("/jobs/batch", {"jobs": [MAIL] * 10}, shop.as_crm)

    first = shop.get("/jobs?limit=3", shop.as_shop).get_json()
    rest = shop.get(f"/jobs?limit=3&cursor={first['next_cursor']}", shop.as_shop).get_json()

    assert [[job["queue_name"] for job in page["jobs"]] for page in (first, rest)] == [["q3", "q2", "q1"], ["q0"]]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=1_0",
        "limit=%D9%A3",
        "status=lost",
        "cursor=%00",
        "cursor=nonsense",
        "page=2",
        "limit=1001",
    ],
)
def test_a_query_that_means_nothing_is_400_by_its_field(shop: Any, query: str) -> None:
    answer = shop.get(f"/jobs?{query}", shop.as_shop)

    assert answer.status_code == 400
    assert list(answer.get_json(force=True)["errors"]) == [query.partition("=")[0]]


def test_the_job_of_another_is_as_unknown_as_one_that_never_was(shop: Any) -> None:
    job_id = shop.post("/jobs", MAIL, shop.as_shop).get_json()["job_id"]

    answers = [
        shop.client.open(f"/webhooks/jobs/{id_}{action}", method=method, headers=shop.as_crm)
        for id_ in (job_id, NOBODYS, "no-uuid", "x" * 10_000)
        for method, action in (("GET", ""), ("POST", "/cancel"), ("POST", "/requeue"))
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.get_json(force=True)["detail"] for answer in answers}) == 1
    assert shop.get(f"/jobs/{job_id}", shop.as_shop).status_code == 200


def test_a_waiting_job_is_cancelled_once(shop: Any) -> None:
    job_id = shop.post("/jobs", MAIL, shop.as_shop).get_json()["job_id"]

    first, again = (shop.client.post(f"/webhooks/jobs/{job_id}/cancel", headers=shop.as_shop) for _ in range(2))

    assert (first.status_code, again.status_code) == (200, 409)
    assert first.get_json()["status"] == "failed"
    assert first.get_json()["error_message"] == "Job cancelled"


def test_a_failed_job_is_requeued_and_a_waiting_one_is_not(shop: Any) -> None:
    shop.post("/jobs", MAIL, shop.as_shop)
    job_id = fail(shop)

    first, again = (shop.client.post(f"/webhooks/jobs/{job_id}/requeue", headers=shop.as_shop) for _ in range(2))

    assert (first.status_code, again.status_code) == (200, 409)
    assert first.get_json()["status"] == "pending"


def test_who_waits_for_a_job_is_told_when_it_ends(shop: Any) -> None:
    job_id = shop.post("/jobs", MAIL, shop.as_shop).get_json()["job_id"]
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(shop.get(f"/jobs/{job_id}?wait=20", shop.as_shop)))
    waiting.start()

    fail(shop)
    waiting.join(20)

    assert answers[0].get_json()["status"] == JobStatus.FAILED


@pytest.mark.parametrize("end", ["end_waits", "stop"])
def test_who_waits_is_told_how_it_stands_when_the_process_is_about_to_stop(
    shop: Any, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = shop.post("/jobs", MAIL, shop.as_shop).get_json()["job_id"]
    reads, read = threading.Semaphore(0), shop.service.get_record

    async def counted(wanted: UUID) -> JobRecord | None:
        reads.release()
        record: JobRecord | None = await read(wanted)
        return record

    monkeypatch.setattr(shop.service, "get_record", counted)
    answers: list[Any] = []
    path = f"/jobs/{job_id}?wait=30"
    waiting = threading.Thread(target=lambda: answers.append(shop.get(path, shop.as_shop)))
    waiting.start()
    assert all(reads.acquire(timeout=20) for _ in ("as it was", "whether it has ended"))

    if end == "stop":
        asyncio.run(shop.trigger.stop())
    else:
        shop.trigger.end_waits()
    waiting.join(20)

    assert [answer.get_json()["status"] for answer in answers] == ["pending"]


def test_once_waits_have_ended_nobody_waits_until_the_trigger_is_started_again(shop: Any) -> None:
    job_id = shop.post("/jobs", MAIL, shop.as_shop).get_json()["job_id"]
    shop.trigger.end_waits()

    began = time.monotonic()
    for _ in range(10):
        assert shop.get(f"/jobs/{job_id}?wait=5", shop.as_shop).get_json()["status"] == "pending"
    assert time.monotonic() - began < 25
    asyncio.run(shop.trigger.stop())
    asyncio.run(shop.trigger.start())

    began = time.monotonic()
    shop.get(f"/jobs/{job_id}?wait=1", shop.as_shop)
    assert time.monotonic() - began >= 1


def test_who_waits_too_long_is_told_how_it_stands(shop: Any) -> None:
    job_id = shop.post("/jobs", MAIL, shop.as_shop).get_json()["job_id"]

    assert shop.get(f"/jobs/{job_id}?wait=1", shop.as_shop).get_json()["status"] == "pending"
    assert shop.get(f"/jobs/{job_id}?wait=31", shop.as_shop).status_code == 400


def test_where_nobody_has_to_say_who_it_is_jobs_are_shown_but_not_listed_or_changed() -> None:
    mounted = Mounted()
    job_id = mounted.post("/jobs", MAIL).get_json()["job_id"]

    assert mounted.get(f"/jobs/{job_id}").status_code == 200
    assert mounted.get("/jobs").status_code == 405
    assert mounted.client.post(f"/webhooks/jobs/{job_id}/cancel").status_code == 404
    assert mounted.get("/queues/default/stats").status_code == 404


def test_an_open_jobs_api_has_to_be_asked_for() -> None:
    mounted = Mounted(jobs_api=True)
    job_id = mounted.post("/jobs", MAIL).get_json()["job_id"]

    assert [job["job_id"] for job in mounted.get("/jobs").get_json()["jobs"]] == [job_id]
    assert mounted.client.post(f"/webhooks/jobs/{job_id}/cancel").status_code == 200
