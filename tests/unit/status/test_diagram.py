"""The drawn cluster."""

import xml.etree.ElementTree as ElementTree

import pytest

from managed_k8s.status import diagram, status
from managed_k8s.status.facts import Volume
from tests.support import worlds as worlds

SVG = "{http://www.w3.org/2000/svg}"


def drawn(world):
    return ElementTree.fromstring(diagram.draw(status.status(world)))  # noqa: S314


def words(root):
    return [text.text for text in root.iter(f"{SVG}text")]


def box(root, name):
    """Return the group of a server."""
    return next(group for group in root.iter(f"{SVG}g") if name in words(group))


def colour(root, name):
    return next(box(root, name).iter(f"{SVG}rect")).get("fill")


@pytest.mark.parametrize("make", worlds.WORLDS.values(), ids=worlds.WORLDS)
def test_every_world_is_a_picture_in_which_nothing_lies_outside(make):
    root = drawn(make())
    width, height = (float(root.get(key)) for key in ("width", "height"))
    for each in root.iter(f"{SVG}rect"):
        assert float(each.get("x", 0)) >= 0
        assert float(each.get("x", 0)) + float(each.get("width")) <= width
        assert float(each.get("y", 0)) + float(each.get("height")) <= height
    assert all(0 < float(text.get("y")) < height for text in root.iter(f"{SVG}text"))


@pytest.mark.parametrize("make", [worlds.well, worlds.creating, worlds.large], ids=["few", "made", "many"])
def test_no_two_boxes_overlap(make):
    boxes = []
    for group in drawn(make()).iter(f"{SVG}g"):
        rect = next(group.iter(f"{SVG}rect"))
        x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        assert not any(x < r and left < x + width and y < b and top < y + height for left, top, r, b in boxes)
        boxes.append((x, y, x + width, y + height))


def test_every_server_address_and_volume_is_there():
    found = words(drawn(worlds.well()))
    assert {node.id for node in worlds.DEMO.nodes} <= set(found)
    assert {"https://192.0.2.9:6443", "shop/data", "1Gi on demo-worker-1", "2Gi not attached"} <= set(found)
    assert "ETCD · 3 of 3 members healthy" in found
    assert "as it should be" in found


def test_states_are_told_by_colour():
    root = drawn(worlds.master_down())
    assert colour(root, "demo-master-2") != colour(root, "demo-master-1") == colour(root, "demo-worker-1")
    made = drawn(worlds.creating())
    assert len({colour(made, f"demo-{name}") for name in ("master-1", "worker-1", "worker-2")}) == 3


def test_the_way_leads_over_the_gateway_that_has_the_address_to_masters_that_are_ready():
    def live(world):
        return sum(path.get("class") == "live" for path in drawn(world).iter(f"{SVG}path"))

    assert live(worlds.well()) == 1 + 3
    assert live(worlds.master_down()) == 1 + 2
    assert live(worlds.api_away()) == 0


def test_of_many_servers_only_the_numbers_are_drawn():
    found = words(drawn(worlds.large()))
    assert "250" in found
    assert "demo-worker-250" not in found
    assert "WORKERS · 299 of 300 well" in found


def test_of_many_volumes_some_are_drawn():
    volumes = tuple(Volume(f"pvc-{n}", f"shop/data-{n}", "1Gi") for n in range(30))
    assert "and 22 more" in words(drawn(worlds.well(volumes=volumes)))


def test_what_others_say_cannot_break_it():
    volumes = (Volume("pvc", '</text><script>"&', "1Gi", "demo-worker-1"),)
    root = drawn(worlds.well(volumes=volumes))
    assert '</text><script>"&' in words(root)
    assert not list(root.iter(f"{SVG}script"))


def test_the_same_facts_are_the_same_picture():
    data = status.status(worlds.creating())
    assert diagram.draw(data) == diagram.draw(data)
