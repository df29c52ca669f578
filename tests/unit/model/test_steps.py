"""The table of kinds of steps."""

import pytest

from managed_k8s.model import steps
from managed_k8s.model.steps import ALWAYS, KINDS, NEVER, ON_A_MASTER, Step

NAMES = {
    value
    for name, value in vars(steps).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
}


def test_every_name_of_a_kind_has_its_entry_and_the_reverse():
    assert set(KINDS) == NAMES - {NEVER, ON_A_MASTER, ALWAYS}
    assert len(KINDS) == len(steps._TABLE)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_has_all_that_the_reconciler_needs(kind):
    step = Step(f"{kind.name}:demo-master-1", kind.name, "demo-master-1", "")
    assert kind.event.isidentifier()
    assert step.limit == kind.limit > 0
    assert step.advice
    assert kind.done
    assert kind.control_plane in (NEVER, ON_A_MASTER, ALWAYS)
    assert set(kind.beside) <= set(KINDS)


def test_no_two_kinds_announce_the_same():
    assert len({kind.event for kind in KINDS.values()}) == len(KINDS)


def test_advice_names_the_server():
    assert "demo-worker-1" in Step("join:demo-worker-1", steps.JOIN, "demo-worker-1", "").advice
