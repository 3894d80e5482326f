"""F14: handlers that run for five leases, and hold up their event loop, or the whole interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT
from tests.faults.system import a_system
from tests.faults.verdict import judge, stale_ends

pytestmark = pytest.mark.timeout(TIMEOUT)

LEASE = 3.0
WAYS = ("await", "sleep", "loop")
OF_NO_HELP = "interpreter held"  # no thread can renew a lease then


def test_a_handler_of_any_length_starts_once_and_one_that_stops_its_process_is_fenced_off(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, sqlite_store, tmp_path, lease_seconds=LEASE) as system:
        system.workers.start("prefork", 5)
        payloads = {how: {"how": how, "seconds": 5 * LEASE} for how in (*WAYS, OF_NO_HELP)}
        jobs = {how: system.create("fault.block", payload, max_retries=3) for how, payload in payloads.items()}
        system.wait_until_all_ended(60)
        # At leisure, so that the first run of the fenced job comes to its end, too.
        system.workers.started[0].stop()
        verdict, counts, late = judge(system), system.ledger.start_counts(), stale_ends(system.ledger)
        records = {how: system.record(job_id) for how, job_id in jobs.items()}
    starts = {how: counts[str(job_id)] for how, job_id in jobs.items()}
    double = records[OF_NO_HELP].result_data != {"attempt": 2}
    report(
        "F14",
        starts=",".join(str(starts[how]) for how in WAYS),
        gil_starts=starts[OF_NO_HELP],
        stale_writes_refused=late,
        double_terminal=int(double),
        lost=verdict.lost,
    )
    assert [starts[how] for how in WAYS] == [1, 1, 1]
    assert starts[OF_NO_HELP] == 2
    assert (verdict.ok, verdict.lost, verdict.unexpected, late) == (4, 0, 0, 1)
    assert not double
