"""The application that the containers run. Put your own handlers in its place."""

import os

from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.ports.job import Job, JobResult
from portico_celery.ports.job_handler import JobHandler

QUEUE = os.environ.get("SHOP_QUEUE", "default")

app = Celery("shop", broker=os.environ["BROKER_URL"])
# So that Flower shows jobs that wait, too.
app.conf.task_send_sent_event = True


class BuildReport(JobHandler):
    """Says how many lines a report would have."""

    @property
    def job_type(self) -> str:
        return "report.build"

    async def handle(self, job: Job) -> JobResult:
        return JobResult(success=True, result_data={"lines": len(job.payload.get("orders", []))})

    async def on_failure(self, job: Job, error: Exception) -> None:
        print(f"job {job.id}: {error}")  # noqa: T201  # to the container's log


portico = PorticoCelery(app, store=os.environ["STORE_URL"])
portico.register(BuildReport(), queue=QUEUE)
