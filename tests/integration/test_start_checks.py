"""What a worker refuses at its start, and what it warns of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.concurrency import prefork, solo, thread

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.adapters.celery.settings import PorticoSettings
from portico_celery.adapters.celery.start_checks import clock_skew, refuse_green_pool, refuse_pickle, unsafe_settings
from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.exceptions import ConfigurationError
from portico_celery.lifecycle import RetryPolicy
from tests.integration.small_app import SmallApp

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)

APP = """
from celery import Celery
from portico_celery import PorticoCelery
from portico_celery.ports.job import JobResult

class Handler:
    job_type = "email.send"
    async def handle(self, job):
        return JobResult(success=True)
    async def on_failure(self, job, error):
        pass

app = Celery("starting", broker="portico-memory://")
portico = PorticoCelery(app, store={store!r})
portico.register(Handler())
app.conf.update({conf!r})
"""


def small_app(directory: Path, **conf: Any) -> SmallApp:
    return SmallApp(directory, APP.format(store=f"sqlite:///{directory / 'jobs.db'}", conf=conf))


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("checked", broker="portico-memory://", set_as_current=False)
    yield app
    app.close()


class TestGreenPools:
    """Pools of greenlets, under which asyncio does not run as it should."""

    @pytest.mark.parametrize("name", ["gevent", "eventlet"])
    def test_they_are_refused_with_the_reason_and_what_to_use(self, name: str) -> None:
        pool = type("TaskPool", (), {"__module__": f"celery.concurrency.{name}"})
        with pytest.raises(ConfigurationError) as refused:
            refuse_green_pool(pool, ())
        assert f"the {name} pool patches the sockets and locks" in str(refused.value)
        assert "--pool=threads" in str(refused.value)
        assert f"portico_allow = ['{name}']" in str(refused.value)

    @pytest.mark.parametrize(("name", "other"), [("gevent", "eventlet"), ("eventlet", "gevent")])
    def test_one_is_taken_where_its_name_is_allowed(self, name: str, other: str) -> None:
        pool = type("TaskPool", (), {"__module__": f"celery.concurrency.{name}"})
        refuse_green_pool(pool, (name,))
        with pytest.raises(ConfigurationError):
            refuse_green_pool(pool, (other,))

    @pytest.mark.parametrize("pool", [prefork.TaskPool, solo.TaskPool, thread.TaskPool])
    def test_celerys_other_pools_are_taken(self, pool: type) -> None:
        refuse_green_pool(pool, ())

    @pytest.mark.parametrize("name", ["gevent", "eventlet"])
    def test_a_worker_with_such_a_pool_ends_with_the_reason(self, name: str, tmp_path: Path) -> None:
        # Celery's own module of that name needs a package that is not installed: another one of its kind.
        package = tmp_path / f"our_{name}"
        package.mkdir()
        (package / "__init__.py").write_text("from celery.concurrency.solo import TaskPool as Base\n")
        (package / "pool.py").write_text(f"from our_{name} import Base\n\nclass TaskPool(Base):\n    pass\n")
        ended = small_app(tmp_path, worker_pool=f"our_{name}.pool:TaskPool").worker_that_ends()
        assert ended.returncode != 0
        assert f"the {name} pool patches the sockets" in ended.output
        assert "--pool=threads" in ended.output


class TestPickle:
    """Messages in pickle, which run any code."""

    @pytest.mark.parametrize("accepted", [["json", "pickle"], ["application/x-python-serialize"], {"pickle"}])
    def test_an_app_that_takes_them_is_refused(self, app: Celery, accepted: Any) -> None:
        app.conf.accept_content = accepted
        with pytest.raises(ConfigurationError, match=r"accept_content has pickle.*portico_allow = \['pickle'\]"):
            refuse_pickle(app, ())

    def test_it_is_taken_where_that_is_allowed_by_name(self, app: Celery) -> None:
        app.conf.accept_content = ["json", "pickle"]
        refuse_pickle(app, ("pickle",))

    @pytest.mark.parametrize("accepted", [["json"], ["application/json", "yaml"], [], None])
    def test_other_content_is_taken(self, app: Celery, accepted: Any) -> None:
        app.conf.accept_content = accepted
        refuse_pickle(app, ())

    @pytest.fixture
    def as_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Celery itself refuses pickle to a worker of root's, who may run these tests."""
        monkeypatch.setenv("C_FORCE_ROOT", "1")

    @pytest.mark.usefixtures("as_root")
    def test_a_worker_that_takes_them_ends_with_the_reason(self, tmp_path: Path) -> None:
        ended = small_app(tmp_path, accept_content=["json", "pickle"]).worker_that_ends("-P", "solo")
        assert ended.returncode != 0
        assert "accept_content has pickle" in ended.output

    @pytest.mark.usefixtures("as_root")
    def test_a_worker_that_may_take_them_starts(self, tmp_path: Path) -> None:
        app = small_app(tmp_path, accept_content=["json", "pickle"], portico_allow=["pickle"])
        with app.worker("-P", "solo") as worker:
            assert worker.running


class TestGuest:
    """RabbitMQ's default user, whose password everybody knows."""

    @pytest.mark.parametrize(
        "url", ["amqp://guest:guest@rabbit.example:5672//", "amqp://rabbit.example//", "pyamqp://guest@10.0.0.7//"]
    )
    def test_a_broker_that_is_reached_by_it_from_afar_is_warned_of(self, app: Celery, url: str) -> None:
        app.conf.update(broker_url=url)
        [danger] = unsafe_settings(app)
        assert "default user guest" in danger
        assert "rabbitmqctl add_user" in danger

    @pytest.mark.parametrize(
        "url",
        [
            "amqp://guest:guest@localhost:5672//",
            "amqp://guest:guest@127.0.0.1//",
            "amqp://",
            "amqp://shop:secret@rabbit.example//",
            "redis://redis.example:6379/0",
        ],
    )
    def test_other_brokers_are_not(self, app: Celery, url: str) -> None:
        app.conf.update(broker_url=url)
        assert list(unsafe_settings(app)) == []

    def test_each_of_several_brokers_is_looked_at(self, app: Celery) -> None:
        app.conf.update(broker_url="amqp://shop:secret@one.example//;amqp://guest:guest@two.example//")
        [danger] = unsafe_settings(app)
        assert "two.example" in danger

    def test_the_password_is_not_told(self, app: Celery) -> None:
        app.conf.update(broker_url="amqp://guest:hunter2@rabbit.example//")
        [danger] = unsafe_settings(app)
        assert "hunter2" not in danger


class Handler:
    """The least of handlers."""

    job_type = "email.send"

    async def handle(self, job: Any) -> Any: ...
    async def on_failure(self, job: Any, error: Exception) -> None: ...


class TestEarlyAcknowledgement:
    """An annotation for all tasks that reaches the generated ones too."""

    def test_it_is_warned_of(self, app: Celery) -> None:
        app.conf.task_annotations = {"*": {"acks_late": False}}
        PorticoCelery(app, store="memory://").register(Handler())
        [danger] = unsafe_settings(app)
        assert "task_annotations sets acks_late=False for email.send" in danger

    def test_a_setting_for_tasks_that_say_nothing_themselves_does_no_harm(self, app: Celery) -> None:
        app.conf.task_acks_late = False
        PorticoCelery(app, store="memory://").register(Handler())
        assert app.tasks["email.send"].acks_late is True
        assert list(unsafe_settings(app)) == []


def test_a_worker_tells_of_what_is_unsafe_and_starts(tmp_path: Path) -> None:
    with small_app(tmp_path, task_annotations={"*": {"acks_late": False}}).worker("-P", "solo") as worker:
        assert "unsafe_setting" in worker.log
        assert "Leave job types out of the annotation" in worker.log


class TestClockSkew:
    """A worker and a store that don't agree on the time."""

    @pytest.mark.parametrize("seconds", [0, 4.9, -4.9])
    def test_a_small_one_is_passed_over(self, seconds: float) -> None:
        assert clock_skew(NOW, NOW + timedelta(seconds=seconds)) is None

    @pytest.mark.parametrize(("seconds", "said"), [(7, "7 s ahead of"), (-3600, "3600 s behind")])
    def test_another_is_told_with_its_size(self, seconds: float, said: str) -> None:
        danger = clock_skew(NOW, NOW + timedelta(seconds=seconds))
        assert danger is not None
        assert said in danger
        assert "NTP" in danger

    def test_a_worker_tells_of_it_when_it_begins_to_sweep(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        store = MemoryJobStore(now=lambda: datetime.now(UTC) - timedelta(minutes=5))
        io = ProcessIO(app, store, PorticoSettings(store_url="memory://"))
        sweep = Sweep(io, RetryPolicy())
        try:
            sweep.start()
        finally:
            sweep.stop()
            io.close()
        assert "300 s ahead of the job store's" in caplog.text
