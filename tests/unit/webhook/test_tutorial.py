"""The page's way from zero to a verified GitHub webhook, with the application of the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^ *```(?P<language>\w+)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)

SEND = """
from shop import portico
from webhook_app import create_app
from webhook_app.signing import signed_headers

body = b'{"repository": {"full_name": "ann/shop"}, "after": "4b825dc"}'
headers = signed_headers("github", "s", body, timestamp="0", delivery_id="d1")
answer = create_app().test_client().post(
    "/webhooks/github", data=body, content_type="application/json", headers=headers
)
assert answer.status_code == 202, answer.text
job = portico.sync.get_job(answer.get_json()["job_id"])
print(job.job_type, job.queue_name, job.payload)
"""


def the_block(page: Path, language: str, mark: str) -> str:
    """Return the one block of a page that has the mark in it."""
    (code,) = [
        found["code"]
        for found in BLOCK.finditer(page.read_text())
        if found["language"] == language and mark in found["code"]
    ]
    return textwrap.dedent(code)


def send_a_push(directory: Path, shop: str) -> subprocess.CompletedProcess[str]:
    """Deliver a push to the webhook of an application, by the page's file."""
    (directory / "shop.py").write_text(shop)
    (directory / "webhook.toml").write_text(the_block(ROOT / "docs" / "webhooks.md", "toml", "celery_app"))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PORTICO_")}
    environment = {
        **inherited,
        "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}",
        "BROKER_URL": "portico-memory://",
        "GITHUB_SECRET": "s",
        "PORTICO_WEBHOOK_CONFIG": "webhook.toml",
    }
    command = [sys.executable, "-c", SEND]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_page_leads_from_the_application_of_the_readme_to_a_job_that_its_worker_consumes(tmp_path: Path) -> None:
    shop = the_block(ROOT / "README.md", "python", "class SendEmail")
    handler = the_block(ROOT / "docs" / "webhooks.md", "python", "class Pushed")

    done = send_a_push(tmp_path, shop + handler)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "repo.pushed default {'repository': 'ann/shop', 'commit': '4b825dc'}"


def test_without_the_handler_of_the_page_the_webhook_does_not_start(tmp_path: Path) -> None:
    done = send_a_push(tmp_path, the_block(ROOT / "README.md", "python", "class SendEmail"))

    assert done.returncode != 0
    assert "source 'github' creates repo.pushed, which is not known here" in done.stderr
