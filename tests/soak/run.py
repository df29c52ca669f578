"""Making faults and waiting until they are healed, while somebody writes to the API and somebody asks it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from managed_k8s.kube import access
from managed_k8s.names import MASTER
from managed_k8s.state import healing
from tests.soak.draw import OUTAGE_OF_CLOUD, RESTART, Fault
from tests.soak.report import Outcome, lines, passed
from tests.support.checkout import Cluster
from tests.support.command_line import lab
from tests.support.faults import (
    STRIKES,
    Writer,
    await_event,
    fail_cloud,
    happened,
    is_healed,
    leader,
    restart_salt_master,
    settled,
)
from tests.support.probes import Probing, context
from tests.support.project import eventually

# Faults from smoke test to smoke test; seconds between probes, as servers need the machine's processors to heal.
SMOKE, INTERVAL = 5, 0.5
# Seconds for the cluster to be as it should be before the first fault, and for its plan to be empty after each.
READY, SETTLED = 900, 180
MEANWHILE = {RESTART: restart_salt_master, OUTAGE_OF_CLOUD: fail_cloud}
INTERRUPTED = 130


class Soak:
    """A soak of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.outcomes: list[Outcome] = []

    def run(self, faults: Sequence[Fault]) -> int:
        """Make the faults one after another, up to the first that is not healed; return the exit code."""
        lab("fault", "clear")
        eventually(self._is_well, READY, interval=5)
        interrupted = False
        writer = Writer(self.cluster.api)
        probing = Probing(self.cluster.public_address, access.PORT, context(self.cluster.api), INTERVAL)
        lost: int | None = None
        try:
            with probing, writer:
                interrupted = self._all(faults)
            lost = len(writer.lost)
        except AssertionError as error:
            # The API does not even say what was written.
            print(f"writes cannot be counted: {error}")
        print(*lines(self.outcomes, len(faults), probing.summary, len(writer.written), lost), sep="\n", flush=True)
        return INTERRUPTED if interrupted else 0 if passed(self.outcomes, len(faults), lost) else 1

    def _all(self, faults: Sequence[Fault]) -> bool:
        """Make them; return whether somebody interrupted that."""
        try:
            for number, fault in enumerate(faults, 1):
                print(f"{time.strftime('%H:%M:%S')} {number} of {len(faults)}: {self._words(fault)}", flush=True)
                outcome = self._endure(fault, smoke=number % SMOKE == 0 or number == len(faults))
                self.outcomes.append(outcome)
                print(f"{time.strftime('%H:%M:%S')} {outcome}", flush=True)
                lab("fault", "clear")
                if outcome.seconds is None:
                    break
        except KeyboardInterrupt:
            print("interrupted: faults are cleared", flush=True)
            return True
        finally:
            lab("fault", "clear", check=False)
        return False

    def _words(self, fault: Fault) -> str:
        masters = [name for name in fault.victims if f"-{MASTER}-" in name]
        if not masters:
            return str(fault)
        try:
            role = "leads etcd" if leader(self.cluster) in masters else "follows in etcd"
        except AssertionError as error:
            role = str(error)
        return f"{fault} ({role})"

    def _endure(self, fault: Fault, smoke: bool) -> Outcome:
        cluster, kind = self.cluster, fault.kind
        # Limits on what is tried are not what is looked at here.
        cluster.store.remove(healing.FILE)
        since = time.time()
        seconds, problem = None, ""
        try:
            for name in fault.victims:
                STRIKES[kind.strike](cluster, name)
            if kind.meanwhile:
                await_event(cluster, fault.victims[0], "silent", since)
                MEANWHILE[kind.meanwhile](cluster)
            left = since + kind.limit - time.time()
            eventually(lambda: is_healed(cluster, fault.victims, since, kind.ends), left, interval=2)
            seconds = time.time() - since
            eventually(self._is_well, SETTLED, interval=5)
            if smoke and not cluster.verb("smoke", timeout=1200)["ok"]:
                seconds, problem = None, "the smoke test failed"
        except AssertionError as error:
            seconds, problem = None, str(error)
        done = ", ".join(
            f"{what} {took} s" if subject == "cluster" or len(fault.victims) == 1 else f"{subject} {what} {took} s"
            for subject, what, took in happened(cluster, fault.victims, since)
        )
        return Outcome(fault, seconds, done, problem)

    def _is_well(self) -> bool:
        return settled(self.cluster, 0) and self.cluster.verb("plan")["steps"] == []
