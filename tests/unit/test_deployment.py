"""The files people deploy and read agree with the code: process lists, commands in the docs, settings."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from engine.cli import app
from engine.stack import procfile

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SERVERS = {"redis", "postgres"}


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_every_process_of_the_procfile_is_a_service_of_the_compose_file() -> None:
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    assert services - SERVERS == {process.name for process in procfile.read(ROOT / "Procfile")}


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_every_make_target_the_docs_name_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {line.split()[1] for line in shell_lines(document.read_text()) if line.startswith("make ")}
    assert named
    assert named <= targets


def test_every_engine_command_the_readme_names_is_one() -> None:
    text = (ROOT / "README.md").read_text()
    calls = re.findall(r"\.venv/bin/engine ((?:[a-z-]+ ?)+)", text)
    assert calls
    for call in calls:
        result = CliRunner().invoke(app, [*call.split(), "--help"])
        assert result.exit_code == 0, f"engine {call}: {result.output}"


def test_every_file_the_readme_links_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_says_what_it_does() -> None:
    group = get_command(app)
    commands = getattr(group, "commands", {})
    assert commands
    assert [name for name, command in commands.items() if not (command.help or "").strip()] == []
