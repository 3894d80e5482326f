"""What README.md and the pages in docs/ show is run.

The ``python`` blocks of a page are one program, in their order. Its shell blocks (``sh``, ``console``) each have an
HTML comment above it that says what becomes of them: ``<!-- run -->``, or ``<!-- not run: reason -->``, which a
``python`` block may have too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"sh", "console", "bash", "shell"}
SECONDS = 100
FENCE = re.compile(r"^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (?P<mark>run|not run: .+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int  # of the first line of code
    mark: str | None

    @property
    def excluded(self) -> bool:
        return self.mark is not None and self.mark.startswith("not run")


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [_block(text, found) for found in FENCE.finditer(text)]


def _block(text: str, found: re.Match[str]) -> Block:
    mark = MARK.search(text, 0, found.start())
    return Block(
        language=found["language"],
        code=found["code"],
        line=text.count("\n", 0, found.start("code")) + 1,
        mark=mark and mark["mark"],
    )


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in SHELL]


def commands(block: Block) -> str:
    """Return what a console block's user types; the rest of it is what the machine answers."""
    if block.language != "console":
        return block.code
    return "\n".join(line.removeprefix("$ ") for line in block.code.splitlines() if line.startswith("$ "))


def test_the_readme_shows_python_code() -> None:
    assert [block for block in blocks(ROOT / "README.md") if block.language == "python"]


@each_page
def test_the_python_blocks_run_as_one_program(page: Path, tmp_path: Path) -> None:
    program = tmp_path / f"{page.stem}.py"
    # Each line stands where it stands on the page, so that a traceback names its line there.
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and not block.excluded:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    program.write_text("\n".join(lines) + "\n")

    _run([sys.executable, str(program)], tmp_path)


@each_page
def test_every_shell_block_says_whether_it_is_run(page: Path) -> None:
    unmarked = [f"{page.name}:{block.line}" for block in shell_blocks(page) if block.mark is None]
    assert not unmarked, "write <!-- run --> or <!-- not run: reason --> on the line above these blocks"


@each_page
def test_the_shell_blocks_marked_so_run(page: Path) -> None:
    for block in shell_blocks(page):
        if block.mark == "run":
            _run(["bash", "-euo", "pipefail", "-c", commands(block)], ROOT)


def _run(command: list[str], directory: Path) -> None:
    # The interpreter's own directory first: a reader has activated .venv.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=directory,
        # The broker in this process: what README.md creates is not left in anybody's queue.
        env={**os.environ, "PATH": path, "BROKER_URL": "portico-memory://"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
