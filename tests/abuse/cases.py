"""All of them."""

from __future__ import annotations

from tests.abuse.body_cases import field_cases, idempotency_cases, job_cases, json_cases
from tests.abuse.case import Case
from tests.abuse.signature_cases import key_cases, other_signature_cases, standard_cases
from tests.abuse.transport_cases import framing_cases, transport_cases

_GROUPS = (
    transport_cases,
    framing_cases,
    key_cases,
    standard_cases,
    other_signature_cases,
    idempotency_cases,
    json_cases,
    field_cases,
    job_cases,
)


def all_cases() -> list[Case]:
    """Return every case."""
    return [case for group in _GROUPS for case in group()]
