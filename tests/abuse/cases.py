"""All of them that one server can be asked."""

from __future__ import annotations

from tests.abuse.body_cases import field_cases, idempotency_cases, json_cases
from tests.abuse.case import Case, Story
from tests.abuse.job_cases import job_cases, others_cases
from tests.abuse.replay_cases import delivery_cases, key_use_cases
from tests.abuse.signature_cases import key_cases, other_signature_cases, standard_cases
from tests.abuse.transport_cases import framing_cases, transport_cases

_GROUPS = (
    transport_cases,
    framing_cases,
    key_cases,
    standard_cases,
    other_signature_cases,
    idempotency_cases,
    delivery_cases,
    key_use_cases,
    json_cases,
    field_cases,
    job_cases,
    others_cases,
)


def all_cases() -> list[Case | Story]:
    """Return every case but those that take a service away, or fill it up: rows 49 to 52 have tests of their own."""
    return [case for group in _GROUPS for case in group()]
