"""The cluster's infrastructure: made once, corrected when it drifts, removed without touching what others made."""

import pytest

from managed_k8s import names
from managed_k8s.openstack import infrastructure, security_groups, teardown
from managed_k8s.openstack.connection import CloudError
from managed_k8s.state.store import Store
from tests.support.fake_cloud import Cloud
from tests.support.settings import INFRASTRUCTURE as SETTINGS

EVERYTHING = {
    "networks": ["demo"],
    "subnets": ["demo"],
    "routers": ["demo"],
    "security_groups": ["demo-gateway", "demo-master", "demo-worker"],
    "server_groups": ["demo-gateway", "demo-master", "demo-worker"],
}


@pytest.fixture
def cloud():
    return Cloud()


@pytest.fixture
def made(cloud):
    infrastructure.ensure(cloud, "demo", SETTINGS)
    cloud.requests.clear()
    return cloud


def settings(**changed):
    openstack = SETTINGS.openstack.model_copy(update=changed)
    return SETTINGS.model_copy(update={"openstack": openstack})


def test_makes_everything_and_says_where_the_api_is(cloud):
    said: list[str] = []
    result = infrastructure.ensure(cloud, "demo", SETTINGS, said.append)
    assert EVERYTHING.items() <= cloud.names().items()
    assert result["virtual_ip"] == "10.30.0.5"
    assert result["public_address"] == infrastructure.public_address(cloud, "demo")
    assert "create network demo" in said


def test_it_is_kept_for_which_settings_it_was_made(cloud, tmp_path):
    store = Store(tmp_path, "demo")
    result = infrastructure.correct(cloud, store, SETTINGS, print)
    assert store.read("infra.json") == result
    assert result["digest"] == security_groups.digest(SETTINGS)
    assert security_groups.digest(settings(ssh_allowed_cidrs=("192.0.2.0/24",))) != result["digest"]


def test_the_plan_is_what_is_done(cloud):
    plan = infrastructure.plan(cloud, "demo", SETTINGS)
    assert not cloud.requests
    assert {"create network demo", "create router demo", "create security group demo-master"} <= set(plan)


def test_a_second_run_changes_nothing(made):
    assert infrastructure.plan(made, "demo", SETTINGS) == []
    infrastructure.ensure(made, "demo", SETTINGS)
    assert made.requests == []


def test_the_virtual_ips_port_is_open_for_nothing_and_bound_to_nobody(made):
    port = made.network.find_port("demo-api")
    assert (port.security_group_ids or [], port.device_id, port.fixed_ips[0]["ip_address"]) == ([], None, "10.30.0.5")


def test_a_rule_that_somebody_added_goes_and_one_that_is_missing_comes_back(made):
    group = made.network.find_security_group("demo-master")
    rule = next(made.network.security_group_rules(security_group_id=group.id, port_range_min=2379))
    made.network.delete_security_group_rule(rule)
    made.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
    )
    assert infrastructure.plan(made, "demo", SETTINGS) == [
        "allow tcp 2379-2380 from master to demo-master",
        "forbid tcp 22 from 0.0.0.0/0 to demo-master",
    ]
    infrastructure.ensure(made, "demo", SETTINGS)
    assert infrastructure.plan(made, "demo", SETTINGS) == []


@pytest.mark.parametrize(
    ("changed", "change"),
    [
        ({"dns_servers": ["192.0.2.53"]}, "set DNS servers of subnet demo"),
        ({"ssh_allowed_cidrs": ["192.0.2.0/24"]}, "allow tcp 22 from 192.0.2.0/24 to demo-gateway"),
        ({"anti_affinity": "hard"}, "create server group demo-master (anti-affinity)"),
        ({"external_network": "second"}, "connect router demo to second"),
    ],
)
def test_a_changed_setting_is_carried_out(made, changed, change):
    made.network.create_network(name="second", is_router_external=True)
    assert change in infrastructure.plan(made, "demo", settings(**changed))
    infrastructure.ensure(made, "demo", settings(**changed))
    assert infrastructure.plan(made, "demo", settings(**changed)) == []


def test_the_apis_floating_ip_comes_back_when_it_was_taken_off(made):
    address = next(made.network.ips())
    made.network.update_ip(address, port_id=None)
    result = infrastructure.ensure(made, "demo", SETTINGS)
    assert result["public_address"] == address.floating_ip_address
    assert len(list(made.network.ips())) == 1


def test_says_all_that_stands_in_the_way_and_changes_nothing(cloud):
    cloud.network.create_network(name="demo", description="somebody's")
    cloud.network.create_security_group(name="demo-worker", description="")
    cloud.requests.clear()
    with pytest.raises(CloudError) as raised:
        infrastructure.ensure(cloud, "demo", settings(external_network="outside"))
    for words in ("network demo is there already", "security group demo-worker", "'outside' is not", "are external"):
        assert words in str(raised.value)
    assert cloud.requests == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"network_cidr": "10.31.0.0/24"}, "cannot be changed"),
        ({"virtual_ip": "10.30.0.6"}, "cannot be changed"),
    ],
)
def test_refuses_what_cannot_be_changed(made, changed, words):
    with pytest.raises(CloudError, match=words):
        infrastructure.ensure(made, "demo", settings(**changed))
    assert made.requests == []


def test_refuses_another_policy_while_servers_are_in_the_group(made):
    made.compute.find_server_group("demo-master")._update(member_ids=["server"])
    with pytest.raises(CloudError, match="while servers are in it"):
        infrastructure.ensure(made, "demo", settings(anti_affinity="hard"))


def populate(cloud):
    """Add to a cluster what runs in it and what it made, and beside it what others have."""
    tag = names.tag("demo")
    tables = cloud.tables
    network = cloud.network.find_network("demo")
    tables["servers"].create(name="demo-master-1", metadata={names.CLUSTER: "demo"})
    tables["ports"].create(name="demo-master-1", network_id=network.id, description=tag)
    tables["ips"].create(floating_ip_address="203.0.113.200", description=tag)
    tables["keypairs"].create(name="managed-k8s-demo")
    tables["application_credentials"].create(name="managed-k8s-demo")
    for kind in ("volumes", "snapshots", "backups"):
        tables[kind].create(name=f"pvc-{kind}", metadata={names.CSI_CLUSTER: "demo"}, status="available")


def populate_others(cloud):
    tables = cloud.tables
    infrastructure.ensure(cloud, "demo2", SETTINGS)
    tables["servers"].create(name="demo-master-9", metadata={})
    tables["servers"].create(name="demo2-master-1", metadata={names.CLUSTER: "demo2"})
    tables["ports"].create(name="demo-master-1", network_id="elsewhere", description="mine")
    tables["ips"].create(floating_ip_address="203.0.113.201", description="")
    tables["keypairs"].create(name="demo")
    for kind in ("volumes", "snapshots", "backups"):
        tables[kind].create(name="data", metadata={}, status="available")
        tables[kind].create(name="pvc-2", metadata={names.CSI_CLUSTER: "demo2"}, status="available")


def test_destroy_leaves_nothing_of_the_cluster_and_everything_else(cloud):
    populate_others(cloud)
    before = cloud.names()
    infrastructure.ensure(cloud, "demo", SETTINGS)
    populate(cloud)
    planned = infrastructure.destroy_plan(cloud, "demo")
    said: list[str] = []
    infrastructure.destroy(cloud, "demo", said.append)
    # Subnets and rules go with the networks and groups they are in.
    ignored = ("subnets", "security_group_rules")
    assert {k: v for k, v in cloud.names().items() if k not in ignored} == {
        k: v for k, v in before.items() if k not in ignored
    }
    assert [f"remove {item}" for item in planned] == said
    assert infrastructure.destroy_plan(cloud, "demo") == []


def test_destroy_goes_on_when_something_stays_and_says_what_and_why(made, monkeypatch):
    monkeypatch.setattr(teardown, "_INTERVAL", 0)
    network = made.network.find_network("demo")
    made.tables["ports"].create(name="mine", network_id=network.id, description="", device_owner="")
    with pytest.raises(CloudError, match=r"network demo stays: .*there are ports"):
        teardown.run(made, "demo", lambda text: None, timeout=0.01)
    assert set(made.names()) == {"networks", "ports", "subnets", "security_group_rules"}


def test_destroy_waits_for_servers_before_it_takes_their_network(made, monkeypatch):
    monkeypatch.setattr(teardown, "_INTERVAL", 0)
    populate(made)
    servers = made.tables["servers"]
    looks = iter([*(list(servers.items.values()) for _ in range(3)), [], []])
    deleted = []
    made.compute.delete_server = lambda server: deleted.append(server.name)
    made.compute.servers = lambda: next(looks)
    infrastructure.destroy(made, "demo")
    assert deleted == ["demo-master-1"]
