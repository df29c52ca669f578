"""What can be known beforehand is said beforehand, all of it at once, and nothing is made then."""

import pytest
import salt.config
import yaml
from keystoneauth1.access.access import AccessInfoV3

from managed_k8s.config.settings import InvalidError
from managed_k8s.openstack import access_rules, infrastructure, quota
from managed_k8s.openstack.provision import command_check, preflight, server
from managed_k8s.openstack.provision.preflight import Request
from managed_k8s.state.store import Store
from tests.support.fake_cloud import Cloud
from tests.support.settings import INFRASTRUCTURE as SETTINGS

PROVIDER = {"driver": "openstack", "cloud": "lab", "minion": {"master": "192.0.2.1"}}


def profile(role, **changed):
    port = {"network": "demo", "security_groups": [f"demo-{role}"]}
    if role == "gateway":
        port["allowed_address_pairs"] = [{"port": "demo-api"}]
    return {"provider": "openstack", "cluster": "demo", "image": "debian-12", "flavor": "small", "networks": [port],
            "server_group": f"demo-{role}", **changed}  # fmt: skip


MAP = {"demo-gateway": ["demo-gateway-1"], "demo-master": ["demo-master-1"], "demo-worker": ["demo-worker-1"]}


@pytest.fixture
def cloud():
    cloud = Cloud()
    cloud.image.create_image(name="debian-12")
    cloud.compute.create_flavor(name="small", vcpus=2, ram=2048)
    cloud.requests.clear()
    return cloud


class Checkout:
    """A checkout with one cluster, in which tests change what they want."""

    def __init__(self, root):
        self.root = root
        self.map, self.provider = dict(MAP), dict(PROVIDER)
        self.profiles = {f"demo-{role}": profile(role) for role in ("gateway", "master", "worker")}
        self.settings = {
            "openstack": {"cloud": "lab", "external_network": "external", "access_rules": False}, "artifacts": {"url": "http://192.0.2.9"},
        }  # fmt: skip

    def opts(self, **more):
        """Write the files; return salt-cloud's options as it makes them of these."""
        for name, content in {
            "cluster.map": self.map,
            "cloud.profiles.d/demo.conf": self.profiles,
            "cloud.providers.d/openstack.conf": {"openstack": self.provider},
            "pillar/clusters/demo.sls": {"managed_k8s": self.settings},
        }.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        found = {
            **salt.config.DEFAULT_MINION_OPTS,
            **salt.config.DEFAULT_CLOUD_OPTS,
            "map": str(self.root / "cluster.map"),
        }
        profiles = {
            name: {**keys, "profile": name, "provider": "openstack:openstack"}
            for name, keys in self.profiles.items()
            if keys.get("provider") == "openstack"
        }
        return found | {
            "root_dir": str(self.root), "cachedir": str(self.root), "managed_k8s": {"checkout": str(self.root)},
            "providers": {"openstack": {"openstack": {**self.provider, "profiles": {}}}}, "profiles": profiles, **more,
        }  # fmt: skip


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def refused(checkout, cloud, **opts):
    """Return what salt-cloud is told; nothing may have been made."""
    with pytest.raises(InvalidError) as caught:
        command_check.check(checkout.opts(**opts), "openstack", lambda: cloud)
    assert cloud.requests == []
    return caught.value.problems


def test_a_map_in_order_passes_and_makes_nothing(checkout, cloud):
    opts = checkout.opts()
    command_check.check(opts, "openstack", lambda: cloud)
    assert cloud.requests == []
    # The processes that make the servers need not look again.
    assert len(server.Run.of(Store.of(opts, "demo")).checked) == 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"demo-worker": ["demo-worker-1"], "demo-wroker": ["demo-worker-2"]}, "profile demo-wroker is in no file"),
        ({**MAP, "demo-master": ["demo-master-1", "demo-master-2"]}, "demo has 2 masters; etcd needs 1, 3 or 5"),
        ({name: MAP[name] for name in ("demo-master", "demo-worker")}, "demo has no gateway; add demo-gateway-1"),
        ({**MAP, "demo-worker": ["web-1"]}, "web-1: must be named demo-<gateway|master|worker>-<number>"),
        ({**MAP, "demo-worker": ["demo-master-1"]}, "demo-master-1 is there twice"),
        ({**MAP, "demo-worker": [5]}, "5 is no server's name"),
        ({**MAP, "demo-worker": [{"demo-worker-1": ["x"]}]}, "must be a table of keys for this server alone"),
        ({**MAP, "demo-worker": [{"demo-worker-1": {"flavour": "x"}}]}, "did you mean flavor?"),
        ({**MAP, "demo-worker": [{"demo-master-3": {}}]}, "must have demo-master, or a master is not reached"),
        ("- demo-gateway-1", "cluster.map: must be a table at its top"),
        ("a: [", "cluster.map: is no YAML"),
        ("{{ nothing.here }}", "cluster.map: cannot be read"),
    ],
)
def test_a_wrong_map_is_refused_as_a_whole(checkout, cloud, changed, words):
    checkout.map = changed
    assert any(words in problem for problem in refused(checkout, cloud)), refused(checkout, cloud)


def test_jinja_makes_a_map(checkout, cloud):
    checkout.map = yaml.safe_dump({**MAP, "demo-worker": None}).replace(
        "demo-worker: null", "demo-worker:\n{% for n in range(1, 4) %}- demo-worker-{{ n }}\n{% endfor %}"
    )
    command_check.check(checkout.opts(), "openstack", lambda: cloud)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.profiles["demo-worker"].update(flavor=3), "profile demo-worker: flavor: 3 must be of type string"),
        (lambda c: c.profiles["demo-worker"].update(image="debian-11"), "image: 'debian-11' is not in this project"),
        (lambda c: c.profiles["demo-worker"].update(networks=5), "networks: 5 must be of type array"),
        (lambda c: c.profiles["demo-worker"].update(provider="elsewhere"), "provider: 'elsewhere' is in no file"),
        (lambda c: c.profiles["demo-worker"]["networks"][0].update(security_groups=[]), "must have demo-worker"),
        (
            lambda c: c.profiles["demo-gateway"]["networks"][0].pop("allowed_address_pairs"),
            "must have {port: demo-api}",
        ),
        (lambda c: c.profiles["demo-worker"]["networks"][0].update(fixed_ip="10.30.0.5"), "and not the virtual IP"),
        (lambda c: c.profiles["demo-worker"].update(cluster="other"), "cluster is 'other'"),
        (lambda c: c.provider.update(minon_archive="x"), "provider openstack: minon_archive: no such key"),
        (lambda c: c.provider.update(cloud="second"), "but openstack.cloud of the settings is 'lab'"),
        (lambda c: c.provider.pop("minion"), "minion.master: is missing"),
        (lambda c: c.settings["openstack"].update(netwrk_cidr="x"), "did you mean network_cidr?"),
        (lambda c: c.settings["openstack"].update(external_network="internet"), "'internet' is not in this project"),
    ],
)
def test_wrong_profiles_providers_and_settings_are_refused(checkout, cloud, change, words):
    change(checkout)
    found = refused(checkout, cloud)
    assert any(words in problem for problem in found), found


def test_says_what_is_wrong_in_all_files_at_once(checkout, cloud):
    checkout.map["demo-master"] = ["demo-master-1", "demo-master-2"]
    checkout.profiles["demo-worker"]["flavour"] = "x"
    checkout.settings["kubernetes"] = {"cni": "calico"}
    checkout.map["demo-wroker"] = ["demo-worker-2"]
    checkout.provider["minon"] = {}
    found = refused(checkout, cloud)
    words = ("2 masters", "flavour", "calico", "demo-wroker", "minon")
    assert all(any(word in problem for problem in found) for word in words), found
    assert len(found) == len(words)


def test_one_server_of_a_profile_is_checked_too(checkout, cloud):
    command_check.check(
        checkout.opts(map=None, profile="demo-worker", names=["demo-worker-2"]), "openstack", lambda: cloud
    )
    assert refused(checkout, cloud, map=None, profile="demo-wroker", names=["demo-worker-2"])
    assert refused(checkout, cloud, map=None, profile="demo-worker", names=["web-1"])


def test_hard_maps_are_refused(checkout, cloud):
    (problem,) = refused(checkout, cloud, hard=True)
    assert "--hard would remove every server of the project" in problem


def test_lists_of_what_is_configured_ask_no_cloud(checkout):
    def connect():
        raise AssertionError

    for option in ("list_providers", "list_profiles"):
        command_check.check(checkout.opts(selected_query_option=option), "openstack", connect)


# Quota


def test_an_empty_project_needs_a_cluster_and_its_servers(checkout, cloud):
    found = infrastructure.needs(cloud, "demo", SETTINGS)
    before = {kind: len(table.items) for kind, table in cloud.tables.items()}
    infrastructure.ensure(cloud, "demo", SETTINGS)
    made = {kind: len(table.items) - before[kind] for kind, table in cloud.tables.items()}
    for kind, table in (
        ("network", "networks"), ("subnet", "subnets"), ("router", "routers"), ("port", "ports"),
        ("floating IP", "ips"), ("security group", "security_groups"), ("server group", "server_groups"),
    ):  # fmt: skip
        assert found[kind] == made[table], kind
    # Each new group has two of Neutron's own besides.
    assert found["security group rule"] == made["security_group_rules"] + 6
    assert not +infrastructure.needs(cloud, "demo", SETTINGS)


def test_says_all_that_the_quota_is_too_small_for(checkout, cloud):
    cloud.compute_quota = {"total_cores": 8, "total_cores_used": 4, "total_ram": -1, "total_ram_used": 0,
                           "instances": 10, "instances_used": 7, "server_groups": 2,
                           "server_groups_used": 0}  # fmt: skip
    used_up = {"limit": 1, "used": 1, "reserved": 0}
    cloud.network_quota = {"floating_ips": used_up, "ports": {"limit": -1, "used": 9}}
    assert [problem.split(":")[1].strip() for problem in refused(checkout, cloud)] == [
        "6 more of kind core are needed, and 4 of 8 are left",
        "1 more of kind floating IP are needed, and 0 of 1 are left",
        "3 more of kind server group are needed, and 2 of 2 are left",
    ]


def test_what_is_there_already_is_not_needed_again(checkout, cloud):
    infrastructure.ensure(cloud, "demo", SETTINGS)
    cloud.tables["servers"].create(name="demo-master-1", status="ACTIVE", metadata={})
    cloud.requests.clear()
    cloud.compute_quota = {"instances": 3, "instances_used": 1, "server_groups": 3, "server_groups_used": 3}
    command_check.check(checkout.opts(), "openstack", lambda: cloud)


def test_volumes_to_boot_from_are_counted(cloud):
    needs = quota.of_servers(cloud, [profile("worker", boot_volume={"size": 30})] * 2)
    cloud.storage_quota = {"max_total_volumes": 10, "total_volumes_used": 9,
                           "max_total_volume_gigabytes": 100, "total_gigabytes_used": 0}  # fmt: skip
    (problem,) = quota.shortages(cloud, needs)
    assert "2 more of kind volume are needed, and 1 of 10 are left" in problem


def test_a_cloud_that_does_not_tell_its_quota_is_believed(checkout, cloud):
    import openstack.exceptions

    def refuse(*args, **kwargs):
        raise openstack.exceptions.ForbiddenException("no", http_status=403)

    cloud.compute.get_limits = cloud.network.get_quota = refuse
    command_check.check(checkout.opts(), "openstack", lambda: cloud)


# Rights and routers


@pytest.mark.parametrize("restricted", [True, False])
def test_a_restricted_application_credential_is_told_beforehand(checkout, cloud, restricted):
    own = {"id": "1", "name": "mine", "restricted": restricted}
    cloud.token = AccessInfoV3({"token": {"application_credential": own, "methods": ["application_credential"]}}, "id")
    if restricted:
        (problem,) = refused(checkout, cloud)
        assert "mine of clouds.yaml is restricted" in problem
        assert "openstack application credential create --unrestricted" in problem
    else:
        command_check.check(checkout.opts(), "openstack", lambda: cloud)


def test_a_cloud_that_cannot_do_access_rules_is_told_beforehand(checkout, cloud, monkeypatch):
    checkout.settings["openstack"]["access_rules"] = True
    statuses = {"compute": 200, "network": 200, "block-storage": 401}
    monkeypatch.setattr(access_rules, "_status", lambda conn, session, service: statuses[service])
    with pytest.raises(InvalidError) as caught:
        command_check.check(checkout.opts(), "openstack", lambda: cloud)
    (problem,) = caught.value.problems
    assert list(cloud.identity.application_credentials("user")) == []
    assert problem.startswith("openstack.access_rules: block-storage of this cloud refuses")
    # A cluster that has its credential is not asked about it.
    cloud.tables["application_credentials"].create(name="managed-k8s-demo")
    command_check.check(checkout.opts(), "openstack", lambda: cloud)


def test_a_distributed_router_is_refused(checkout, cloud):
    infrastructure.ensure(cloud, "demo", SETTINGS)
    cloud.network.find_router("demo")._update(is_distributed=True)
    cloud.requests.clear()
    (problem,) = refused(checkout, cloud)
    assert "router demo is distributed (DVR)" in problem
    assert "--centralized demo" in problem


# Once for all servers of a command


def test_a_command_checks_and_makes_the_infrastructure_once(checkout, cloud, monkeypatch):
    opts = checkout.opts()
    command_check.check(opts, "openstack", lambda: cloud)
    looks = []
    monkeypatch.setattr(preflight, "check", lambda *args: looks.append("check"))
    monkeypatch.setattr(infrastructure, "ensure", lambda *args: looks.append("ensure") or {})
    for name, keys in opts["profiles"].items():
        server.prepare(cloud, opts, {"name": f"{name}-1", "profile": name, "raw": keys})
    assert looks == ["ensure"]
    # The next command looks again: somebody may have removed it in between.
    monkeypatch.setattr(server, "run_id", lambda: [1, 2])
    server.prepare(
        cloud, opts, {"name": "demo-worker-1", "profile": "demo-worker", "raw": opts["profiles"]["demo-worker"]}
    )
    assert looks == ["ensure", "check", "ensure"]


def test_a_server_that_nobody_checked_is_checked_when_it_is_made(checkout, cloud):
    keys = {**profile("worker"), "flavour": "x"}
    with pytest.raises(InvalidError, match="did you mean flavor"):
        server.prepare(cloud, checkout.opts(), {"name": "demo-worker-1", "profile": "demo-worker", "raw": keys})
    assert cloud.requests == []


def test_requests_tell_servers_with_other_keys_apart():
    one = Request("a", "p", {"flavor": "x", "provider": "a"})
    assert one.digest == Request("b", "p", {"flavor": "x", "provider": "a:openstack"}).digest
    assert one.digest != Request("a", "p", {"flavor": "y"}).digest
