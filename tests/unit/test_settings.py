"""Settings are read from Celery's configuration, and one that could not work is refused with what to do instead."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.settings import PorticoSettings, read_settings
from portico_celery.exceptions import ConfigurationError

STORE = "sqlite:///jobs.db"

# A value for each setting that is not its default.
EVERY_SETTING: dict[str, Any] = {
    "store_url": STORE,
    "retry_base_delay": 3.5,
    "retry_max_delay": 60,
    "retry_jitter": 0.5,
    "lease_seconds": 12,
    "sweep_seconds": 0.25,
    "knock_seconds": 7,
    "time_limit": 90,
    "on_failure_time_limit": 4,
    "max_payload_bytes": 1_000,
    "result_ttl": 3_600,
    "shutdown_grace": 8,
    "unknown_job_type_seconds": 60,
    "allow": ("pickle",),
    "schedules": "schedules.toml",
    "redact": ("iban",),
}


def configured(**settings: Any) -> Celery:
    app = Celery("configured", set_as_current=False)
    app.conf.update(settings)
    return app


def with_store(**settings: Any) -> Celery:
    return configured(portico_store_url=STORE, **settings)


def test_the_list_of_settings_here_is_complete() -> None:
    assert set(EVERY_SETTING) == {field.name for field in dataclasses.fields(PorticoSettings)}


def test_every_setting_is_read() -> None:
    app = configured(**{f"portico_{name}": value for name, value in EVERY_SETTING.items()})
    assert dataclasses.asdict(read_settings(app)) == EVERY_SETTING


def test_a_configuration_module_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("shop_celeryconfig")
    vars(module).update({f"portico_{name}": value for name, value in EVERY_SETTING.items()})
    app = Celery("configured", set_as_current=False)
    app.config_from_object(module)
    assert dataclasses.asdict(read_settings(app)) == EVERY_SETTING


def test_a_namespace_is_stripped_as_in_django() -> None:
    module = ModuleType("shop_settings")
    vars(module).update({f"CELERY_PORTICO_{name.upper()}": value for name, value in EVERY_SETTING.items()})
    module.INSTALLED_APPS = ["shop"]  # type: ignore[attr-defined]  # what else there is in a Django settings module
    app = Celery("configured", set_as_current=False)
    app.config_from_object(module, namespace="CELERY")
    assert dataclasses.asdict(read_settings(app)) == EVERY_SETTING


def test_a_setting_that_is_not_given_has_its_default() -> None:
    assert read_settings(with_store()) == PorticoSettings(store_url=STORE)


def test_settings_given_after_the_app_was_attached_are_read() -> None:
    app = Celery("configured", set_as_current=False)
    portico = PorticoCelery(app)
    app.conf.portico_store_url = STORE
    app.conf.portico_lease_seconds = 5
    assert portico.settings == PorticoSettings(store_url=STORE, lease_seconds=5)


def test_an_unknown_setting_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown setting portico_lease_second: did you mean portico_lease_seconds\?"
    ):
        read_settings(with_store(portico_lease_second=5))


def test_an_unknown_setting_that_resembles_none_is_refused_with_the_list_of_all() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting portico_zebra") as refused:
        read_settings(with_store(portico_zebra=1))
    assert all(f"portico_{name}" in str(refused.value) for name in EVERY_SETTING)


def test_an_unknown_setting_of_a_namespace_is_refused() -> None:
    module = ModuleType("shop_settings")
    vars(module).update({"CELERY_PORTICO_STORE_URL": STORE, "CELERY_PORTICO_RETRY_JITER": 0.1})
    app = Celery("configured", set_as_current=False)
    app.config_from_object(module, namespace="CELERY")
    with pytest.raises(ConfigurationError, match="did you mean portico_retry_jitter"):
        read_settings(app)


def test_an_upper_case_setting_that_celery_would_not_read_is_refused_with_how_to_write_it() -> None:
    module = ModuleType("shop_celeryconfig")
    vars(module).update({"portico_store_url": STORE, "PORTICO_LEASE_SECONDS": 5})
    app = Celery("configured", set_as_current=False)
    app.config_from_object(module)
    with pytest.raises(ConfigurationError, match=r"PORTICO_LEASE_SECONDS.*write it portico_lease_seconds"):
        read_settings(app)


def test_a_setting_without_the_namespace_that_all_others_have_is_refused_with_how_to_write_it() -> None:
    module = ModuleType("shop_settings")
    vars(module).update({"CELERY_PORTICO_STORE_URL": STORE, "PORTICO_LEASE_SECONDS": 5})
    app = Celery("configured", set_as_current=False)
    app.config_from_object(module, namespace="CELERY")
    with pytest.raises(ConfigurationError, match=r"PORTICO_LEASE_SECONDS.*write it CELERY_PORTICO_LEASE_SECONDS"):
        read_settings(app)


def test_settings_of_others_are_none_of_our_business() -> None:
    app = with_store(shop_portico_greeting="hello", PORTICOS=3)
    assert read_settings(app) == PorticoSettings(store_url=STORE)


SECONDS = (
    "retry_base_delay",
    "retry_max_delay",
    "lease_seconds",
    "sweep_seconds",
    "knock_seconds",
    "result_ttl",
    "time_limit",
    "on_failure_time_limit",
)
NO_SECONDS = (0, -1, "30", True, float("inf"), float("nan"), [30])
WRONG_VALUES: list[tuple[str, Any]] = [
    *((name, value) for name in SECONDS for value in NO_SECONDS),
    *((name, None) for name in SECONDS if name != "time_limit"),
    *(("store_url", value) for value in ("", None, 5, b"sqlite:///jobs.db")),
    *(("retry_jitter", value) for value in (-0.1, 1.1, "0.5", None, True)),
    *(("max_payload_bytes", value) for value in (0, -1, 1.5, "1000", None, True)),
    *(("redact", value) for value in ("password", None, [1], {"password": True})),
]


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_the_setting_and_the_value(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_settings(configured(**{"portico_store_url": STORE, f"portico_{name}": value}))
    assert f"portico_{name} must be " in str(refused.value)
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("retry_jitter", 0), ("retry_jitter", 1), ("time_limit", None), ("time_limit", 0.5), ("redact", [])],
)
def test_a_value_at_the_edge_is_taken(name: str, value: Any) -> None:
    settings = read_settings(with_store(**{f"portico_{name}": value}))
    assert getattr(settings, name) == (tuple(value) if isinstance(value, list) else value)


def test_a_missing_store_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_settings(configured())
    assert "portico_store_url is not set" in str(refused.value)
    assert "PorticoCelery(app, store=...)" in str(refused.value)
    assert "portico_store_url = 'sqlite:///jobs.db'" in str(refused.value)


def test_the_store_argument_wins_over_the_setting() -> None:
    app = configured(portico_store_url="sqlite:///configured.db")
    portico = PorticoCelery(app, store="sqlite:///argument.db")
    assert portico.settings.store_url == "sqlite:///argument.db"


def test_the_store_argument_is_enough() -> None:
    portico = PorticoCelery(configured(), store=STORE)
    assert portico.settings.store_url == STORE


def test_a_wrong_store_argument_is_refused() -> None:
    portico = PorticoCelery(configured(), store="")
    with pytest.raises(ConfigurationError, match="portico_store_url must be a URL"):
        portico.check()


@pytest.mark.parametrize("namespace", [None, "SHOP"])
def test_celery_shows_the_store_s_url_to_nobody(namespace: str | None) -> None:
    app = Celery("shown", set_as_current=False, broker="memory://")
    name = "portico_store_url" if namespace is None else f"{namespace}_PORTICO_STORE_URL"
    app.config_from_object({name: "postgresql://shop:open-sesame@db/jobs"}, namespace=namespace)

    portico = PorticoCelery(app)

    # What inspect conf (and so Flower) and celery report show.
    shown = [str(app.conf.table(with_defaults=True)), app.conf.humanize(with_defaults=True), app.bugreport()]
    assert all("********" in text and "open-sesame" not in text for text in shown)
    assert portico.settings.store_url == "postgresql://shop:open-sesame@db/jobs"
    assert "worker_concurrency" in shown[0]
