"""The pages of steps and events are made from the table."""

import pytest

from managed_k8s.model import steps_reference
from managed_k8s.model.steps import KINDS

HOW = "run: make docs"


def test_the_pages_are_what_the_table_says():
    assert steps_reference.STEPS.read_text() == steps_reference.text(), HOW
    events = steps_reference.EVENTS.read_text()
    assert events == steps_reference.events(events), HOW


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_page_of_steps_links_to_what_there_is(kind):
    name, _, title = kind.page.partition("#")
    if name:
        lines = (steps_reference.STEPS.parent / name).read_text().lower().splitlines()
        assert not title or f"## {title.replace('-', ' ')}" in lines


def test_a_page_without_a_place_for_the_table_is_refused():
    with pytest.raises(ValueError, match="not enough values"):
        steps_reference.events("# Events")
