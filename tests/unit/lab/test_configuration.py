import configparser
import stat

import pytest

from lab.cloud.configuration import FILES, render
from lab.cloud.services import ENDPOINTS, SERVICES
from lab.settings import Addresses

SECRETS = {name: f"secret-{name}" for name in ("admin", "database", "messages", "metadata", "service", "user")}
OTHER = Addresses("172.20.1.0/24", "172.20.2.0/25", "172.21.0.0/16")


@pytest.fixture(params=[Addresses(), OTHER], ids=["defaults", "other ranges"])
def addresses(request):
    return request.param


@pytest.fixture
def tree(addresses, tmp_path):
    render(tmp_path / "files", addresses, SECRETS)
    return tmp_path / "files"


def ini(path):
    parser = configparser.ConfigParser(strict=True, interpolation=None, allow_no_value=True)
    parser.read_string(path.read_text())
    return parser


def test_every_configuration_file_parses_and_no_section_or_key_comes_twice(tree):
    files = [
        path for path in tree.rglob("etc/*/**/*") if path.suffix in (".conf", ".ini") and "services" not in str(path)
    ]
    parsed = [ini(path) for path in files if path.read_text().lstrip("#").find("[") >= 0 and "nginx" not in path.parts]
    assert len(parsed) > 15


def test_every_service_has_a_unit_that_waits_for_what_it_needs(tree, addresses):
    for service in SERVICES:
        unit = (tree / f"etc/systemd/system/{service.name}.service").read_text()
        assert unit.count("\nExecStart=") == 1
        assert f"wait-for-port {addresses.underlay}" in unit
        for port in service.needs:
            assert f" {port}" in unit
        assert (tree / f"etc/uwsgi-openstack/{service.name}.ini").exists() == bool(service.threads)


def test_every_service_knows_its_type_in_the_catalogue_by_which_it_holds_to_access_rules(tree):
    """Without it, and with another name of the type, keystonemiddleware answers every such request with 401."""
    sections = [ini(path) for path in tree.rglob("etc/*/*.conf") if "[keystone_authtoken]" in path.read_text()]
    found = {section["keystone_authtoken"]["service_type"] for section in sections}
    assert found == {endpoint.type for endpoint in ENDPOINTS} - {"identity"}


def test_the_three_hypervisors_differ(tree, addresses):
    names = [ini(tree / f"etc/hypervisors/hv{number}-nova.conf")["DEFAULT"]["my_ip"] for number in (1, 2, 3)]
    assert names == [str(addresses.hypervisor(number)) for number in (1, 2, 3)]


def test_only_the_proxy_the_mirror_and_the_resolver_use_the_public_address(tree, addresses):
    proxy = (tree / "etc/haproxy/haproxy.cfg").read_text()
    for endpoint in ENDPOINTS:
        assert f"bind {addresses.api}:{endpoint.port} ssl" in proxy
    for path in tree.rglob("*"):
        if path.is_file() and "bind_host" in path.read_text(errors="replace"):
            assert ini(path)["DEFAULT"]["bind_host"] == str(addresses.underlay)


def test_no_default_address_is_left_when_the_ranges_are_others(tmp_path):
    render(tmp_path / "files", OTHER, SECRETS)
    for path in (tmp_path / "files").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert "10.77." not in path.read_text(), path
            assert "10.88." not in path.read_text(), path


def test_passwords_are_for_root_only_until_the_machine_has_them(tree):
    assert stat.S_IMODE(tree.stat().st_mode) == 0o700


def test_programs_stay_executable(tree):
    for source in FILES.glob("usr/local/sbin/*"):
        assert (tree / "usr/local/sbin" / source.name.removesuffix(".j2")).stat().st_mode & 0o100, source.name


def test_rendering_again_leaves_nothing_of_before(tree, addresses):
    (tree / "etc/stale").write_text("")
    render(tree, addresses, SECRETS)
    assert not (tree / "etc/stale").exists()
