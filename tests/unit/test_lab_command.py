import pytest

from lab.command import CommandError, run


def test_returns_standard_output():
    assert run("cat", stdin="hello") == "hello"


def test_error_has_command_code_and_last_lines(tmp_path):
    script = "echo first; echo second >&2; exit 3"
    with pytest.raises(CommandError, match=r"exit code 3\n  first\n  second"):
        run("sh", "-c", script)
    log = tmp_path / "logs" / "step.log"
    with pytest.raises(CommandError, match=r"exit code 3 \(all of it in .*step.log\)\n  first\n  second"):
        run("sh", "-c", script, log=log)
    assert log.read_text() == "first\nsecond\n"


def test_missing_program_and_time_limit():
    with pytest.raises(CommandError, match="no-such-program: no such program"):
        run("no-such-program")
    with pytest.raises(CommandError, match=r"not done after 0.1 s"):
        run("sleep", "9", timeout=0.1)


def test_failure_can_be_allowed_and_environment_added():
    assert run("sh", "-c", "echo $COLOUR; exit 1", env={"COLOUR": "red"}, check=False) == "red\n"
