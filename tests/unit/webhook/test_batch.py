"""Many jobs in one request."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from portico_celery.adapters.job_trigger.webhook_trigger import RateLimits, WebhookJobRequest, WebhookTrigger
from portico_celery.exceptions import UnknownJobType
from portico_celery.ports.job import Job
from tests.unit.webhook.jobs_in_memory import JobsInMemory
from tests.unit.webhook.mounted import MAIL, Mounted

REPORT = {"job_type": "report.daily", "payload": {"day": 1}}


def test_each_job_has_an_outcome_of_its_own_in_its_place() -> None:
    mounted = Mounted(allowed_job_types=["email.send", "report.daily"])
    jobs: list[Any] = [MAIL, {**MAIL, "priority": "high"}, {**MAIL, "job_type": "shop.close"}, "text", REPORT]

    answer = mounted.post("/jobs/batch", {"jobs": jobs})

    document = answer.get_json()
    assert answer.status_code == 202
    assert (document["accepted"], document["refused"]) == (2, 3)
    assert [one["status"] for one in document["jobs"]] == [202, 400, 403, 400, 202]
    assert list(document["jobs"][1]["errors"]) == ["priority"]
    assert {document["jobs"][place]["job_id"] for place in (0, 4)} == {str(job.id) for job in mounted.jobs}
    assert mounted.get(document["jobs"][0]["status_url"].removeprefix("/webhooks")).status_code == 200
    assert mounted.trigger.health().jobs_created_count == 2


def test_a_thousand_jobs_are_created_in_one_step_and_one_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = Mounted()
    steps: list[int] = []
    create_each = mounted.service.create_each

    async def counted(jobs: Any) -> Any:
        steps.append(len(jobs))
        return await create_each(jobs)

    monkeypatch.setattr(mounted.service, "create_each", counted)
    many = [{"job_type": "a", "payload": {"n": n}} for n in range(1001)]

    assert mounted.post("/jobs/batch", {"jobs": many}).status_code == 400
    assert mounted.post("/jobs/batch", {"jobs": many[:1000]}).get_json()["accepted"] == 1000
    assert steps == [1000]
    assert len(mounted.jobs) == 1000


def test_a_batch_that_comes_again_creates_nothing_more() -> None:
    mounted = Mounted()
    jobs = {"jobs": [MAIL, {**REPORT, "idempotency_key": "own"}]}

    first, again = (mounted.post("/jobs/batch", jobs, {"Idempotency-Key": "k"}).get_json() for _ in range(2))

    assert [one["replayed"] for one in first["jobs"]] == [False, False]
    assert [one["replayed"] for one in again["jobs"]] == [True, True]
    assert [one["job_id"] for one in first["jobs"]] == [one["job_id"] for one in again["jobs"]]
    changed = mounted.post("/jobs/batch", {"jobs": [REPORT]}, {"Idempotency-Key": "k"}).get_json()
    assert [one["status"] for one in changed["jobs"]] == [422]
    assert len(mounted.jobs) == 2


def test_a_key_that_stands_twice_in_a_batch_counts_once() -> None:
    mounted = Mounted()
    twice = [{**MAIL, "idempotency_key": "k"}, {**REPORT, "idempotency_key": "k"}]

    assert [one["status"] for one in mounted.post("/jobs/batch", {"jobs": twice}).get_json()["jobs"]] == [202, 400]
    assert [job.job_type for job in mounted.jobs] == ["email.send"]


def test_a_type_that_has_too_many_is_refused_and_the_others_are_not() -> None:
    mounted = Mounted(rate_limits=RateLimits(per_job_type={"email.send": "2/hour"}))
    mounted.post("/jobs", MAIL)
    answer = mounted.post("/jobs/batch", {"jobs": [MAIL, REPORT, MAIL]}).get_json()

    assert [one["status"] for one in answer["jobs"]] == [429, 202, 429]


@pytest.mark.parametrize("body", [{}, [], {"jobs": []}, {"jobs": {}}, {"jobs": [MAIL], "more": 1}])
def test_what_is_no_batch_is_refused(body: Any) -> None:
    assert Mounted().post("/jobs/batch", body).status_code == 400


def test_a_type_without_a_handler_is_refused_like_one_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = Mounted()

    async def unknown(jobs: Any) -> Any:
        return [UnknownJobType("planted") for _ in jobs]

    monkeypatch.setattr(mounted.service, "create_each", unknown)
    answer = mounted.post("/jobs/batch", {"jobs": [MAIL]})

    assert [one["status"] for one in answer.get_json()["jobs"]] == [403]
    assert "planted" not in answer.text


def test_a_trigger_that_looks_at_each_request_itself_has_no_batches() -> None:
    class Choosy(WebhookTrigger):
        async def _create_job_endpoint(self, request: WebhookJobRequest) -> Job:
            return await super()._create_job_endpoint(request)

    service = Mounted().service
    assert "portico_webhook.batch" in rules_of(WebhookTrigger(service))
    assert "portico_webhook.batch" not in rules_of(Choosy(service))
    assert "portico_webhook.batch" not in rules_of(WebhookTrigger(JobsInMemory()))


def rules_of(trigger: WebhookTrigger) -> set[str]:
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)
    return {rule.endpoint for rule in app.url_map.iter_rules()}
