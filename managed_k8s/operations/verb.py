"""What makes a function a verb of salt-run: its arguments, what it prints, what it returns, its exit code."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import rich.markup
from rich.console import Console, RenderableType

from managed_k8s import errors
from managed_k8s.errors import RequestError

# What a verb returns: data for programs, what people read of it, and whether all is well.
Said = tuple[dict[str, Any], Iterable[RenderableType] | str, bool]

escape = rich.markup.escape

_GOES_ON = {"wait": "the reconciler goes on without you; come back: salt-run managed_k8s.wait"}
_HALFWAY = "what was begun is found by the next run; see: salt-run managed_k8s.status"


class Terminal:
    """Where a verb speaks to people; silent when its data is wanted instead (`--out=json`).

    opts: gives the Salt master's options.
    """

    def __init__(self, opts: Callable[[], Mapping[str, Any]]) -> None:
        self._opts = opts

    @property
    def is_read(self) -> bool:
        """Tell whether people read it, rather than a program the data."""
        return not self._opts().get("output")

    def console(self) -> Console:
        """Return a console that marks up nothing by itself."""
        return Console(highlight=False)

    def show(self, *parts: RenderableType) -> None:
        """Print what is made for it: tables, marked up lines."""
        if self.is_read:
            for part in parts:
                self.console().print(part, soft_wrap=True)

    def say(self, words: str) -> None:
        """Print a line as it is."""
        self.show(escape(words))

    def agrees(self, verb: str, what: str, answer: str = "yes") -> bool:
        """Ask whether to do something; what has to be typed for it is `answer`.

        Raises RequestError when nobody can be asked.
        """
        if not (self.is_read and sys.stdin.isatty()):
            raise RequestError(f"{verb}: nobody can be asked here; say yes=True to {what}")
        return input(f"Type {answer} to {what}: ").strip() == answer

    def face(self, verb: Callable[..., Said]) -> Callable[..., dict[str, Any]]:
        """Turn a verb into a runner function: wrong input is one message, and the exit code says how it went.

        salt-run exits with 0 whatever a runner returns (https://github.com/saltstack/salt/issues/61173), unless the
        data has a `retcode`; and it prints what is returned, unless an outputter is named with it.
        """

        @functools.wraps(verb)
        def face(*args: Any, **kwargs: Any) -> dict[str, Any]:
            data, code = self._run(verb, args, kwargs)
            if "error" in data and self.is_read:
                sys.stderr.write(f"{data['error']}\n")
            outcome = {**data, "retcode": code}
            return {"outputter": "silent", "data": outcome} if self.is_read else outcome

        return face

    def _run(
        self, verb: Callable[..., Said], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], int]:
        try:
            data, parts, well = verb(*arguments(verb, args, kwargs))
            self.show(*([parts] if isinstance(parts, str) else parts))
        except (KeyboardInterrupt, SystemExit):
            # Salt turns Ctrl-C and SIGTERM into SystemExit, and that into a traceback.
            return {"error": f"interrupted; {_GOES_ON.get(verb.__name__, _HALFWAY)}"}, 130
        except Exception as error:
            # The traceback is of a defect of ours: Salt would take it for wrong arguments, or end with exit code 0.
            expected = errors.is_expected(error)
            return {"error": errors.text(error) if expected else traceback.format_exc()}, 1
        return data, 0 if well else 1


def arguments(verb: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the arguments by position; Salt would answer wrong ones with exit code 0. Raises RequestError."""
    signature = inspect.signature(verb)
    try:
        bound = signature.bind(*args, **{key: value for key, value in kwargs.items() if not key.startswith("__")})
    except TypeError as error:
        names = ", ".join(str(one.replace(annotation=one.empty)) for one in signature.parameters.values())
        raise RequestError(f"managed_k8s.{verb.__name__}({names}): {error}") from None
    bound.apply_defaults()
    return bound.args


def bullets(sentences: Iterable[str]) -> list[RenderableType]:
    """Return sentences as lines of a list."""
    return [f"  - {escape(sentence)}" for sentence in sentences]
