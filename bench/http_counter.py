"""Counting HTTP requests and bytes of this process, by the service that they go to."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclasses.dataclass
class Traffic:
    """Requests to a service, and bytes sent and received inside TLS, headers included."""

    requests: int = 0
    sent: int = 0
    received: int = 0


def place(url: str) -> str:
    """Return the host and port of a URL, like `10.77.0.10:443`."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


class Counter:
    """Traffic by service.

    services: host and port -> name of the service there; what goes elsewhere counts under its host and port.
    """

    def __init__(self, services: Mapping[str, str]) -> None:
        self.services = services
        self.traffic: dict[str, Traffic] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter]:
        """Count in the body what all threads do.

        openstacksdk, the Kubernetes client, requests and urllib all end up in connections of http.client.
        """
        connection = http.client.HTTPConnection
        put, send = connection.putrequest, connection.send

        def putrequest(self_: Any, *arguments: Any, **more: Any) -> None:
            self._add(self_, requests=1)
            put(self_, *arguments, **more)

        def counting_send(self_: Any, data: Any) -> None:
            self._add(self_, sent=len(data) if isinstance(data, bytes | bytearray | memoryview) else 0)
            send(self_, data)

        with (
            mock.patch.object(connection, "putrequest", putrequest),
            mock.patch.object(connection, "send", counting_send),
            mock.patch.object(connection, "response_class", property(self._response_class)),
        ):
            yield self

    def _add(self, connection: Any, requests: int = 0, sent: int = 0, received: int = 0) -> None:
        where = f"{connection.host}:{connection.port}"
        with self._lock:
            found = self.traffic.setdefault(self.services.get(where, where), Traffic())
            found.requests += requests
            found.sent += sent
            found.received += received

    def _response_class(self, connection: Any) -> Callable[..., http.client.HTTPResponse]:
        def make(*arguments: Any, **more: Any) -> http.client.HTTPResponse:
            response: Any = http.client.HTTPResponse(*arguments, **more)
            raw = response.fp.detach()
            response.fp = io.BufferedReader(_Counted(raw, lambda size: self._add(connection, received=size)))
            return response  # type: ignore[no-any-return]

        return make


class _Counted(io.RawIOBase):
    """A stream that tells how much was read from it."""

    def __init__(self, raw: Any, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._raw, self._tell = raw, tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size: int | None = self._raw.readinto(buffer)
        self._tell(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()
