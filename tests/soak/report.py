"""What became of a soak's faults, in figures and in words."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from tests.soak.draw import Fault
from tests.support.probes import Summary


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    seconds: until the cluster was healed; None when it was not within the fault's limit. done: what happened, in words.
    problem: why it counts as not healed.
    """

    fault: Fault
    seconds: float | None
    done: str
    problem: str = ""

    def __str__(self) -> str:
        """Say it."""
        how = "NOT HEALED" if self.seconds is None else f"healed in {self.seconds:.0f} s"
        return f"{self.fault}: {how}{f' ({self.problem})' if self.problem else ''}: {self.done or 'nothing was done'}"


def lines(outcomes: Sequence[Outcome], asked: int, probes: Summary | None, written: int, lost: int | None) -> list[str]:
    """Return what is printed at the end.

    asked: faults that were to be made. probes: of the API. written, lost: acknowledged writes; None: not known.
    """
    healed = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
    found = [f"faults survived   {len(healed)} of {len(outcomes)}, {asked} were asked for"]
    if healed:
        found.append(f"time to heal      median {statistics.median(healed):.0f} s, worst {max(healed):.0f} s")
    if probes:
        share = 100 * (probes.probes - probes.failed) / probes.probes
        found.append(
            f"API               {share:.2f} % of {probes.probes} probes answered, longest gap {probes.gap:.1f} s"
        )
    found.append(f"writes lost       {'not known' if lost is None else lost} of {written} that were acknowledged")
    return found


def passed(outcomes: Sequence[Outcome], asked: int, lost: int | None) -> bool:
    """Tell whether all faults that were asked for were survived, and no write was lost."""
    return len(outcomes) == asked and all(outcome.seconds is not None for outcome in outcomes) and lost == 0
