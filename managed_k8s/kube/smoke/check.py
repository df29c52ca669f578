"""One check: what it is, whether it passed, how long it took."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import tenacity
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

# What a cluster that is busy starting may answer once; asked again until a check's limit.
TRANSIENT = (ApiException, HTTPError)


class FailedError(AssertionError):
    """What is wrong, in words for an operator."""


@dataclasses.dataclass(frozen=True)
class Check:
    """A finished check.

    detail: what was seen, or what is wrong.
    """

    name: str
    ok: bool
    detail: str
    seconds: float


def perform(name: str, work: Callable[[], str]) -> Check:
    """Run a check and return how it went.

    work: returns what was seen; raises FailedError.
    """
    start = time.monotonic()
    try:
        ok, detail = True, work()
    except FailedError as error:
        ok, detail = False, str(error)
    except TRANSIENT as error:
        ok, detail = False, f"the API did not answer: {reason(error)}"
    return Check(name, ok, detail, time.monotonic() - start)


def eventually(look: Callable[[], str], limit: float, interval: float = 0.4) -> str:
    """Return what `look` returns as soon as it does not raise FailedError; after `limit` seconds, raise its last."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((FailedError, *TRANSIENT)),
        stop=tenacity.stop_after_delay(limit),
        wait=tenacity.wait_fixed(interval),
        reraise=True,
    )(look)


def reason(error: BaseException) -> str:
    """Return an API error in a few words, without headers and bodies."""
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}"
    return f"{type(error).__name__}: {error}"
