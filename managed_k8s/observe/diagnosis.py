"""Who is ill, and what is to be done about it: a pure function of what the sources say, of what was tried, and of now.

Two sources that do not depend on each other agree before anything is rebooted or replaced: those a server works for
(Kubernetes, etcd, the API's port; SSH, for a gateway's disk), and its minion or Nova. A service is started again on the
server's own word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from managed_k8s.config.sections import Healing
from managed_k8s.model.health import DISK, ETCD, LOW_DISK, SERVICES, Health, Patient, Signs
from managed_k8s.model.steps import REBOOT, REPLACE, RESTART, START
from managed_k8s.names import WORKER

# Rungs of the ladder: what is tried at most once a server and outage is on one.
_RUNG = {RESTART: 0, START: 1, REBOOT: 1, REPLACE: 2}
# Seconds that it may take until it helps; of a server that boots, kubelet and all.
_SETTLE = {RESTART: 45, START: 150, REBOOT: 150, REPLACE: 0}
# Seconds that a dead service has, to be started by systemd.
_RESTART_AFTER = 10
# Seconds that a kubelet has, to make room by removing images and pods: one pod after the other.
_RECLAIM_AFTER = 300
_LONGEST = 3600
_OFF, _ERROR = "SHUTOFF", "ERROR"
# What the reconciler, or somebody else, does with a server right now.
_CHANGING = {"BUILD", "REBUILD", "REBOOT", "HARD_REBOOT", "MIGRATING", "RESIZE", "REVERT_RESIZE", "PASSWORD"}
_SOMEBODYS = {"RESCUE", "VERIFY_RESIZE", "SHELVED", "SHELVED_OFFLOADED", "DELETED", "SOFT_DELETED"}
_WORDS = {
    ETCD: "etcd does not answer",
    DISK: "its disk is full",
    LOW_DISK: "little of its disk is free",
    **{s: f"{s} does not run" for s in SERVICES},
}

Entry = dict[str, Any]


def judge(
    signs: Iterable[Signs],
    names: Mapping[str, Collection[str]],
    record: Mapping[str, Any],
    rules: Healing,
    now: float,
    api: bool,
    smoke: bool,
) -> Health:
    """Return how the servers are.

    names: role -> all servers of the map. record: of the last judgement; empty at first. rules: the setting `healing`.
    now: seconds since the epoch. api: whether the Kubernetes API can be asked, as far as it should. smoke: whether the
    smoke test passed with the servers that there are.
    """
    if not rules.enabled:
        return Health()
    return _Judgement(list(signs), names, record, rules, now, api, smoke).health()


class _Judgement:
    def __init__(
        self,
        signs: list[Signs],
        names: Mapping[str, Collection[str]],
        record: Mapping[str, Any],
        rules: Healing,
        now: float,
        api: bool,
        smoke: bool,
    ) -> None:
        self.signs, self.names, self.rules, self.now, self.api, self.smoke = signs, names, rules, now, api, smoke
        self.before = record
        every = {name for group in names.values() for name in group}
        self.entries: dict[str, Entry] = {
            name: {**entry, "tried": self._recent(name, entry["tried"])}
            for name, entry in record.get("servers", {}).items()
            if name in every
        }
        self.news: list[tuple[str, str, str]] = []
        # Servers that may be replaced by this judgement.
        self.granted: set[str] = set()

    def _recent(self, name: str, tried: list[Entry]) -> list[Entry]:
        window = next(self.rules.of(role).window_minutes for role, group in self.names.items() if name in group) * 60
        open_since = self.before["servers"][name].get("noticed")
        return [one for one in tried if self.now - one["at"] < window or (open_since and one["at"] >= open_since)]

    def health(self) -> Health:
        fresh = {one.name for one in self.signs if not self.entries.get(one.name, {}).get("noticed")}
        for one in self.signs:
            self._update(one)
        ill = [one for one in self.signs if _is_sick(one) or _reports(one)]
        alarm = self._alarm([one for one in ill if _is_sick(one)])
        patients = [self._patient(one, one.name in fresh, alarm) for one in ill]
        return Health(
            tuple(self._one_at_a_time(patients)),
            alarm,
            frozenset(one.name for one in self.signs if not _is_well(one)),
            frozenset(one.name for one in self.signs if one.heard is not None),
            {"servers": {name: e for name, e in self.entries.items() if _says_something(e)}, **self._told(alarm)},
            self.now,
            tuple(self.news),
        )

    # What is kept

    def _update(self, one: Signs) -> None:
        entry = self.entries.setdefault(one.name, {"tried": []})
        if entry.get("server", one.server) != one.server:
            # Its successor falls ill on its own.
            entry.pop("since", None)
        entry["server"] = one.server
        if _is_sick(one):
            entry.setdefault("since", min(one.heard or self.now, self.now))
            entry.setdefault("noticed", entry["since"])
        elif _reports(one):
            entry.setdefault("noticed", self.now)
            entry.pop("since", None)
        elif (_is_well(one) and self.api) or not self._tried(one.name):
            self._close(one, entry)
        else:
            # Something was tried and half of it helped: it has to be well for that to count.
            entry.pop("since", None)

    def _close(self, one: Signs, entry: Entry) -> None:
        tried = self._tried(one.name)
        if any(attempt["what"] == REPLACE for attempt in tried) and not self.smoke:
            # The plan has the smoke test now; it is what says that the new one works.
            return
        if tried:
            seconds = round(self.now - entry["noticed"])
            self.news.append((one.name, "healed", f"{one.name} is well again, {seconds} s after it fell ill"))
        for key in ("since", "noticed", "given_up"):
            entry.pop(key, None)

    def _tried(self, name: str) -> list[Entry]:
        """Return what was tried in the present outage."""
        entry = self.entries[name]
        noticed = entry.get("noticed")
        return [one for one in entry["tried"] if one["at"] >= noticed] if noticed else []

    # The whole

    def _alarm(self, sick: list[Signs]) -> str:
        if sick and not self.api:
            return "the Kubernetes API cannot be asked"
        for role, group in self.names.items():
            names = [one.name for one in sick if one.role == role]
            if len(names) > self._most(role):
                return f"{len(names)} of {len(group)} {role}s are ill at once: {', '.join(sorted(names))}"
        return ""

    def _most(self, role: str) -> int:
        return max(1, int(len(self.names[role]) * self.rules.of(role).share_percent / 100))

    def _told(self, alarm: str) -> Entry:
        """Announce an alarm that was there at the last look already, once; and its end."""
        last = self.before.get("alarm", {})
        if not alarm:
            if last.get("told"):
                self.news.append(("cluster", "alarm_over", "servers are healed again"))
            return {}
        told = last.get("told", False)
        if last and not told:
            self.news.append(("cluster", "alarm", f"{alarm}; nothing is rebooted or replaced"))
            told = True
        return {"alarm": {"told": told}}

    # One of them

    def _patient(self, one: Signs, fresh: bool, alarm: str) -> Patient:
        entry, rules = self.entries[one.name], self.rules.of(one.role)
        why = _why(one)
        attempts = len(entry["tried"])
        if entry.get("given_up") or attempts >= rules.attempts:
            return self._given_up(one, entry, why, attempts)
        remedy = self._remedy(one)
        if not remedy:
            return Patient(one.name, why, held="no other source says so; nothing more is done unasked")
        # A server that somebody else has in hand is not touched.
        held = f"its server is {one.status}" if one.status in _CHANGING | _SOMEBODYS else ""
        held = held or self._too_early(one, remedy, fresh)
        if remedy in (REBOOT, REPLACE):
            held = held or alarm
        if remedy == REPLACE:
            held = held or self._too_many(one)
            if not held:
                self.granted.add(one.name)
        return Patient(one.name, why, remedy, held)

    def _given_up(self, one: Signs, entry: Entry, why: str, attempts: int) -> Patient:
        if not entry.get("given_up"):
            entry["given_up"] = True
            tried = ", ".join(attempt["what"] for attempt in entry["tried"])
            self.news.append((one.name, "given_up", f"{why}. Tried {attempts} times: {tried}"))
        return Patient(one.name, why, held=f"given up; to have it made anew: salt-run managed_k8s.replace {one.name}")

    def _remedy(self, one: Signs) -> str:
        # What the cloud refused to do has not failed to help.
        own = [a for a in self._tried(one.name) if a["server"] == one.server and not a.get("refused")]
        tried = [_RUNG[a["what"]] for a in own]
        highest = max(tried, default=-1)
        return next((kind for kind in _ladder(one) if _RUNG[kind] > highest), "")

    def _too_early(self, one: Signs, remedy: str, fresh: bool) -> str:
        entry, tried = self.entries[one.name], self._tried(one.name)
        if remedy == RESTART:
            due = entry["noticed"] + _RESTART_AFTER
        else:
            # After each replacement that did not help, twice as long.
            replaced = sum(attempt["what"] == REPLACE for attempt in entry["tried"])
            due = entry["since"] + min(self.rules.of(one.role).after_seconds * 2**replaced, _LONGEST)
            if LOW_DISK in one.ailments:
                due = max(due, entry["since"] + _RECLAIM_AFTER)
        if tried and not tried[-1].get("refused"):
            due = max(due, tried[-1]["at"] + _SETTLE[tried[-1]["what"]])
        if due > self.now:
            return f"in {due - self.now:.0f} s, unless it is well by then"
        return "if the next look says so too" if fresh else ""

    def _too_many(self, one: Signs) -> str:
        """At most a share of a role's servers is replaced within a window."""
        window = self.rules.of(one.role).window_minutes
        others = self.granted | {
            name
            for name, entry in self.entries.items()
            if name != one.name
            for attempt in entry["tried"]
            if attempt["what"] == REPLACE and self.now - attempt["at"] < window * 60
        }
        others &= set(self.names[one.role])
        if len(others) < self._most(one.role):
            return ""
        return f"within {window} minutes so many {one.role}s are replaced at most: {', '.join(sorted(others))}"

    def _one_at_a_time(self, patients: list[Patient]) -> Iterable[Patient]:
        """Of masters, and of gateways, only one is rebooted or replaced at a time: the one that was begun with."""
        roles = {one.name: one.role for one in self.signs}
        first: dict[str, str] = {}
        for patient in sorted(patients, key=lambda p: (not self._tried(p.name), p.name)):
            if roles[patient.name] != WORKER and patient.remedy in (REBOOT, REPLACE):
                first.setdefault(roles[patient.name], patient.name)
        for patient in patients:
            turn = first.get(roles[patient.name], patient.name)
            if patient.remedy in (REBOOT, REPLACE) and turn != patient.name:
                yield dataclasses.replace(patient, held=patient.held or f"one at a time: {turn} is first")
            else:
                yield patient


def _is_sick(one: Signs) -> bool:
    """Tell whether two sources agree that it is ill."""
    inside = not one.minion or bool(one.ailments)
    cloud = one.status != "ACTIVE"
    if one.outside is None:
        return not one.minion and cloud
    return bool(one.outside) and (inside or cloud)


def _reports(one: Signs) -> bool:
    return one.minion and bool(one.ailments)


def _is_well(one: Signs) -> bool:
    return not one.outside and one.minion and not one.ailments and one.status == "ACTIVE"


def _ladder(one: Signs) -> Iterable[str]:
    """Return what may help, the gentler first."""
    sick = _is_sick(one)
    if one.status == _ERROR and sick:
        return (REPLACE,)
    if one.status == _OFF and sick:
        return (START, REPLACE)
    services = one.minion and set(one.ailments) & set(SERVICES)
    is_full = one.minion and one.ailments and set(one.ailments) <= {DISK, LOW_DISK}
    boots = () if is_full else (REBOOT,)
    return (*((RESTART,) if services else ()), *((*boots, REPLACE) if sick else ()))


def _why(one: Signs) -> str:
    words = [
        *([one.outside] if one.outside else []),
        *([f"its server is {one.status}"] if one.status != "ACTIVE" else []),
        *(["its minion is silent"] if not one.minion else []),
        *(_WORDS.get(ailment, ailment) for ailment in one.ailments),
    ]
    return ", ".join(words)


def _says_something(entry: Entry) -> bool:
    return bool(entry["tried"] or entry.get("noticed"))
