"""One server: made from its profile, found again, finished or replaced, removed with what was made for it."""

import base64

import pytest

from managed_k8s import names
from managed_k8s.config.settings import InvalidError
from managed_k8s.openstack import credentials, infrastructure, server, servers, ssh
from managed_k8s.openstack.connection import CloudError
from managed_k8s.openstack.provision import server as provision
from managed_k8s.state.store import Store
from tests.support.fake_cloud import Cloud
from tests.support.settings import GATEWAY, NAME
from tests.support.settings import INFRASTRUCTURE as SETTINGS


@pytest.fixture
def cloud():
    cloud = Cloud()
    cloud.image.create_image(name="debian-12")
    cloud.compute.create_flavor(name="small")
    infrastructure.ensure(cloud, "demo", SETTINGS)
    cloud.requests.clear()
    return cloud


@pytest.fixture
def opts(tmp_path):
    (tmp_path / "master.pub").write_text("public\n")
    return {"root_dir": str(tmp_path), "pki_dir": str(tmp_path)}


def vm(name=NAME, raw=GATEWAY, **changed):
    keys = {"private": "PRIVATE KEY", "public": "public key"}
    return {
        "name": name, "profile": "demo-gateway", "raw": raw, "deploy": True, "keys": keys, "minion": "id: x\n",
        "requirements": None, "source": {"ARCHIVE": "http://mirror/salt.tar.gz", "ARCHIVE_SHA256": "0"}, **changed,
    }  # fmt: skip


def make(cloud, opts, monkeypatch, install=lambda routes, files, wait: None, **changed):
    monkeypatch.setattr(ssh, "install", install)
    return provision.create(cloud, opts, vm(**changed), lambda text: None)


def test_is_made_as_the_profile_says(cloud, opts, monkeypatch):
    made = make(cloud, opts, monkeypatch)
    port = cloud.network.find_port(NAME)
    group = cloud.network.find_security_group("demo-gateway")
    assert port.allowed_address_pairs == [{"ip_address": "10.30.0.5"}]
    assert port.security_group_ids == [group.id]
    assert next(cloud.network.ips(port_id=port.id)).description == names.tag("demo")
    assert made.metadata == {"managed-k8s": "demo", "managed-k8s-role": "gateway"}
    assert servers.listing(cloud, "demo")[NAME]["address"] == port.fixed_ips[0]["ip_address"]


def test_user_data_is_sent_as_nova_takes_it(cloud):
    server.create(cloud, NAME, {**GATEWAY, "user_data": "#cloud-config\n"}, "key", lambda text: None)
    values = dict(cloud.requests)["create Server"]
    assert base64.b64decode(values["user_data"]) == b"#cloud-config\n"


def test_boots_from_a_volume(cloud):
    server.create(cloud, NAME, {**GATEWAY, "boot_volume": {"size": 12, "type": "fast"}}, "key", lambda text: None)
    values = dict(cloud.requests)["create Server"]
    assert "image_id" not in values
    disk = values["block_device_mapping_v2"][0]
    assert (disk["volume_size"], disk["volume_type"], disk["delete_on_termination"]) == (12, "fast", True)


def test_a_second_run_makes_nothing(cloud, opts, monkeypatch):
    make(cloud, opts, monkeypatch)
    cloud.requests.clear()
    make(cloud, opts, monkeypatch)
    assert [what for what, _ in cloud.requests if what.startswith("create")] == []


def test_a_port_that_drifted_is_corrected(cloud):
    server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    port = cloud.network.find_port(NAME)
    cloud.network.update_port(port, allowed_address_pairs=[], security_group_ids=[])
    server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    assert port.allowed_address_pairs == [{"ip_address": "10.30.0.5"}]
    assert len(port.security_group_ids) == 1


def test_a_failed_installation_removes_what_was_made_and_says_why(cloud, opts, monkeypatch):
    before = cloud.names()

    def fail(routes, files, wait):
        raise ssh.DeployError("disk full")

    with pytest.raises(ssh.DeployError, match="disk full"):
        make(cloud, opts, monkeypatch, fail)
    assert cloud.names() == before | {"keypairs": ["managed-k8s-demo"]}


def test_a_server_that_goes_to_error_is_removed_with_the_clouds_reason(cloud, opts, monkeypatch):
    before, cloud.server_status = cloud.names(), "ERROR"
    with pytest.raises(CloudError, match="No valid host"):
        make(cloud, opts, monkeypatch)
    assert cloud.names() == before | {"keypairs": ["managed-k8s-demo"]}


def test_a_complete_server_survives_a_failed_installation(cloud, opts, monkeypatch):
    make(cloud, opts, monkeypatch)

    def fail(routes, files, wait):
        raise ssh.DeployError("no way in")

    for _ in range(2):
        with pytest.raises(ssh.DeployError):
            make(cloud, opts, monkeypatch, fail)
    assert server.find(cloud, NAME) is not None
    # The next run goes on with it.
    assert server.is_pending(server.find(cloud, NAME))


def test_one_that_an_interrupted_run_left_in_error_is_replaced(cloud, opts, monkeypatch):
    half = cloud.tables["servers"].create(
        name=NAME, status="ERROR", metadata={"managed-k8s": "demo", server.PENDING: "pending"}
    )
    made = make(cloud, opts, monkeypatch)
    assert made.id != half.id


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ([{"metadata": {}}], "belongs to no cluster"),
        ([{"metadata": {"managed-k8s": "other"}}], "belongs to other"),
        ([{"metadata": {"managed-k8s": "demo"}, "status": "ERROR"}], "salt-cloud -d"),
        ([{"metadata": {}}, {"metadata": {}}], "there are 2 servers"),
    ],
)
def test_keeps_away_from_servers_that_it_does_not_understand(cloud, present, words):
    for values in present:
        cloud.tables["servers"].create(name=NAME, **{"status": "ACTIVE", **values})
    with pytest.raises(CloudError, match=words):
        server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    assert len(cloud.tables["servers"].items) == len(present)


def test_destroy_leaves_ports_and_addresses_of_others(cloud):
    server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    own = cloud.network.find_port(NAME)
    cloud.network.create_port(name=NAME, description="mine")
    cloud.network.create_ip(port_id=own.id, description="mine")
    assert server.destroy(cloud, NAME)
    assert [port.description for port in cloud.network.ports(name=NAME)] == ["mine"]
    assert "mine" in [address.description for address in cloud.network.ips()]
    assert not server.destroy(cloud, NAME)


def test_goes_in_through_each_running_gateway(cloud, opts, monkeypatch):
    for number, status, owner in ((1, "ACTIVE", "demo"), (2, "SHUTOFF", "demo"), (3, "ACTIVE", "demo"),
                                  ("gateway-1", "ACTIVE", "demo-gateway")):  # fmt: skip
        addresses = {"demo": [{"addr": f"203.0.113.{number}", "OS-EXT-IPS:type": "floating"}]}
        metadata = {"managed-k8s": owner}
        cloud.tables["servers"].create(
            name=f"demo-gateway-{number}", status=status, addresses=addresses, metadata=metadata
        )
    cloud.network.create_security_group(name="demo-worker", description="x")
    raw = {key: GATEWAY[key] for key in ("cluster", "image", "flavor")}
    raw |= {"networks": [{"network": "demo"}], "ssh_gateway": "demo-gateway"}
    seen = []
    make(cloud, opts, monkeypatch, lambda routes, files, wait: seen.extend(routes()), name="demo-worker-1", raw=raw)
    proxies = [option for route in seen for option in route.options if option.startswith("ProxyCommand")]
    assert [proxy.split()[-1] for proxy in proxies] == ["debian@203.0.113.1", "debian@203.0.113.3"]
    assert str(Store.of(opts, "demo").path(ssh.SSH_KEY)) in proxies[0]


def test_sends_the_minion_its_keys_and_those_of_its_master(cloud, opts, monkeypatch):
    sent = {}
    make(cloud, opts, monkeypatch, lambda routes, files, wait: sent.update(files))
    assert (sent["minion.pem"], sent["minion.pub"], sent["minion_master.pub"]) == (
        "PRIVATE KEY",
        "public key",
        "public\n",
    )
    assert sent["source"] == "ARCHIVE=http://mirror/salt.tar.gz\nARCHIVE_SHA256=0\n"
    assert sent["requirements.lock"] == ""


def test_without_a_ready_environment_it_sends_what_pip_installs(cloud, opts, monkeypatch, tmp_path):
    (tmp_path / "lock").write_text("salt==1 --hash=sha256:0\n")
    sent = {}
    make(
        cloud, opts, monkeypatch, lambda routes, files, wait: sent.update(files),
        source={"INDEX_URL": "http://mirror/simple/"}, requirements=str(tmp_path / "lock"),
    )  # fmt: skip
    assert sent["source"] == "INDEX_URL=http://mirror/simple/\n"
    assert sent["requirements.lock"] == "salt==1 --hash=sha256:0\n"
    with pytest.raises(InvalidError, match="minion_requirements: there is no file /nowhere"):
        make(cloud, opts, monkeypatch, source={}, requirements="/nowhere")


def test_the_clusters_key_is_made_once_and_is_for_its_owner_only(cloud, opts):
    store = Store.of(opts, "demo")
    assert credentials.ensure_ssh_key(cloud, store) == credentials.ensure_ssh_key(cloud, store) == "managed-k8s-demo"
    assert store.path(ssh.SSH_KEY).stat().st_mode & 0o777 == 0o600
    cloud.compute.find_keypair("managed-k8s-demo")._update(public_key="ssh-ed25519 AAAA")
    with pytest.raises(CloudError, match="openstack keypair delete managed-k8s-demo"):
        credentials.ensure_ssh_key(cloud, store)
