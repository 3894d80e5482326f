"""URLs in payloads: which may be fetched, as far as can be told from the text."""

from __future__ import annotations

import pytest
from marshmallow import Schema

from portico_celery.adapters.job_trigger.webhook_trigger import PublicUrl
from portico_celery.adapters.job_trigger.webhook_trigger.public_url import is_public_url
from tests.abuse.forbidden_urls import FORBIDDEN
from tests.unit.webhook.mounted import Mounted


class Callback(Schema):
    url = PublicUrl(required=True)


@pytest.mark.parametrize("url", FORBIDDEN)
def test_what_leads_inside_or_is_no_https_is_refused(url: str) -> None:
    assert not is_public_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://api.example.com:8443/hook?a=b#c",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]:443/",
    ],
)
def test_a_public_host_is_allowed(url: str) -> None:
    assert is_public_url(url)


def test_as_a_field_it_refuses_the_payload_without_repeating_it() -> None:
    mounted = Mounted(payload_schemas={"webhook.send": Callback})

    good = mounted.post("/jobs", {"job_type": "webhook.send", "payload": {"url": "https://example.com/hook"}})
    bad = mounted.post("/jobs", {"job_type": "webhook.send", "payload": {"url": "https://169.254.169.254/planted"}})

    assert (good.status_code, bad.status_code) == (202, 400)
    assert list(bad.get_json(force=True)["errors"]) == ["payload.url"]
    assert "planted" not in bad.text
