"""Running programs: output to a log, and an error that says what went wrong."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path


class CommandError(RuntimeError):
    """A program failed; the message has its command line, exit code and last lines of output."""


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> str:
    """Run a program and return its standard output.

    command: the program and its arguments, never a shell string.
    env: variables set on top of our own environment.
    stdin: text for its standard input; secrets go here, not into the command line.
    check: raise CommandError when it ends with another code than 0.
    timeout: seconds after which it is killed; raises CommandError.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise CommandError(f"{words[0]}: no such program on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{shlex.join(words)}: not done after {timeout:g} s") from error
    if check and done.returncode:
        raise _failed(words, done.returncode, (done.stdout + done.stderr).strip().splitlines(), None)
    return done.stdout


def run_logged(
    *command: str | Path,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run a program that takes long: what it prints is appended to a log as it comes.

    log: the file; its folder is made.
    on_line: called with every line it prints, to show how far it is.
    Raises CommandError with its last lines when it ends with another code than 0.
    """
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=15)
    try:
        with (
            log.open("a") as file,
            subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, **env} if env else None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            for line in process.stdout or ():
                file.write(line)
                last.append(line.rstrip())
                if on_line:
                    on_line(line.strip())
    except FileNotFoundError as error:
        raise CommandError(f"{words[0]}: no such program on this machine") from error
    if process.returncode:
        raise _failed(words, process.returncode, list(last), log)


def _failed(words: list[str], code: int, lines: list[str], log: Path | None) -> CommandError:
    where = f" (all of it in {log})" if log else ""
    tail = "\n  ".join(lines[-15:])
    return CommandError(f"{shlex.join(words)}: exit code {code}{where}\n  {tail}")
