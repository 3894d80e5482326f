"""The Celery task that is generated for each registered handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from celery import Celery, Task

from portico_celery.adapters.celery.delivery import Delivery
from portico_celery.adapters.celery.job_end import JobHasEnded, tell
from portico_celery.adapters.celery.job_execution import JobExecution
from portico_celery.exceptions import ConfigurationError, JobFailed

if TYPE_CHECKING:
    TaskBase = Task[..., Any]  # generic in the type stubs only
else:
    TaskBase = Task

_ROUTING = frozenset({"queue", "exchange", "routing_key"})


class JobTask(TaskBase):
    """Runs one job of its type. What its guarantees need is pinned here, whatever the app's own settings say."""

    abstract = True
    Request = "portico_celery.adapters.celery.job_request:JobRequest"
    # The job's own max_retries rules, not Celery's.
    max_retries = None
    autoretry_for = ()
    # When a message is acknowledged, JobRequest decides: at the latest after its run, whatever came of it.
    acks_late = True
    acks_on_failure_or_timeout = True
    acks_on_failure = True
    acks_on_timeout = True
    # A lost worker is the lease's affair: the broker would bring the message back for ever, uncounted.
    reject_on_worker_lost = False
    retry_on_worker_lost = False
    # The row is the state; Celery's result backend is for canvas alone.
    ignore_result = True
    # An expected failure is logged in one line, without a traceback.
    throws = (JobFailed,)
    # The payload is the handler's to check.
    typing = False

    execution: ClassVar[JobExecution]
    #: Where its jobs go by default, if that was said.
    job_queue: ClassVar[str | None] = None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run; positional-only, since a payload may have a key ``self``."""
        return self.run(*args, **kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        """Send a message, as a plain Celery client does: to the queue of the type's jobs, unless it is told another."""
        if self.job_queue is not None and not _ROUTING & options.keys():
            options["queue"] = self.job_queue
        return super().apply_async(args, kwargs, *rest, **options)

    def run(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the job that a message is about."""
        request = self.request
        delivery = Delivery(
            job_type=self.name,
            task_id=str(request.id),
            worker_name=str(request.hostname),
            request=dict(vars(request)),
            args=args,
            kwargs=kwargs,
        )
        try:
            return self.execution.execute(delivery)
        except JobHasEnded as ended:
            end = ended.end
        return tell(self, end)


def define_task(
    app: Celery, job_type: str, execution: JobExecution, *, ignore_result: bool, queue: str | None = None
) -> None:
    """Have the app make the task of a job type, when it makes its own; ``queue`` is where its own calls go."""

    def run(self: JobTask, /, *args: Any, **kwargs: Any) -> Any:
        return JobTask.run(self, *args, **kwargs)

    define: Any = app.task  # the type stubs know the decorator's form only
    define(
        run,
        name=job_type,
        base=JobTask,
        bind=True,
        shared=False,
        execution=execution,
        ignore_result=ignore_result,
        job_queue=queue,
    )


def check_task(app: Celery, job_type: str) -> None:
    """Raise ConfigurationError where the name of a job type is taken by another task of the app."""
    task = app.tasks.get(job_type)
    if task is not None and not isinstance(task, JobTask):
        raise ConfigurationError(
            f"{job_type!r} is the name of a Celery task of this app, {type(task).__module__}.{type(task).__name__}: "
            "give the job type or the task another name"
        )
