"""Every kind of bad request, against the server as it is deployed. Nothing of it may leave anything behind."""

from __future__ import annotations

import json
import socket
import time
from uuid import uuid4

from tests.abuse.case import JOBS, JSON, REPORT, body, create
from tests.abuse.cases import all_cases
from tests.abuse.figures import Record
from tests.abuse.outcome import assert_clean, outcome_of
from tests.abuse.target import Target
from tests.waiting import eventually

#: All but 49 to 52, each of which needs a service of its own: test_too_often, test_full_queue, test_store_away and
#: test_broker_away.
ROWS = {*range(1, 49), *range(53, 56)}


def test_every_bad_request_gets_its_status_and_leaves_nothing_behind(target: Target, record_property: Record) -> None:
    before = target.job_ids()

    outcome = outcome_of(all_cases(), target)

    assert outcome.rows == ROWS
    assert outcome.cases >= 150
    assert_clean(outcome, target, before, record_property)


def test_all_failed_authentications_look_the_same(target: Target) -> None:
    keys = [target.expired, (target.as_shop[0], target.as_shop[1][:-4] + "AAAA"), ("X-Nothing", "x")]
    answers = [target.server.send("POST", JOBS, body(REPORT), [JSON, key]).document for key in keys]

    assert len({json.dumps({**answer, "request_id": ""}) for answer in answers}) == 1


def test_clients_that_drip_are_cut_off_and_the_others_served(target: Target) -> None:
    head = f"POST {JOBS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode()
    slow = [socket.create_connection(("127.0.0.1", target.server.port), timeout=30) for _ in range(10)]
    try:
        for connection in slow:
            connection.sendall(head)
        assert create(body(REPORT))(target).status == 202
        began = time.monotonic()
        endings = [connection.recv(12) for connection in slow]
        assert time.monotonic() - began < 25
        assert {ending[9:12] for ending in endings} <= {b"408", b""}
    finally:
        for connection in slow:
            connection.close()


def test_a_line_of_the_log_stays_one_line(target: Target) -> None:
    marked = uuid4().hex
    create(body({f"{marked}\n\r\x1b\u2028 event=forged": 1, "payload": {}}))(target)

    lines = [line for line in target.server.log.splitlines() if marked in line]
    assert len(lines) == 1
    assert "event=invalid_webhook_request" in lines[0]
    assert "\x1b" not in lines[0]


def test_a_path_is_logged_as_it_travels(target: Target) -> None:
    marked = uuid4().hex
    target.server.send("GET", f"/{marked}%0d%0aforged%20line%1b%5b31m%ff?secret=1")

    eventually(lambda: marked in target.server.log, describe="the line of the request")
    (line,) = [line for line in target.server.log.splitlines() if f"GET /{marked}" in line]
    assert f'"GET /{marked}%0D%0Aforged%20line%1B%5B31m%FF HTTP/1.1" 404' in line
    assert "secret" not in line


def test_the_log_says_which_keys_are_in_use(target: Target) -> None:
    assert create(body(REPORT))(target).status == 202

    eventually(lambda: "event=api_key_used" in target.server.log, describe="the use of a key")
    assert all("caller=" in line for line in target.server.log.splitlines() if "event=api_key_used" in line)
