"""What a profile names is looked up in the project, before anything is made."""

import pytest

from managed_k8s.openstack.provision import profile_objects
from tests.support.fake_cloud import Cloud
from tests.support.settings import PROFILE as GOOD


@pytest.fixture
def cloud():
    cloud = Cloud()
    cloud.image.create_image(name="debian-12")
    cloud.compute.create_flavor(name="small")
    return cloud


def test_what_the_cluster_makes_itself_need_not_be_there(cloud):
    assert profile_objects.missing(cloud, "profile p", GOOD) == []


def test_says_everything_that_is_not_in_the_project(cloud):
    wrong = {
        "cluster": "demo",
        "image": "debian-11",
        "flavor": "huge",
        "networks": [
            {"network": "demo", "security_groups": ["demo-gatway"], "allowed_address_pairs": [{"port": "vip"}]}
        ],
        "floating_ip": "internet",
        "server_group": "other",
        "boot_volume": {"size": 1, "type": "fast"},
    }
    found = "\n".join(profile_objects.missing(cloud, "profile p", wrong))
    for words in (
        "image: 'debian-11' is not in this project; there are debian-12",
        "flavor: 'huge' is not in this project; there are small",
        "networks.0.security_groups: 'demo-gatway'",
        "networks.0.allowed_address_pairs: 'vip'",
        "floating_ip: 'internet' is not in this project; there are external",
        "server_group: 'other'",
        "boot_volume.type: 'fast'",
    ):
        assert words in found
    assert found.count("\n") == 6


LEAST = {"image": "debian-12", "flavor": "small", "networks": [{"network": "external"}]}


def missing(cloud, **changed):
    return profile_objects.missing(cloud, "p", {**LEAST, **changed})


def test_says_which_ids_there_are_when_a_name_is_ambiguous(cloud):
    other = cloud.image.create_image(name="debian-12")
    (problem,) = missing(cloud)
    assert problem.startswith("p: image: there are several named 'debian-12': give the id instead, one of Image-")
    assert missing(cloud, image=other.id) == []


def test_an_image_that_cannot_boot_on_the_flavor_is_told(cloud):
    cloud.image.create_image(name="big", min_ram=4096, min_disk=20, status="active")
    cloud.image.create_image(name="old", status="deactivated")
    cloud.compute.create_flavor(name="tiny", ram=512, disk=5)
    assert missing(cloud, image="big", flavor="tiny") == [
        "p: flavor: tiny has 512 MB of memory; image big needs 4096",
        "p: flavor: a disk of 5 GB is too small; image big needs 20",
    ]
    assert missing(cloud, image="big", boot_volume={"size": 10})[-1].startswith("p: boot_volume.size: a disk of 10 GB")
    assert "is deactivated; it must be active" in missing(cloud, image="old")[0]


def test_a_zone_that_is_not_there_is_told(cloud):
    assert missing(cloud, availability_zone="nova") == []
    assert missing(cloud, availability_zone="east") == [
        "p: availability_zone: 'east' is not in this cloud; there are nova"
    ]


def test_a_network_without_port_security_takes_no_groups(cloud):
    cloud.extensions.append("port-security")
    cloud.network.create_network(name="open", is_port_security_enabled=False)
    cloud.network.create_security_group(name="web")
    (problem,) = missing(cloud, networks=[{"network": "open", "security_groups": ["web"]}])
    assert "network open has port security switched off" in problem


def test_a_neutron_without_address_pairs_is_told(cloud):
    cloud.extensions.remove("allowed-address-pairs")
    (problem,) = missing(cloud, networks=[{"network": "external", "allowed_address_pairs": ["10.0.0.5"]}])
    assert "does not have the extension allowed-address-pairs" in problem
