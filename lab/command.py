"""Running programs: output to a log, and an error that says what went wrong."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path


class CommandError(RuntimeError):
    """A program failed; the message has its command line, exit code and last lines of output."""


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> str:
    """Run a program and return its standard output.

    command: the program and its arguments, never a shell string.
    env: variables set on top of our own environment.
    stdin: text for its standard input; secrets go here, not into the command line.
    log: with a log file, everything it prints is appended there, and the return value is empty.
    check: raise CommandError when it ends with another code than 0.
    timeout: seconds after which it is killed; raises CommandError.
    """
    words = [str(word) for word in command]
    settings = {"cwd": cwd, "env": {**os.environ, **env} if env else None, "timeout": timeout, "text": True}
    try:
        if log is None:
            done = subprocess.run(words, input=stdin, capture_output=True, check=False, **settings)  # type: ignore[call-overload]
            output, tail = done.stdout, done.stdout + done.stderr
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                start = file.tell()
                done = subprocess.run(words, input=stdin, stdout=file, stderr=file, check=False, **settings)  # type: ignore[call-overload]
            output = ""
            tail = _since(log, start) if done.returncode else ""
    except FileNotFoundError as error:
        raise CommandError(f"{words[0]}: no such program on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{shlex.join(words)}: not done after {timeout:g} s") from error
    if check and done.returncode:
        where = f" (all of it in {log})" if log else ""
        lines = "\n  ".join(tail.strip().splitlines()[-15:])
        raise CommandError(f"{shlex.join(words)}: exit code {done.returncode}{where}\n  {lines}")
    return str(output)


def _since(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")
