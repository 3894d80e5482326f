"""Signatures: what verifies, and that all else is refused in the same way."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification import (
    ApiKey,
    ApiKeys,
    GitHub,
    HmacSignature,
    NotVerified,
    SenderScheme,
    Slack,
    StandardWebhooks,
    Stripe,
)
from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import make_key, secret_hash
from portico_celery.adapters.job_trigger.webhook_trigger.verification.standard_webhooks import signature_header
from portico_celery.exceptions import ConfigurationError
from tests.unit.webhook.fuzzing import fuzzed
from tests.unit.webhook.mounted import hex_hmac

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes here!").decode()
NOW = datetime.fromtimestamp(1614265330, UTC)
BODY = b'{"test": 2432232314}'
KNOWN = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
STANDARD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": KNOWN,
}
STRIPE = {"stripe-signature": f"t=1614265330,v1={hex_hmac('s', b'1614265330.' + BODY)},v0=00"}
SLACK = {
    "x-slack-request-timestamp": "1614265330",
    "x-slack-signature": f"v0={hex_hmac('s', b'v0:1614265330:' + BODY)}",
}
GITHUB = {"x-hub-signature-256": f"sha256={hex_hmac('s', BODY)}", "x-hub-signature": "sha1=00"}
GENERIC = {
    "x-signature": base64.b64encode(bytes.fromhex(hex_hmac("s", b"1614265330." + BODY))).decode(),
    "x-time": "1614265330",
}


def generic(secrets: str | list[str]) -> HmacSignature:
    return HmacSignature(secrets=secrets, signature_header="X-Signature", encoding="base64", timestamp_header="X-Time")


SCHEMES: dict[str, tuple[Callable[[str | list[str]], SenderScheme], str, dict[str, str]]] = {
    "standard": (StandardWebhooks, SECRET, STANDARD),
    "stripe": (Stripe, "s", STRIPE),
    "slack": (Slack, "s", SLACK),
    "github": (GitHub, "s", GITHUB),
    "generic": (generic, "s", GENERIC),
}
SHOPS = ApiKeys([ApiKey(id="0a1b2c3d", caller="shop", sha256=secret_hash("s" * 43))])
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def request_with(headers: dict[str, str], body: bytes = BODY) -> HttpRequest:
    return HttpRequest(method="POST", headers=headers, body=body, remote_address="", request_id="1")


def refused(scheme: SenderScheme, headers: dict[str, str], body: bytes = BODY, now: datetime = NOW) -> bool:
    with pytest.raises(NotVerified):
        scheme.verify(request_with(headers, body), now=now)
    return True


def test_the_known_answer_of_standard_webhooks() -> None:
    assert signature_header(SECRET, STANDARD["webhook-id"], "1614265330", BODY) == KNOWN
    StandardWebhooks(SECRET).verify(request_with(STANDARD), now=NOW)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_what_the_public_package_signs_verifies(document: dict[str, object]) -> None:
    body = json.dumps(document)
    signature = Webhook(SECRET).sign("msg_1", NOW, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "1614265330", "webhook-signature": signature}

    StandardWebhooks(SECRET).verify(request_with(headers, body.encode()), now=NOW)


@each_scheme
def test_what_a_sender_signs_verifies(scheme: str) -> None:
    make, secret, headers = SCHEMES[scheme]
    make(secret).verify(request_with(headers), now=NOW)


@each_scheme
def test_during_a_rotation_both_secrets_count_and_afterwards_the_old_one_no_longer(scheme: str) -> None:
    make, secret, headers = SCHEMES[scheme]
    new = OTHER if scheme == "standard" else "new"

    make([new, secret]).verify(request_with(headers), now=NOW)
    make([secret, new]).verify(request_with(headers), now=NOW)
    assert refused(make(new), headers)


@each_scheme
@pytest.mark.parametrize("body", [BODY + b" ", BODY[:-1], b"", b'{"test":2432232314}', b"\xff"])
def test_another_body_is_refused(scheme: str, body: bytes) -> None:
    make, secret, headers = SCHEMES[scheme]
    assert refused(make(secret), headers, body)


@each_scheme
def test_without_any_one_of_its_headers_a_request_is_refused(scheme: str) -> None:
    make, secret, headers = SCHEMES[scheme]
    for name in headers.keys() - {"x-hub-signature"}:
        assert refused(make(secret), {other: value for other, value in headers.items() if other != name})


@each_scheme
@pytest.mark.parametrize("seconds", [301, -301])
def test_beyond_five_minutes_a_signature_that_names_its_time_is_refused(scheme: str, seconds: int) -> None:
    make, secret, headers = SCHEMES[scheme]
    later = datetime.fromtimestamp(1614265330 + seconds, UTC)
    if scheme == "github":
        make(secret).verify(request_with(headers), now=later)
    else:
        assert refused(make(secret), headers, now=later)
        make(secret).verify(request_with(headers), now=datetime.fromtimestamp(1614265330 + seconds * 300 // 301, UTC))


@pytest.mark.parametrize(
    "timestamp",
    ["1614265330.5", " 1614265330", "1_614265330", "nan", "1e400", "1" * 40, "-1", "", "\u0661\u0666"],
)
@pytest.mark.parametrize("scheme", ["standard", "stripe", "slack", "generic"])
def test_a_timestamp_that_is_not_digits_alone_is_refused(scheme: str, timestamp: str) -> None:
    make, secret, headers = SCHEMES[scheme]
    assert refused(make(secret), {name: value.replace("1614265330", timestamp) for name, value in headers.items()})


@pytest.mark.parametrize(
    "signature",
    [
        "v1",
        "",
        " ",
        "v1,a,b",
        f"{KNOWN}  {KNOWN}",
        "v1,!!!!",
        "v1,é",
        KNOWN.replace("g0hM", "g0hM!!"),
        KNOWN.replace("v1", "v2"),
        KNOWN.replace("v1", "none"),
        KNOWN.lower(),
        " ".join([KNOWN] * 9),
        " ".join(["v1,AAAA"] * 10_000),
    ],
)
def test_a_malformed_standard_signature_is_refused(signature: str) -> None:
    assert refused(StandardWebhooks(SECRET), {**STANDARD, "webhook-signature": signature})


def test_one_good_signature_among_others_is_enough() -> None:
    signatures = f"v1a,abc v1,AAAA {KNOWN}"
    StandardWebhooks(SECRET).verify(request_with({**STANDARD, "webhook-signature": signatures}), now=NOW)


@pytest.mark.parametrize("webhook_id", ["msg.1", "", "x" * 65, "msg 1", "other"])
def test_another_id_or_a_malformed_one_is_refused(webhook_id: str) -> None:
    assert refused(StandardWebhooks(SECRET), {**STANDARD, "webhook-id": webhook_id})


def test_weaker_signatures_beside_or_instead_count_for_nothing() -> None:
    assert refused(GitHub("s"), {"x-hub-signature": GITHUB["x-hub-signature-256"].replace("sha256", "sha1")})
    assert refused(Stripe("s"), {"stripe-signature": STRIPE["stripe-signature"].replace("v1=", "v0=")})
    assert refused(Slack("s"), {**SLACK, "x-slack-signature": SLACK["x-slack-signature"].replace("v0", "v1")})


@each_scheme
@fuzzed
@given(noise=st.text(st.characters(codec="latin-1")), cut=st.integers(0, 80))
def test_noise_in_a_signature_is_refused_and_no_other_error(scheme: str, noise: str, cut: int) -> None:
    make, secret, headers = SCHEMES[scheme]
    name = next(one for one in headers if "signature" in one)
    changed = headers[name][:cut] + noise + headers[name][cut + len(noise) :]

    with suppress(NotVerified):
        make(secret).verify(request_with({**headers, name: changed}), now=NOW)


@fuzzed
@given(
    parts=st.lists(
        st.sampled_from(
            [KNOWN, "v1", "v0", "v1=", "t=", "t=1614265330", ",", "=", " ", "sha256=", "g0hM", "00", "é", "\0"]
        )
        | st.text(st.characters(codec="latin-1"), max_size=4),
        max_size=12,
    ),
    stamp=st.just("1614265330") | st.text(st.characters(codec="latin-1"), max_size=12),
)
def test_headers_put_together_from_parts_of_good_ones_are_refused_and_no_other_error(
    parts: list[str], stamp: str
) -> None:
    value = "".join(parts)
    for make, secret, headers in SCHEMES.values():
        changed = {name: value if "signature" in name else stamp for name in headers}
        with suppress(NotVerified):
            make(secret).verify(request_with({**changed, "webhook-id": "msg_1"}, b"another body"), now=NOW)
            raise AssertionError(f"{changed} passed")


@fuzzed
@given(
    st.text(st.characters(codec="latin-1")) | st.from_regex(r"Bearer pk_[a-z0-9]{8}_[A-Za-z0-9_-]{32}", fullmatch=True)
)
def test_whatever_the_authorization_it_is_refused_and_no_other_error(authorization: str) -> None:
    with pytest.raises(NotVerified):
        SHOPS.authenticate(bearer(authorization), now=NOW)


UNFIT: dict[str, Callable[[], object]] = {
    "short": lambda: StandardWebhooks("whsec_AAAA"),
    "no base64": lambda: StandardWebhooks("whsec_???"),
    "none": lambda: StandardWebhooks([]),
    "empty": lambda: GitHub(""),
    "weak": lambda: HmacSignature(secrets="s", signature_header="x", algorithm="md5"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_secret_that_protects_nothing_is_refused_at_start(unfit: str) -> None:
    with pytest.raises(ConfigurationError):
        UNFIT[unfit]()


def bearer(text: str) -> HttpRequest:
    return request_with({"authorization": text})


def test_a_key_opens_for_its_caller_until_it_expires() -> None:
    text, key_id, sha256 = make_key()
    keys = ApiKeys([ApiKey(id=key_id, caller="shop", sha256=sha256, expires_at=NOW)])
    before = datetime.fromtimestamp(NOW.timestamp() - 1, UTC)

    assert keys.authenticate(bearer(f"Bearer {text}"), now=before).caller == "shop"
    with pytest.raises(NotVerified):
        keys.authenticate(bearer(f"Bearer {text}"), now=NOW)


def test_no_other_key_opens() -> None:
    text, key_id, sha256 = make_key()
    keys = ApiKeys([ApiKey(id=key_id, caller="shop", sha256=sha256)])
    other, *_ = make_key()

    for wrong in (
        "",
        "Bearer",
        f"Basic {text}",
        f"Bearer {text} ",
        f"Bearer {text[:-1]}",
        f"Bearer {other}",
        text,
        f"Bearer pk_{key_id}_{other[12:]}",
        "Bearer é",
    ):
        with pytest.raises(NotVerified):
            keys.authenticate(bearer(wrong), now=NOW)


def test_the_secret_itself_is_kept_nowhere() -> None:
    text, key_id, sha256 = make_key()
    secret = text.split("_", 2)[2]

    assert sha256 == secret_hash(secret)
    assert secret not in repr(ApiKey(id=key_id, caller="shop", sha256=sha256))
    assert "planted" not in repr(generic("planted"))


def test_a_caller_has_two_active_keys_and_no_third() -> None:
    keys = [ApiKey(id=str(number), caller="shop", sha256="0" * 64) for number in range(2)]
    expired = ApiKey(id="old", caller="shop", sha256="0" * 64, expires_at=datetime(2020, 1, 1, tzinfo=UTC))

    ApiKeys([*keys, expired])
    with pytest.raises(ConfigurationError, match="more than 2 active API keys for shop"):
        ApiKeys([*keys, ApiKey(id="third", caller="shop", sha256="0" * 64)])
    with pytest.raises(ConfigurationError, match="same id"):
        ApiKeys([keys[0], keys[0]])
