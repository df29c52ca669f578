"""What backups of volumes say of themselves, and which are restored where."""

from types import SimpleNamespace

import pytest

from managed_k8s.volumes import objects, record, restore_plan
from managed_k8s.volumes.claims import ZONE, Claim
from managed_k8s.volumes.record import Record
from managed_k8s.volumes.restore_plan import VolumeError
from tests.support.volumes import claim

NOW = 1795527000


def backup(status="available", metadata=None, **more):
    kept = record.metadata(claim(), NOW, "schedule") if metadata is None else metadata
    return SimpleNamespace(id="b", status=status, size=3, fail_reason=None, metadata=kept, **more)


def test_cinder_alone_tells_all_of_a_backup():
    found = record.read(backup())
    assert found == Record("b", NOW, claim(), 3, "schedule")
    assert (found.name, found.good) == ("volume-2026-11-24T13:30:00", True)


def test_a_claim_of_blocks_for_many_is_told_too():
    raw = claim(volume_mode="Block", access_modes=("ReadWriteOnce", "ReadWriteMany"), file_system="", zone="")
    assert record.read(backup(metadata=record.metadata(raw, NOW, ""))).claim == raw


@pytest.mark.parametrize("other", [{}, None, {"a": "b"}, {"managed-k8s/time": "x"}, {"managed-k8s/time": "1"}])
def test_what_is_not_complete_or_not_ours_is_none(other):
    assert record.read(SimpleNamespace(id="b", status="available", size=1, fail_reason=None, metadata=other)) is None


def test_cinders_word_counts():
    assert record.read(backup("deleting")) is None
    assert record.read(backup("restoring")).good
    assert record.read(backup("error")).problem == "Cinder says error: no reason"


def test_names_of_snapshots_fit_for_the_longest_claim():
    assert len(objects.snapshot_name(claim("x" * 253), NOW)) < 64
    assert objects.snapshot_name(claim("a"), NOW) != objects.snapshot_name(claim("b"), NOW)


def test_metadata_fits():
    told = record.metadata(claim("x" * 253, "n" * 63), NOW, "r" * 999)
    assert max(len(value) for value in told.values()) <= 255


def volume(**csi):
    expression = SimpleNamespace(key=ZONE, values=["az1"])
    terms = [SimpleNamespace(match_expressions=[expression])]
    return SimpleNamespace(
        metadata=SimpleNamespace(name="pvc-1"),
        spec=SimpleNamespace(
            csi=SimpleNamespace(driver="cinder.csi.openstack.org", volume_handle="v", fs_type="ext4", **csi),
            node_affinity=SimpleNamespace(required=SimpleNamespace(node_selector_terms=terms)),
        ),
    )


def kubernetes_claim(deleted=None):
    return SimpleNamespace(
        metadata=SimpleNamespace(name="data", namespace="shop", uid="u", labels=None, deletion_timestamp=deleted),
        spec=SimpleNamespace(storage_class_name="cinder", access_modes=["ReadWriteOnce"], volume_mode=None),
    )


def test_what_kubernetes_says_of_a_claim():
    found = Claim.of(kubernetes_claim(), volume())
    assert (found.zone, found.file_system, found.handle, found.problem) == ("az1", "ext4", "v", "")
    assert found.volume_mode == "Filesystem"
    assert "no volume yet" in Claim.of(kubernetes_claim(), None).problem
    assert Claim.of(kubernetes_claim("now"), volume()).problem == "is being deleted"
    other = volume()
    other.spec.csi = None
    assert "not Cinder's" in Claim.of(kubernetes_claim(), other).problem


# Choosing

RECORDS = [
    Record("4", NOW + 9, claim("data"), 1, "", problem="torn"),
    Record("3", NOW + 5, claim("data"), 1, ""),
    Record("2", NOW + 5, claim("logs"), 1, ""),
    Record("1", NOW, claim("data"), 1, ""),
    Record("0", NOW, claim("data", "lab"), 1, ""),
]


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ((None, None, None), ["0", "3", "2"]),
        (("data", None, None), ["0", "3"]),
        (("data", "shop", None), ["3"]),
        ((None, "shop", "volume-2026-11-24T13:30:00"), ["1"]),
    ],
)
def test_of_each_claim_the_newest_good_one_or_the_named_one(asked, ids):
    assert [one.id for one in restore_plan.choose(RECORDS, *asked)] == ids


def test_a_bad_one_is_not_restored():
    with pytest.raises(VolumeError, match="is not good: torn"):
        restore_plan.choose(RECORDS, "data", "shop", RECORDS[0].name)


def test_what_there_is_not_is_said_with_what_there_is():
    with pytest.raises(VolumeError, match=r"of shop nothing; there are shop/data volume-"):
        restore_plan.choose(RECORDS, "nothing", "shop", None)


def plan(chosen, into=None, into_namespace=None, pods=(), classes=("cinder",)):
    return restore_plan.plan(chosen, into, into_namespace, lambda *_: None, lambda *_: pods, classes)


def test_everything_in_the_way_is_said_at_once():
    with pytest.raises(VolumeError) as caught:
        plan(RECORDS[1:3], pods=["pod web-0"], classes=("other",))
    assert len(str(caught.value).splitlines()) == 4
    assert "there are other. Make one" in str(caught.value)


def test_two_claims_do_not_go_to_one_name():
    with pytest.raises(VolumeError, match="names one claim"):
        plan(RECORDS[1:3], into="copy")
    with pytest.raises(VolumeError, match="would both be restored there"):
        plan([RECORDS[1], RECORDS[4]], into_namespace="again")


def test_a_copy_is_said_to_be_one():
    (one,) = plan(RECORDS[1:2], "copy", "again")
    assert str(one) == "again/copy: a new volume of 1 GiB from volume-2026-11-24T13:30:05 of shop/data"
