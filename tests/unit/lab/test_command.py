import pytest

from lab.command import CommandError, run, run_logged

SCRIPT = "echo first; echo second >&2; exit 3"


def test_returns_standard_output():
    assert run("cat", stdin="hello") == "hello"


def test_error_has_command_code_and_last_lines():
    with pytest.raises(CommandError, match=r"exit code 3\n  first\n  second"):
        run("sh", "-c", SCRIPT)


def test_log_gets_everything_and_the_caller_every_line(tmp_path):
    log = tmp_path / "logs" / "step.log"
    lines: list[str] = []
    run_logged("echo", "zeroth", log=log)
    with pytest.raises(CommandError, match=r"exit code 3 \(all of it in .*step.log\)\n  first\n  second"):
        run_logged("sh", "-c", SCRIPT, log=log, on_line=lines.append)
    assert log.read_text() == "zeroth\nfirst\nsecond\n"
    assert lines == ["first", "second"]


def test_missing_program_and_time_limit(tmp_path):
    for call in (run, lambda program: run_logged(program, log=tmp_path / "log")):
        with pytest.raises(CommandError, match="no-such-program: no such program"):
            call("no-such-program")
    with pytest.raises(CommandError, match=r"not done after 0.1 s"):
        run("sleep", "9", timeout=0.1)


def test_failure_can_be_allowed_and_environment_added():
    assert run("sh", "-c", "echo $COLOUR; exit 1", env={"COLOUR": "red"}, check=False) == "red\n"
