"""Asking an API again and again, each time on a connection of its own, and when nobody answered."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import itertools
import ssl
import threading
import time
from collections.abc import Iterable

from kubernetes.client import ApiClient

INTERVAL, TIMEOUT = 0.05, 2.0
_PATH = "/readyz"


@dataclasses.dataclass(frozen=True)
class Probe:
    """One question: when it was begun, when it ended (seconds of one clock), and whether the answer was 200."""

    begun: float
    ended: float
    ok: bool


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of probes.

    gap: seconds of the longest time without an answer. slowest: seconds of the slowest answer. late: seconds that the
    latest probe began after its time, which is this machine's fault.
    """

    probes: int
    failed: int
    gap: float
    slowest: float
    late: float


def longest_gap(answers: Iterable[float], begun: float, ended: float) -> float:
    """Return the longest time without an answer.

    answers: when they came, in any order. begun, ended: the time that is looked at; where it begins and ends without an
    answer, that counts too.
    """
    inside = sorted(moment for moment in answers if begun <= moment <= ended)
    return max(later - earlier for earlier, later in itertools.pairwise([begun, *inside, ended]))


def summary(probes: list[Probe], interval: float = INTERVAL) -> Summary:
    """Return what became of probes, at least one, given in the order in which they were begun.

    interval: seconds between two of them.
    """
    answers = [probe for probe in probes if probe.ok]
    first, last = probes[0].begun, probes[-1].begun
    pauses = [later.begun - earlier.begun for earlier, later in itertools.pairwise(probes)]
    return Summary(
        probes=len(probes),
        failed=len(probes) - len(answers),
        gap=longest_gap((probe.ended for probe in answers), first, last),
        slowest=max((probe.ended - probe.begun for probe in answers), default=0.0),
        late=max((pause - interval for pause in pauses), default=0.0),
    )


def ask(address: str, port: int, context: ssl.SSLContext) -> bool:
    """Ask once, and tell whether the answer was 200."""
    connection = http.client.HTTPSConnection(address, port, timeout=TIMEOUT, context=context)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", _PATH)
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


def context(api: ApiClient) -> ssl.SSLContext:
    """Return what trusts an API's CA and has its client's certificate."""
    made = ssl.create_default_context(cafile=api.configuration.ssl_ca_cert)
    made.load_cert_chain(api.configuration.cert_file, api.configuration.key_file)
    return made


class Probing(contextlib.AbstractContextManager["Probing"]):
    """Begins a probe every 50 ms, in a thread, from entering to leaving; `summary` is there afterwards.

    address: of the API. context: as context() returns it. interval: seconds from probe to probe, when not 50 ms.
    """

    summary: Summary

    def __init__(self, address: str, port: int, context: ssl.SSLContext, interval: float = INTERVAL) -> None:
        self.address, self.port, self.context, self.interval = address, port, context, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._probe_on()), name="probes")

    def __enter__(self) -> Probing:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, when the last probe has."""
        self._stop.set()
        self._thread.join()

    async def _probe_on(self) -> None:
        begun = time.monotonic()
        probes: list[asyncio.Task[Probe]] = []
        while not self._stop.is_set():
            probes.append(asyncio.create_task(self._probe()))
            # From the first one's time on, so that what delays one does not delay all after it.
            await asyncio.sleep(begun + len(probes) * self.interval - time.monotonic())
        self.summary = summary(await asyncio.gather(*probes), self.interval)

    async def _probe(self) -> Probe:
        begun = time.monotonic()
        ok = False
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(TIMEOUT):
                ok = await self._ask()
        return Probe(begun, time.monotonic(), ok)

    async def _ask(self) -> bool:
        reader, writer = await asyncio.open_connection(
            self.address, self.port, ssl=self.context, server_hostname=self.address
        )
        try:
            writer.write(f"GET {_PATH} HTTP/1.0\r\nHost: {self.address}\r\n\r\n".encode())
            return b" 200 " in await reader.readline()
        finally:
            # Without a farewell, which a dead machine would not answer.
            writer.transport.abort()
