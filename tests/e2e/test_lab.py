"""What a customer of the lab's cloud sees: servers, networks, volumes, rights."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import shlex
import subprocess
import uuid
from pathlib import Path

import openstack
import psutil
import pytest
import requests
import trustme
from openstack.exceptions import ForbiddenException, HttpException, ResourceFailure, SDKException

from lab import settings
from lab.machine import LINK, Machine
from tests.support.project import PREFIX, SSHError, eventually, gone

pytestmark = pytest.mark.timeout(600)

BIN = Path(__file__).parents[2] / ".venv/bin"
USER_DATA = """#cloud-config
write_files:
- {path: /etc/from-user-data, content: "written by cloud-init"}
runcmd:
- [touch, /run/command-ran]
"""
# What keepalived does when it takes an address: add it, and tell the neighbours by a gratuitous ARP request.
TAKE = """
import fcntl, socket, struct, subprocess, sys
address = sys.argv[1]
subprocess.run(["ip", "address", "replace", address + "/32", "dev", "eth0"], check=True)
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
ip, everybody = socket.inet_aton(address), b"\\xff" * 6
arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac, ip, everybody, ip)
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
    link.bind(("eth0", 0))
    link.send(everybody + mac + b"\\x08\\x06" + arp)
"""


@pytest.fixture(scope="module")
def server(project):
    return project.make_server("one", USER_DATA)


@pytest.fixture(scope="module")
def neighbour(project):
    return project.make_server("two")


def take_address(server, address):
    server.ssh(f"sudo python3 -c {shlex.quote(TAKE)} {address}")


def drop_address(server, address):
    server.ssh(f"sudo ip address delete {address}/32 dev eth0")


# Servers


def test_ssh_through_the_floating_ip_as_a_user_who_may_sudo(server):
    assert server.ssh("whoami") == "debian"
    assert server.ssh("sudo whoami") == "root"


def test_hostname_is_the_servers_name(server):
    assert server.ssh("hostname") == server.name
    server.ssh("getent hosts $(hostname)")


def test_user_data_was_run(server):
    assert server.ssh("cat /etc/from-user-data") == "written by cloud-init"
    server.ssh("test -e /run/command-ran")
    assert "status: done" in server.ssh("cloud-init status")


def test_metadata_service_answers_in_the_server(server):
    found = json.loads(server.ssh("curl -sf http://169.254.169.254/openstack/latest/meta_data.json"))
    assert (found["uuid"], found["name"]) == (server.id, server.name)
    assert server.ssh("curl -sf http://169.254.169.254/openstack/latest/user_data") == USER_DATA.strip()


def test_servers_have_what_their_flavor_says(server, cloud):
    flavor = cloud.compute.find_flavor("lab.small")
    size_gb = int(server.ssh("df --output=size --block-size=1G / | tail -1"))
    assert 0.9 * flavor.disk <= size_gb <= flavor.disk


def test_programs_keep_their_file_capabilities(server):
    # An image that was unpacked without extended attributes lets nobody but root ping.
    assert "1 received" in server.ssh("ping -c 1 -W 2 localhost")


def test_servers_reach_each_other_by_fixed_address(server, neighbour):
    assert server.pings(neighbour.address)


def test_resolver_is_the_subnets(server, project):
    assert server.ssh("resolvectl dns eth0").split()[-1] == project.subnet.dns_nameservers[0]


def test_servers_reach_the_cloud_and_its_mirror(server, cloud):
    url = cloud.config.get_auth_args()["auth_url"]
    assert '"version"' in server.ssh(f"curl -sf --insecure {url}")
    server.ssh(f"curl -sf http://{url.split('/')[2].split(':')[0]}/ --output /dev/null")


def test_console_shows_the_boot(server, cloud):
    output = cloud.compute.get_server_console_output(server.id)["output"]
    assert re.search(r"Cloud-init .* finished", output)


def test_reboot_comes_back_with_its_data(server, cloud):
    server.ssh("echo kept > kept; sync")
    for kind in ("SOFT", "HARD"):
        started = server.started
        cloud.compute.reboot_server(server.id, kind)
        server.wait_for_boot_after(started)
        assert server.ssh("cat kept") == "kept"


def test_stopped_server_is_silent_until_it_is_started(neighbour, cloud):
    cloud.compute.stop_server(neighbour.id)
    cloud.compute.wait_for_server(cloud.compute.get_server(neighbour.id), status="SHUTOFF", wait=120)
    assert not neighbour.answers()
    cloud.compute.start_server(neighbour.id)
    cloud.compute.wait_for_server(cloud.compute.get_server(neighbour.id), wait=120)
    neighbour.wait_for_ssh()


def test_openstackclient_works(clouds, server):
    command = [str(BIN / "openstack"), "--os-cloud", "lab", "server", "list", "--format", "json"]
    done = subprocess.run(command, env={"OS_CLIENT_CONFIG_FILE": clouds}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = {entry["ID"]: entry for entry in json.loads(done.stdout)}
    assert listed[server.id]["Status"] == "ACTIVE"


# Networks


@pytest.fixture
def shared_address(project, server, neighbour, cloud):
    """An address of a port of its own, unbound, with a floating IP; both servers may have it."""
    port = project.make_port("vip")
    floating_ip, address = project.make_floating_ip(port.id), port.fixed_ips[0]["ip_address"]
    for holder in (server, neighbour):
        cloud.network.update_port(holder.port, allowed_address_pairs=[{"ip_address": address}])
    yield address, floating_ip
    for holder in (server, neighbour):
        cloud.network.update_port(holder.port, allowed_address_pairs=[])
        holder.ssh(f"sudo ip address delete {address}/32 dev eth0 2>/dev/null || true")
    cloud.network.delete_port(port)


def test_shared_address_goes_from_one_server_to_the_other(server, neighbour, account, shared_address, project):
    address, floating_ip = shared_address

    def holder():
        # One name for whoever answers: each has a host key of its own.
        (account.folder / "known_hosts").unlink(missing_ok=True)
        return account.ssh(floating_ip, "hostname", known_as="shared", timeout=10)

    eventually(lambda: take_address(server, address) is None and neighbour.pings(address), 30)
    assert eventually(holder, 20) == server.name
    drop_address(server, address)
    take_address(neighbour, address)
    assert eventually(holder, 20) == neighbour.name
    assert server.pings(address)


def test_address_outside_the_allowed_pairs_does_not_work(server, neighbour, cloud, project):
    port = project.make_port("foreign")
    address = port.fixed_ips[0]["ip_address"]
    try:
        take_address(server, address)
        assert not neighbour.pings(address)
        # The same with the pair: it was the missing pair that kept it from working.
        cloud.network.update_port(server.port, allowed_address_pairs=[{"ip_address": address}])
        eventually(lambda: neighbour.pings(address), 30)
        cloud.network.update_port(server.port, allowed_address_pairs=[])
        eventually(lambda: not neighbour.pings(address), 30)
    finally:
        cloud.network.update_port(server.port, allowed_address_pairs=[])
        drop_address(server, address)
        cloud.network.delete_port(port)


def test_security_group_is_enforced(server, cloud, project):
    server.ssh("sudo systemd-run --unit=web --collect python3 -m http.server 8080")
    eventually(lambda: server.ssh("curl -sf --output /dev/null http://localhost:8080 && echo yes"), 10)
    assert not server.answers(8080)
    rule = cloud.network.create_security_group_rule(
        security_group_id=project.security_group.id,
        direction="ingress",
        protocol="tcp",
        port_range_min=8080,
        port_range_max=8080,
    )
    eventually(lambda: server.answers(8080), 30)
    cloud.network.delete_security_group_rule(rule)
    eventually(lambda: not server.answers(8080), 30)
    server.ssh("sudo systemctl stop web")


def test_server_without_a_floating_ip_is_not_reachable_from_outside(server, cloud):
    (floating,) = [ip for ip in cloud.network.ips(port_id=server.port) if ip.floating_ip_address == server.floating_ip]
    cloud.network.update_ip(floating, port_id=None)
    eventually(lambda: not server.answers(), 30)
    cloud.network.update_ip(floating, port_id=server.port)
    eventually(server.answers, 30)


def test_hard_anti_affinity_puts_three_servers_on_three_hosts_and_refuses_a_fourth(cloud, project):
    group = cloud.compute.create_server_group(name=f"{PREFIX}masters", policy="anti-affinity")

    def start(number):
        port = project.make_port(f"master-{number}")
        return project.start_server(f"master-{number}", port, scheduler_hints={"group": group.id})

    made = [start(number) for number in range(3)]
    try:
        hosts = {cloud.compute.wait_for_server(server, wait=180).host_id for server in made}
        assert len(hosts) == 3
        made.append(start(3))
        with pytest.raises(ResourceFailure):
            cloud.compute.wait_for_server(made[3], wait=60)
        assert "No valid host" in cloud.compute.get_server(made[3].id).fault["message"]
    finally:
        for server in made:
            cloud.compute.delete_server(server)
        eventually(lambda: all(gone(cloud.compute.get_server, server) for server in made), 120)


# Volumes


def make_file_system(server, device, text):
    server.ssh(f"sudo mkfs.ext4 -q {device}")
    mount(server, device)
    server.ssh(f"echo {text} | sudo tee /mnt/data && sudo sync")


def mount(server, device):
    server.ssh(f"sudo mount {device} /mnt")


def unmount(server):
    server.ssh("sudo umount /mnt")


def test_volume_keeps_its_data_over_reboots_and_on_another_server(server, neighbour, cloud, project):
    volume = project.make_volume("moving")
    device = project.attach(server, volume)
    assert server.ssh(f"sudo blockdev --getsize64 {device}") == str(2**30)
    make_file_system(server, device, "written-once")
    for kind in ("SOFT", "HARD"):
        started = server.started
        cloud.compute.reboot_server(server.id, kind)
        server.wait_for_boot_after(started)
        eventually(lambda: server.ssh(f"test -b {device} && echo there"), 30)
        mount(server, device)
        assert server.ssh("cat /mnt/data") == "written-once"
    unmount(server)
    project.detach(server, volume)
    with pytest.raises(SSHError):
        server.ssh(f"test -e {device}")
    device = project.attach(neighbour, volume)
    mount(neighbour, device)
    assert neighbour.ssh("cat /mnt/data") == "written-once"
    unmount(neighbour)
    project.detach(neighbour, volume)
    cloud.block_storage.delete_volume(volume)


def test_volume_is_restored_from_its_backup(server, cloud, project):
    storage, volume = cloud.block_storage, project.make_volume("backed-up")
    make_file_system(server, project.attach(server, volume), "precious")
    unmount(server)
    project.detach(server, volume)
    backup = storage.create_backup(volume_id=volume.id, name=f"{PREFIX}backup")
    storage.wait_for_status(backup, "available", failures=["error"], interval=1, wait=180)

    device = project.attach(server, volume)
    server.ssh(f"sudo dd if=/dev/urandom of={device} bs=1M count=64 conv=fsync status=none")
    with pytest.raises(SSHError):
        mount(server, device)
    project.detach(server, volume)

    storage.restore_backup(backup, volume_id=volume.id)
    project.wait_for_volume(volume, "available")
    mount(server, project.attach(server, volume))
    assert server.ssh("cat /mnt/data") == "precious"
    unmount(server)
    project.detach(server, volume)
    storage.delete_backup(backup)
    storage.delete_volume(volume)


def test_volume_is_made_from_a_snapshot_of_one_in_use(server, cloud, project):
    storage, volume = cloud.block_storage, project.make_volume("original")
    make_file_system(server, project.attach(server, volume), "before")
    snapshot = storage.create_snapshot(volume_id=volume.id, name=f"{PREFIX}snapshot", force=True)
    snapshot = storage.wait_for_status(snapshot, "available", failures=["error"], interval=1, wait=120)
    server.ssh("echo after | sudo tee /mnt/data && sudo sync")
    unmount(server)
    copy = project.make_volume("copy", snapshot_id=snapshot.id)
    mount(server, project.attach(server, copy))
    assert server.ssh("cat /mnt/data") == "before"
    unmount(server)
    for attached in (copy, volume):
        project.detach(server, attached)
    storage.delete_snapshot(snapshot)
    eventually(lambda: gone(storage.get_snapshot, snapshot), 60)
    for left in (copy, volume):
        storage.delete_volume(left)


def test_volume_can_grow_while_it_is_attached(server, cloud, project):
    volume = project.make_volume("growing")
    device = project.attach(server, volume)
    # The first microversion that extends a volume in use.
    storage = cloud.block_storage
    storage.default_microversion, before = "3.42", storage.default_microversion
    try:
        storage.extend_volume(volume, 2)
    finally:
        storage.default_microversion = before
    eventually(lambda: server.ssh(f"sudo blockdev --getsize64 {device}") == str(2 * 2**30), 60)
    project.wait_for_volume(volume, "in-use")
    project.detach(server, volume)
    storage.delete_volume(volume)


# The machine's edge


def test_the_lab_listens_on_and_sends_to_its_own_addresses_only(cloud):
    """Its processes have networks of their own, whose addresses are the lab's, and no way out of them."""
    found = settings.load()
    machine = Machine(found.state / "machine")
    addresses = found.addresses
    networks = [
        ipaddress.ip_network(text)
        for text in (addresses.api_network, addresses.underlay_network, addresses.external_network, "127.0.0.0/8")
    ]

    def inside(*command):
        return json.loads(machine.run("ip", "-4", "-json", *command) or "[]")

    held = [entry["local"] for link in inside("address", "show") for entry in link["addr_info"]]
    assert held
    assert [one for one in held if not any(ipaddress.ip_address(one) in network for network in networks)] == []
    assert inside("route", "show", "default") == []

    supervisor = psutil.Process(machine.process)
    here = Path("/proc/self/ns/net").readlink()
    # Processes that end meanwhile are no loss: those that stay are what listens.
    on_the_host = []
    for process in (supervisor, *supervisor.children(recursive=True)):
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            if Path(f"/proc/{process.pid}/ns/net").readlink() == here:
                on_the_host.append((process.name(), process.net_connections("inet")))
    assert on_the_host
    assert [(name, connections) for name, connections in on_the_host if connections] == []
    on_the_link = subprocess.run(["ip", "-4", "-json", "address", "show", LINK], capture_output=True, check=True).stdout
    assert [entry["local"] for entry in json.loads(on_the_link)[0]["addr_info"]] == [str(addresses.host)]


# Rights


def test_application_credential_does_what_its_access_rules_allow_until_it_is_deleted(cloud):
    user = cloud.current_user_id
    credential = cloud.identity.create_application_credential(
        user=user,
        name=f"{PREFIX}{uuid.uuid4()}",
        roles=[{"name": "member"}],
        access_rules=[{"path": "/v2.1/servers", "method": "GET", "service": "compute"}],
    )
    arguments = cloud.config.get_auth_args()
    account = {
        "auth_type": "v3applicationcredential",
        "auth": {
            "auth_url": arguments["auth_url"],
            "application_credential_id": credential.id,
            "application_credential_secret": credential.secret,
        },
        "cacert": cloud.config.config["cacert"],
        "region_name": cloud.config.region_name,
        "load_yaml_config": False,
        "load_envvars": False,
    }
    restricted = openstack.connect(**account)
    servers = f"{cloud.compute.get_endpoint()}/servers"
    assert restricted.session.get(servers).status_code == 200
    assert restricted.session.get(f"{cloud.compute.get_endpoint()}/flavors", raise_exc=False).status_code == 401
    assert restricted.session.post(servers, json={}, raise_exc=False).status_code == 401
    cloud.identity.delete_application_credential(user, credential)
    with pytest.raises(SDKException, match="Could not find Application Credential"):
        openstack.connect(**account).authorize()


def test_user_is_no_administrator(cloud):
    with pytest.raises(ForbiddenException):
        list(cloud.compute.servers(all_projects=True))
    with pytest.raises(ForbiddenException):
        cloud.compute.create_flavor(name=f"{PREFIX}flavor", vcpus=1, ram=64, disk=1)
    with pytest.raises(ForbiddenException):
        list(cloud.identity.users())
    with pytest.raises(ForbiddenException):
        list(cloud.compute.hypervisors())
    with pytest.raises(HttpException):
        list(cloud.block_storage.services())
    assert list(cloud.network.agents()) == []


def test_public_endpoints_are_https(cloud):
    urls = {
        entry["type"]: endpoint["url"]
        for entry in cloud.service_catalog
        for endpoint in entry["endpoints"]
        if endpoint["interface"] == "public"
    }
    assert urls.keys() >= {"identity", "image", "placement", "compute", "network"}
    assert {url.partition("://")[0] for url in urls.values()} == {"https"}


def test_endpoints_are_trusted_with_the_labs_authority_only(cloud, tmp_path):
    url = cloud.config.get_auth_args()["auth_url"]
    assert requests.get(url, verify=cloud.config.config["cacert"], timeout=10).ok
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, verify=True, timeout=10)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(SDKException, match="CERTIFICATE_VERIFY_FAILED"):
        openstack.connect(cloud="lab", cacert=str(other)).authorize()
