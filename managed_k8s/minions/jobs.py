"""Salt jobs on a cluster's minions; one whose minion dies does not hang."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import salt.client
import salt.utils.minions

from managed_k8s import names
from managed_k8s.errors import Error

# How often a minion that works on something is asked whether it still does, and how long it may take to answer.
_ASK, _ANSWER = 15, 10
_GRACE = 2


class JobError(Error):
    """A job failed on a minion, or the minion went silent; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a function returned on a minion, and whether it went well."""

    value: Any
    ok: bool


class Jobs(Protocol):
    """What is asked of minions; the tests' own is a dictionary."""

    def accepted(self, cluster: str) -> list[str]:
        """Return the cluster's minions whose keys are accepted."""

    def ask(
        self, minions: Collection[str], function: str, *args: Any, limit: float, expected: Collection[str] = ()
    ) -> dict[str, Answer]:
        """Return the answers that came."""

    def run(self, minion: str, function: str, *args: Any, limit: float, **kwargs: Any) -> Any:
        """Return what a function returned on one minion. Raises JobError."""

    def forget(self, minion: str) -> None:
        """Delete a minion's key."""


def is_unknown_function(answer: Answer) -> bool:
    """Tell whether a minion does not have the function's module, or not what that imports."""
    said = answer.value if isinstance(answer.value, str) else ""
    return "is not available" in said or "__virtual__ returned False" in said


def sync_modules(jobs: Jobs, minions: Collection[str], limit: float) -> dict[str, Answer]:
    """Have minions take our execution modules along, after what these import; return what they answered to the latter.

    limit: seconds for each of both.
    """
    jobs.ask(minions, "saltutil.sync_utils", "base", "refresh=False", limit=limit, expected=minions)
    return jobs.ask(minions, "saltutil.sync_modules", "base", limit=limit, expected=minions)


class SaltJobs:
    """Jobs through the Salt master on this machine.

    opts: the master's.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self.opts = dict(opts)

    def accepted(self, cluster: str) -> list[str]:
        """Return the cluster's minions whose keys are accepted."""
        found = salt.utils.minions.CkMinions(self.opts).check_minions(f"{cluster}-*", "glob")["minions"]
        return sorted(name for name in found if (node := names.parse(name)) and node.cluster == cluster)

    def ask(
        self, minions: Collection[str], function: str, *args: Any, limit: float, expected: Collection[str] = ()
    ) -> dict[str, Answer]:
        """Ask all of them at once; return the answers that came.

        limit: seconds. expected: who is thought to be there: once these answered, the others get two more seconds.
        Raises JobError when there is no Salt master.
        """
        if not minions:
            return {}
        with self._client() as client:
            jid = self._start(client, minions, function, args, {})
            answers: dict[str, Answer] = {}
            end = time.monotonic() + limit
            while len(answers) < len(minions) and time.monotonic() < end:
                answers |= self._returns(client, jid, wait=0.5)
                if expected and answers.keys() >= set(expected):
                    end, expected = min(end, time.monotonic() + _GRACE), ()
        return answers

    def run(self, minion: str, function: str, *args: Any, limit: float, **kwargs: Any) -> Any:
        """Return what a function returned on one minion.

        limit: seconds. Raises JobError when it failed, took too long, or the minion went silent.
        """
        with self._client() as client:
            jid = self._start(client, [minion], function, args, kwargs)
            answer = self._await(client, minion, jid, function, limit)
        if not answer.ok:
            raise JobError(f"{minion}: {function}: {failure(answer.value)}")
        return answer.value

    def forget(self, minion: str) -> None:
        """Delete a minion's key; one that is not there is fine."""
        # Loaded by Salt's own programs anyway, but not by those that only ask.
        import salt.key

        with salt.key.Key(self.opts) as keys:
            keys.delete_key(minion)

    def _client(self) -> Any:
        return salt.client.LocalClient(mopts=self.opts)

    def _start(
        self, client: Any, minions: Collection[str], function: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        try:
            job = client.run_job(sorted(minions), function, args, tgt_type="list", listen=True, kwarg=kwargs)
        except salt.exceptions.SaltException as error:
            raise JobError(f"{function}: {error}") from None
        if not job:
            raise JobError(f"{function}: the Salt master does not know {', '.join(sorted(minions))}")
        return str(job["jid"])

    def _returns(self, client: Any, jid: str, wait: float) -> dict[str, Answer]:
        """Return the answers that lie on the event bus, after at most some seconds."""
        found = {}
        event = client.event.get_event(wait=wait, tag=f"salt/job/{jid}/ret/", match_type="startswith")
        while event is not None:
            found[event["id"]] = Answer(event.get("return"), _went_well(event))
            event = client.event.get_event(wait=0, tag=f"salt/job/{jid}/ret/", match_type="startswith", no_block=True)
        return found

    def _await(self, client: Any, minion: str, jid: str, function: str, limit: float) -> Answer:
        end = time.monotonic() + limit
        ask, silent = time.monotonic() + _ASK, 0
        while time.monotonic() < end:
            found = self._returns(client, jid, wait=1)
            if minion in found:
                return found[minion]
            if time.monotonic() < ask:
                continue
            running = self.ask([minion], "saltutil.find_job", jid, limit=_ANSWER)
            ask = time.monotonic() + _ASK
            silent = 0 if running.get(minion, _SILENT).value else silent + 1
            # Once may be the moment between the job's end and its answer.
            if silent == 2:
                why = "does not run it any more" if minion in running else "went silent"
                raise JobError(f"{minion}: {function}: the minion {why}; its answer was lost")
        raise JobError(f"{minion}: {function}: did not end within {limit:.0f} seconds")


_SILENT = Answer(None, ok=False)


def _went_well(event: Mapping[str, Any]) -> bool:
    return bool(event.get("success", True)) and not event.get("retcode")


def failure(value: Any) -> str:
    """Return what went wrong, in words: of a state run the states that failed, else the answer itself."""
    if isinstance(value, Mapping):
        states = [state for state in value.values() if isinstance(state, Mapping) and state.get("result") is False]
        own = [state for state in states if not str(state.get("comment", "")).startswith("One or more requisite")]
        if states:
            return "; ".join(f"{state.get('__id__')}: {_clip(state.get('comment'))}" for state in own or states)
    if isinstance(value, list):
        return "; ".join(map(_clip, value))
    return _clip(value)


def _clip(text: object, length: int = 1500) -> str:
    words = str(text).strip()
    return words if len(words) <= length else f"... {words[-length:]}"
