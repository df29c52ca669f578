"""Connecting to the cloud that clouds.yaml names, with patience for its API and an explanation of what it refuses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import keystoneauth1.exceptions
import keystoneauth1.session
import openstack.connection
import openstack.exceptions
import tenacity
from openstack.config import OpenStackConfig

from managed_k8s.errors import Error

# With keystoneauth's growing pauses that is half a minute.
RETRIES = 6
# Seconds until an answer must come; none would wait for ever.
TIMEOUT = 120
# Answers that say that the request was not acted on, and those after which nobody knows.
_REFUSED = [429, 503]
_UNKNOWN = [500, 502, 504]

Result = TypeVar("Result")


class CloudError(Error):
    """The cloud refused or does not have something; the message says what to do."""


class _Session(keystoneauth1.session.Session):
    """Repeats requests that failed for a moment, but none that could make something twice."""

    def request(self, url: str, method: str, *arguments: Any, **values: Any) -> Any:
        repeatable = method != "POST" or url.endswith("/auth/tokens")
        values["retriable_status_codes"] = _REFUSED + (_UNKNOWN if repeatable else [])
        values["connect_retries"] = RETRIES if repeatable else 0
        values["status_code_retries"] = RETRIES
        if "/application_credentials" in url:
            # Keystone shows a secret there, and keystoneauth writes answers to the log for debugging.
            values["log"] = False
        return super().request(url, method, *arguments, **values)


def clouds_files(checkout: Path) -> list[str]:
    """Return where clouds.yaml may be, the first that exists counts: the environment's, the checkout's."""
    named = os.environ.get("OS_CLIENT_CONFIG_FILE")
    return [path for path in (named, str(checkout / "clouds.yaml")) if path and Path(path).is_file()]


def connect(cloud: str, checkout: Path) -> openstack.connection.Connection:
    """Return a connection.

    cloud: a name in clouds.yaml. checkout: the repository, where a clouds.yaml may lie.
    Raises CloudError when clouds.yaml or the cloud in it is missing or incomplete.
    """
    with explained():
        files = clouds_files(checkout)
        loader = OpenStackConfig(config_files=files or None, app_name="managed-k8s", session_constructor=_Session)
        names = loader.get_cloud_names()
        if cloud not in names:
            raise CloudError(
                f"cloud {cloud!r} is in no clouds.yaml; there are {', '.join(sorted(names)) or 'none'}. Put it into "
                f"clouds.yaml in {checkout}, or name the file in OS_CLIENT_CONFIG_FILE"
            )
        return openstack.connection.Connection(config=loader.get_one(cloud, api_timeout=TIMEOUT))


def persistently(action: Callable[[], Result]) -> Result:
    """Do what finds before it makes, again when the connection broke and nobody knows whether something was made.

    Raises what the last of four attempts raised.
    """
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential(multiplier=0.5, max=5),
        retry=tenacity.retry_if_exception(is_transient),
        reraise=True,
    ):
        with attempt:
            return action()
    raise AssertionError("unreachable")


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed a moment later."""
    if isinstance(error, keystoneauth1.exceptions.SSLError):
        return False
    return isinstance(error, keystoneauth1.exceptions.ConnectionError) or _status(error) in _REFUSED + _UNKNOWN


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what the cloud's libraries raise in the body into a CloudError that says what to do."""
    try:
        yield
    except (openstack.exceptions.SDKException, keystoneauth1.exceptions.ClientException) as error:
        raise CloudError(_explanation(error)) from error


def _status(error: BaseException) -> int | None:
    # The former is openstacksdk's, the latter keystoneauth's.
    return getattr(error, "status_code", None) or getattr(error, "http_status", None)


def _explanation(error: Exception) -> str:
    text, status = str(error), _status(error)
    match error:
        case keystoneauth1.exceptions.SSLError():
            advice = "the certificate of the cloud's API is not trusted: name its authority as cacert in clouds.yaml"
        case keystoneauth1.exceptions.ConnectionError():
            advice = "the cloud's API does not answer: check auth_url in clouds.yaml and the way there"
        case _ if status == 401:
            advice = "the cloud does not accept the account: check its secrets in clouds.yaml, and whether it expired"
        case _ if status in (403, 413) and "quota" in text.lower():
            advice = "the project's quota is used up: have it enlarged, or remove what is not needed"
        case _ if status == 403:
            advice = "the account may not do that: it needs the role member in the project"
        case _ if is_transient(error):
            advice = "the cloud's API keeps on failing: try again later, nothing is lost"
        case _:
            return text
    return f"{advice} ({text})"
