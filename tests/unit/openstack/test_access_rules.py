"""What Kubernetes' account may ask of the cloud, and what happens where the cloud cannot hold it to that."""

import concurrent.futures
import re
import time

import pytest
from keystoneauth1.access.access import AccessInfoV3

from managed_k8s.openstack import access_rules, credentials
from managed_k8s.openstack.connection import CloudError
from managed_k8s.state.store import Store
from tests.support.fake_cloud import Cloud
from tests.support.settings import settings

# Settings by which the credential is held to access rules, and is not.
HELD, UNHELD = (settings(openstack={"access_rules": held}).openstack for held in (True, False))

NEEDED = """
GET compute /v2.1/
GET compute /compute/v2.1/servers/detail
GET compute /v2.1/servers/1234
GET compute /v2.1/flavors/1
POST compute /v2.1/servers/1234/os-volume_attachments
DELETE compute /v2.1/servers/1234/os-volume_attachments/5678
GET network /
GET network /networking/v2.0/
GET network /v2.0/extensions
GET network /v2.0/ports
GET block-storage /v3/
GET block-storage /volume/v3/
GET block-storage /v3/project/volumes/detail
POST block-storage /v3/project/volumes
POST block-storage /v3/project/volumes/1234/action
DELETE block-storage /v3/project/volumes/1234
GET block-storage /v3/project/snapshots
DELETE block-storage /volume/v3/project/snapshots/1234
POST block-storage /v3/project/backups
"""
FORBIDDEN = """
POST compute /v2.1/servers
DELETE compute /v2.1/servers/1234
POST compute /v2.1/servers/1234/action
GET compute /v2.1/servers/1234/os-server-password
GET compute /v2.1/os-keypairs
POST network /v2.0/security-group-rules
PUT network /v2.0/ports/1234
GET network /v2.0/ports/
DELETE network /v2.0/floatingips/1234
GET block-storage /v3/project/os-quota-sets/project
GET image /v2/images
"""


def matches(rule, request):
    """Compare as keystonemiddleware does: * is one part of a path, ** any text."""
    method, service, path = request.split()
    parts = [{"**": ".*", "*": "[^/]+"}.get(part, re.escape(part)) for part in re.split(r"(\*\*?)", rule["path"])]
    same = (rule["method"], rule["service"]) == (method, service)
    return same and re.fullmatch("".join(parts), path) is not None


@pytest.fixture
def cloud():
    return Cloud()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


@pytest.fixture
def refusing(monkeypatch):
    """Return the services that are not set up for access rules."""
    found: set[str] = set()
    monkeypatch.setattr(access_rules, "_status", lambda conn, session, service: 401 if service in found else 200)
    return found


def names(cloud):
    return [one.name for one in cloud.identity.application_credentials("user")]


@pytest.mark.parametrize("request_", NEEDED.strip().splitlines())
def test_what_the_cloud_controller_and_cinder_csi_ask_for_is_allowed(cloud, request_):
    assert any(matches(rule, request_) for rule in access_rules.of(cloud))


@pytest.mark.parametrize("request_", FORBIDDEN.strip().splitlines())
def test_nothing_else_is(cloud, request_):
    assert not any(matches(rule, request_) for rule in access_rules.of(cloud))


def test_rules_have_the_form_that_keystone_asks_for(cloud):
    for rule in access_rules.of(cloud):
        assert set(rule) == {"service", "method", "path"}
        assert re.fullmatch("GET|POST|DELETE", rule["method"])
        assert rule["path"].startswith("/")


def test_services_are_called_as_in_the_catalogue(cloud):
    cloud.token = AccessInfoV3({"token": {"catalog": [{"type": "compute"}, {"type": "volumev3"}]}}, "id")
    assert {rule["service"] for rule in access_rules.of(cloud)} == {"compute", "network", "volumev3"}


def test_a_credential_is_made_once_and_can_do_no_more_than_it_needs(cloud, store, refusing):
    made = credentials.ensure_application_credential(cloud, store, HELD)
    assert credentials.ensure_application_credential(cloud, store, HELD) == made
    assert names(cloud) == ["managed-k8s-demo"]
    (values,) = [v for what, v in cloud.requests if what.startswith("create") and v["name"] == "managed-k8s-demo"]
    assert values["access_rules"] == access_rules.of(cloud)
    assert values["roles"] == [{"name": "member"}]
    assert values["unrestricted"] is False
    assert credentials.suits(made, HELD)
    assert not credentials.suits(made, UNHELD)
    assert not credentials.suits(None, UNHELD)


def test_two_steps_that_need_it_at_once_get_the_same_one(cloud, store, refusing, monkeypatch):
    listed = cloud.identity.application_credentials

    def list_slowly(user):
        found = listed(user)
        time.sleep(0.2)
        return found

    monkeypatch.setattr(cloud.identity, "application_credentials", list_slowly)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(credentials.ensure_application_credential, cloud, store, HELD) for _ in "12"]
    first, second = (one.result() for one in asked)
    assert first == second
    assert names(cloud) == ["managed-k8s-demo"]


def test_a_cloud_that_refuses_access_rules_is_told_with_the_way_out_and_nothing_stays(cloud, store, refusing):
    refusing.add("block-storage")
    with pytest.raises(CloudError, match=r"block-storage of this cloud refuses .* openstack.access_rules to false"):
        credentials.ensure_application_credential(cloud, store, HELD)
    assert names(cloud) == []
    credentials.ensure_application_credential(cloud, store, UNHELD)
    assert names(cloud) == ["managed-k8s-demo"]


def test_another_setting_replaces_the_credential_but_not_for_one_that_is_refused(cloud, store, refusing):
    before = credentials.ensure_application_credential(cloud, store, UNHELD)
    assert before["access_rules"] is None
    refusing.add("network")
    with pytest.raises(CloudError, match="network of this cloud"):
        credentials.ensure_application_credential(cloud, store, HELD)
    assert [one.id for one in cloud.identity.application_credentials("user")] == [before["id"]]
    refusing.clear()
    after = credentials.ensure_application_credential(cloud, store, HELD)
    assert [one.id for one in cloud.identity.application_credentials("user")] == [after["id"]]
    assert after["id"] != before["id"]


def test_a_trial_that_was_interrupted_is_removed_by_the_next(cloud, store, refusing):
    cloud.tables["application_credentials"].create(name="managed-k8s-demo-trial")
    assert access_rules.problems(cloud, "demo", {}) == []
    assert names(cloud) == []
