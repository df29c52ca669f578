"""The salt-cloud driver: the shapes that Salt expects, and no secret in anything that it hands out."""

import json

import pytest
import salt.config
import salt.loader
from salt.exceptions import SaltCloudNotFound, SaltCloudSystemExit

from managed_k8s import paths
from managed_k8s.openstack import infrastructure, server, ssh
from managed_k8s.openstack.provision import server as provision
from tests.support.fake_cloud import Cloud
from tests.support.settings import GATEWAY, NAME
from tests.support.settings import INFRASTRUCTURE as SETTINGS

PROFILE = {**GATEWAY, "provider": "openstack:openstack", "profile": "demo-gateway"}
SECRET = "-----BEGIN PRIVATE KEY-----"


class Events(list[tuple[str, dict[str, str]]]):
    """Stands for the master's event bus."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def fire_event(self, data, tag):
        self.append((tag, data))


@pytest.fixture
def cloud():
    cloud = Cloud()
    cloud.image.create_image(name="debian-12")
    cloud.compute.create_flavor(name="small")
    infrastructure.ensure(cloud, "demo", SETTINGS)
    return cloud


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def opts(tmp_path):
    (tmp_path / "master.pub").write_text("public\n")
    opts = {**salt.config.DEFAULT_MINION_OPTS, **salt.config.DEFAULT_CLOUD_OPTS}
    opts |= {
        "root_dir": str(tmp_path),
        "cachedir": str(tmp_path / "cache"),
        "pki_dir": str(tmp_path),
        "sock_dir": str(tmp_path),
        "cloud_dirs": [str(paths.root() / "_clouds")],
        "managed_k8s": {"checkout": str(paths.root())},
        "profiles": {"demo-gateway": PROFILE},
        "providers": {"openstack": {"openstack": {"driver": "openstack", "cloud": "lab", "profiles": {}}}},
    }
    for folder in ("minions", "minions_pre"):
        (tmp_path / folder).mkdir()
    return opts


@pytest.fixture
def driver(opts, cloud, events, monkeypatch):
    clouds = salt.loader.clouds(opts)
    monkeypatch.setattr("managed_k8s.openstack.connection.connect", lambda name, folder: cloud)
    monkeypatch.setattr("salt.utils.event.get_master_event", lambda *args, **kwargs: events)
    monkeypatch.setattr(provision, "prepare", lambda conn, opts, vm: None)
    monkeypatch.setattr(ssh, "install", lambda routes, files, wait: None)
    # salt-cloud says so by itself, around each call.
    opts["providers"]["openstack"]["openstack"]["provider"] = "openstack:openstack"
    return clouds


def vm(**changed):
    keys = {"priv_key": SECRET, "pub_key": "public key"}
    return {
        **PROFILE, **keys, "name": NAME, "driver": "openstack", "cloud": "lab", "minion": {"master": "192.0.2.1"},
        "minion_archive": "http://mirror/salt.tar.gz", "minion_archive_sha256": "0", **changed,
    }  # fmt: skip


def test_has_salt_clouds_whole_set(driver):
    functions = """avail_images avail_locations avail_sizes console_log create destroy get_configured_provider
        list_keypairs list_networks list_nodes list_nodes_full list_nodes_min list_nodes_select list_security_groups
        list_server_groups list_volume_types reboot show_instance start stop"""
    assert {f"openstack.{name}" for name in functions.split()} <= set(driver)


def test_says_nothing_secret(driver, events, opts, caplog):
    caplog.set_level("DEBUG")
    made = driver["openstack.create"](vm(password="hunter2"))
    steps = [tag.rsplit("/", 1)[1] for tag, _ in events]
    assert steps == ["creating", "requesting", "create_server", "deploying", "created"]
    said = json.dumps([made, events]) + caplog.text
    assert SECRET not in said
    assert "hunter2" not in said


def test_a_failure_says_nothing_secret_either_and_takes_the_minions_key_back(driver, opts, tmp_path, monkeypatch):
    def fail(routes, files, wait):
        raise ssh.DeployError("disk full")

    monkeypatch.setattr(ssh, "install", fail)
    (tmp_path / "minions" / NAME).write_text("public key")
    with pytest.raises(SaltCloudSystemExit, match="disk full") as raised:
        driver["openstack.create"](vm())
    assert SECRET not in str(raised.value)
    assert not (tmp_path / "minions" / NAME).exists()


def test_lists_are_plain_data(driver, cloud):
    server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    server.complete(cloud, server.find(cloud, NAME))
    for name in (
        "list_nodes", "list_nodes_full", "list_nodes_min", "avail_images", "avail_sizes", "avail_locations",
        "list_networks", "list_security_groups", "list_server_groups", "list_keypairs", "list_volume_types",
    ):  # fmt: skip
        found = driver[f"openstack.{name}"]()
        assert json.loads(json.dumps(found)) == found
    node = driver["openstack.list_nodes"]()[NAME]
    assert set(node) == {"id", "name", "image", "size", "state", "private_ips", "public_ips"}
    assert driver["openstack.show_instance"](NAME, call="action")["state"] == "ACTIVE"


def test_images_of_one_name_are_all_listed(driver, cloud):
    other = cloud.image.create_image(name="debian-12")
    cloud.image.create_image(name="debian-13")
    found = driver["openstack.avail_images"]()
    assert len(found) == 3
    assert found[f"debian-12 ({other.id})"]["id"] == other.id
    assert "debian-13" in found


def test_a_map_starts_what_is_stopped(driver, cloud, opts):
    server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    server.complete(cloud, server.find(cloud, NAME))
    server.find(cloud, NAME)._update(status="SHUTOFF")
    # salt.cloud.Map.get_vmnames_by_action compares with these words.
    assert driver["openstack.list_nodes_min"]() == {NAME: {"state": "STOPPED"}}
    assert driver["openstack.list_nodes"]()[NAME]["state"] == "SHUTOFF"


def test_a_failure_in_a_process_of_its_own_is_a_message(driver, opts, monkeypatch):
    """salt-cloud -p gives each server one when it works in parallel."""

    def fail(routes, files, wait):
        raise ssh.DeployError("disk full")

    monkeypatch.setattr(ssh, "install", fail)
    parallel = salt.loader.clouds({**opts, "parallel": True})
    with pytest.raises(SystemExit, match=f"{NAME}: disk full"):
        parallel["openstack.create"](vm())


def test_salt_cloud_shows_a_refusal_as_it_is(driver, opts, monkeypatch):
    """It takes the arguments of an error that comes before the map is read for a format string."""
    wrong = {**opts, "providers": {"openstack": {"openstack": {"driver": "openstack", "cloud": "lab", "x{0}{y}": 1}}}}
    with pytest.raises(SaltCloudSystemExit) as raised:
        salt.loader.clouds(wrong)["openstack.get_configured_provider"]()
    shown = f"Error: {raised.value.args}".format(raised.value)
    assert shown.startswith("Error: \n- provider openstack: x{0}{y}: no such key")
    assert raised.value.exit_code == 1


def test_one_that_was_not_completed_is_still_to_be_made_but_can_be_removed(driver, cloud, opts):
    server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    assert driver["openstack.list_nodes_min"]() == {}
    assert list(driver["openstack.list_nodes"]()) == [NAME]
    opts["destroy"] = True
    assert list(salt.loader.clouds(opts)["openstack.list_nodes_min"]()) == [NAME]


def test_takes_what_the_map_says_of_one_server(driver, cloud):
    driver["openstack.create"](vm(flavor="small", metadata={"rack": "7"}))
    assert server.find(cloud, NAME).metadata["rack"] == "7"


def test_destroy_removes_it_and_its_key(driver, cloud, events, tmp_path):
    server.create(cloud, NAME, GATEWAY, "key", lambda text: None)
    (tmp_path / "minions" / NAME).write_text("public key")
    assert driver["openstack.destroy"](NAME) == {"Destroyed": True}
    assert server.find(cloud, NAME) is None
    assert not (tmp_path / "minions" / NAME).exists()
    assert [tag.rsplit("/", 1)[1] for tag, _ in events] == ["destroying", "destroyed"]
    with pytest.raises(SaltCloudNotFound):
        driver["openstack.destroy"](NAME)


@pytest.mark.parametrize(
    ("name", "arguments", "call"),
    [("show_instance", [NAME], "function"), ("start", [NAME], "function"), ("destroy", [NAME], "function"),
     ("list_nodes_full", [], "action"), ("avail_images", [], "action")],
)  # fmt: skip
def test_functions_and_actions_are_not_mixed_up(driver, name, arguments, call):
    with pytest.raises(SaltCloudSystemExit, match=r"must be called with"):
        driver[f"openstack.{name}"](*arguments, call=call)
