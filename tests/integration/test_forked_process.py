"""A process that forks while its own threads are busy with the job store gives its child a store that works.

Celery's prefork pool does so whenever it replaces a child: one that was killed, or that has done its number of jobs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.worker_process import ROOT

FORKS = 20

# In a program of its own, as forks and threads of the tests' process are no part of this.
PROGRAM = """
import os, signal, sys, threading
from celery import Celery
from portico_celery import PorticoCelery

portico = PorticoCelery(Celery("forking", broker="portico-memory://"), store=f"sqlite:///{sys.argv[1]}/jobs.db")
portico.declare("any.type")

def create(number):
    return portico.sync.create_job("any.type", {"number": number})

busy, done = threading.Event(), threading.Event()

def keep_busy():
    while not done.is_set():
        busy.wait()
        create(0)

threads = [threading.Thread(target=keep_busy) for _ in range(2)]
for thread in threads:
    thread.start()
ends = []
for number in range(int(sys.argv[2])):
    busy.set()
    create(number)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        create(number)
        os._exit(0)
    busy.clear()  # the file's lock is the child's to have: only the fork met a busy process
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if ends[-1]:
        break
done.set()
busy.set()
for thread in threads:
    thread.join()
portico.close()
print(*ends)
"""


def test_a_forked_child_can_use_the_store_whatever_its_parent_was_doing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(FORKS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    ends = [int(end) for end in done.stdout.split()]
    assert -signal.SIGALRM not in ends, f"child {len(ends)} of {FORKS} hung"
    assert ends == [0] * FORKS, done.stderr[-1000:]
