"""What is asked of the Kubernetes API about volumes, of one in memory."""

from types import SimpleNamespace
from typing import Any

import pytest
import urllib3.exceptions
from kubernetes.client.exceptions import ApiException

from managed_k8s.volumes import kubernetes as module
from managed_k8s.volumes import objects
from managed_k8s.volumes.kubernetes import Kubernetes
from managed_k8s.volumes.restore_plan import VolumeError
from tests.support.volumes import claim

MISSING = ApiException(status=404, reason="Not Found")


class Api:
    """Stands for the API's classes."""

    def __init__(self):
        self.claims: dict[str, Any] = {}
        self.calls: list[Any] = []
        self.errors: list[Exception] = []
        self.pods: list[Any] = []
        self.stuck = False

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            if self.errors:
                raise self.errors.pop(0)
            return {"items": []}

        return call

    def list_namespaced_pod(self, namespace):
        return SimpleNamespace(items=self.pods)

    def read_namespaced_persistent_volume_claim(self, name, namespace):
        if name not in self.claims:
            raise MISSING
        return self.claims[name]

    def read_persistent_volume(self, name):
        raise MISSING

    def delete_namespaced_persistent_volume_claim(self, name, namespace, body):
        self.calls.append(("delete_claim", (namespace, name), body))
        if not self.stuck:
            self.claims.pop(name, None)

    def create_namespaced_persistent_volume_claim(self, namespace, body):
        if body["metadata"]["name"] in self.claims:
            raise ApiException(status=409)
        self.claims[body["metadata"]["name"]] = there(body["spec"]["volumeName"])

    def names(self):
        return [name for name, _, _ in self.calls]


def there(volume="pvc-1"):
    return SimpleNamespace(
        metadata=SimpleNamespace(name="data", namespace="shop", uid="u", labels={}, deletion_timestamp=None),
        spec=SimpleNamespace(storage_class_name="", access_modes=[], volume_mode=None, volume_name=volume),
        status=SimpleNamespace(phase="Bound"),
    )


def pod(name, phase, *claims):
    volumes = [SimpleNamespace(persistent_volume_claim=SimpleNamespace(claim_name=one)) for one in claims]
    volumes.append(SimpleNamespace(persistent_volume_claim=None))
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name), status=SimpleNamespace(phase=phase), spec=SimpleNamespace(volumes=volumes)
    )


@pytest.fixture
def api(monkeypatch):
    made = Api()
    for name in ("CoreV1Api", "CustomObjectsApi", "StorageV1Api"):
        monkeypatch.setattr(module, name, lambda client: made)
    monkeypatch.setattr(module, "_LOOK", 0)
    return made


@pytest.fixture
def kubernetes(api):
    return Kubernetes(None)


def test_pods_that_ended_use_nothing(api, kubernetes):
    api.pods = [
        pod("a", "Running", "data"),
        pod("b", "Succeeded", "data"),
        pod("c", "Pending", "x", "data"),
        pod("d", "Running"),
    ]
    assert kubernetes.users("shop", "data") == ["pod a", "pod c"]


def test_a_volume_is_kept_before_its_claim_goes_and_only_that_claim(api, kubernetes):
    api.claims["data"] = there()
    kubernetes.retire(claim(uid="u"), 1)
    assert api.names() == ["patch_persistent_volume", "delete_claim"]
    assert api.calls[0][1][1] == {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
    assert api.calls[1][2] == {"preconditions": {"uid": "u"}}


def test_a_claim_that_does_not_go_is_said(api, kubernetes):
    api.claims["data"], api.stuck, api.pods = there(), True, [pod("a", "Running", "data")]
    with pytest.raises(VolumeError, match="is not gone after 0 s; pod a uses it; its volume pvc-shop-data stays"):
        kubernetes.retire(claim(uid="u"), 0)


def bring(kubernetes, volume="restored-1"):
    one = claim()
    kubernetes.bring(objects.volume(one, volume, "v", 1, "Delete", ""), objects.claim(one, volume, 1, {}), 0)


def test_what_an_interrupted_run_made_is_fine(api, kubernetes):
    bring(kubernetes)
    api.errors = [ApiException(status=409), ApiException(status=409)]
    bring(kubernetes)


def test_a_claim_that_has_another_volume_is_said(api, kubernetes):
    api.claims["data"] = there("pvc-other")
    with pytest.raises(VolumeError, match="is another's: pvc-other after 0 s"):
        bring(kubernetes)


def test_a_snapshot_goes_with_what_stands_for_it_and_one_that_is_gone_is_fine(api, kubernetes):
    item = objects.snapshot(claim(), 1) | {"status": {"boundVolumeSnapshotContentName": "content"}}
    api.errors = [MISSING]
    kubernetes.delete_snapshot(item)
    assert api.names() == ["delete_namespaced_custom_object", "delete_cluster_custom_object"]


def test_an_api_server_that_goes_away_for_a_moment_ends_no_run(api, kubernetes, monkeypatch):
    monkeypatch.setattr(Kubernetes.snapshots.retry, "sleep", lambda seconds: None)
    api.errors = [ApiException(status=503), urllib3.exceptions.HTTPError("reset")]
    assert kubernetes.snapshots() == []
    api.errors = [ApiException(status=403)]
    with pytest.raises(ApiException):
        kubernetes.snapshots()


def test_what_the_api_refuses_is_said_in_words(api):
    with pytest.raises(VolumeError, match="the cluster's API says 404 Not Found"), module.connected(lambda: None):
        raise MISSING
