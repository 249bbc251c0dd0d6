"""The Procfile reader: what it takes, and that its errors name the line."""

from pathlib import Path

import pytest

from engine.stack.procfile import Process, ProcfileError, main, parse, read


def test_processes_come_in_their_order_without_comments_and_blank_lines() -> None:
    text = "# the workers\n\nbeat: celery -A tasks.app beat\n  orders-1 :  celery worker -Q 'a b'  \n"
    assert parse(text) == [
        Process("beat", ("celery", "-A", "tasks.app", "beat")),
        Process("orders-1", ("celery", "worker", "-Q", "a b")),
    ]


def test_a_colon_in_the_command_stays() -> None:
    assert parse("api: uvicorn engine.api:app") == [Process("api", ("uvicorn", "engine.api:app"))]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("no colon here", "expected 'name: command'"),
        ("two words: run", "'two words' is no name"),
        (": run", "'' is no name"),
        ("1st: run", "'1st' is no name"),
        ("web:", "web has no command"),
        ("web: run 'open", "No closing quotation"),
        ("web: run && other", "'&&' means something to a shell only"),
        ("web: run > log", "'>' means something to a shell only"),
        ("web: run 2>&1", "'2>&1' means something to a shell only"),
        ("web: run ; other", "';' means something to a shell only"),
        ("web: run # why", "'#' means something to a shell only"),
        ("beat: again", "a second process named 'beat'"),
    ],
)
def test_an_error_names_the_line(line: str, complaint: str) -> None:
    with pytest.raises(ProcfileError) as caught:
        parse(f"beat: celery beat\n\n{line}\n", source="Procfile")
    assert str(caught.value).startswith("Procfile, line 3: ")
    assert complaint in str(caught.value)


def test_a_procfile_without_processes_is_an_error() -> None:
    with pytest.raises(ProcfileError, match="no process"):
        parse("# nothing\n")


def test_a_missing_procfile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProcfileError, match=r"cannot read .*: No such file"):
        read(tmp_path / "Procfile")


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Procfile"
    path.write_text("beat: celery beat\napi: uvicorn x:y\n")
    assert main(["web", str(path)]) == 1
    assert capsys.readouterr().err == "no process named 'web'; there are: beat, api\n"
