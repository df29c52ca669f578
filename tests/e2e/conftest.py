"""Fixtures for tests against the running lab, as the customer's plain user."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess

import openstack
import pytest

from lab import settings
from managed_k8s.kube.smoke.workspace import Workspace
from tests.e2e import second
from tests.support import command_line
from tests.support.checkout import Checkout, Cluster
from tests.support.command_line import CHECKOUT
from tests.support.project import Account, Project, clean_up
from tests.support.workload import Workload

# These take away, or change for good, what the others work on.
LAST = ("test_upgrade", "test_authority", "test_destroy", "test_lab_lifecycle")


def pytest_configure(config):
    # What openstacksdk warns of is its own use of what it will drop.
    for category in ("openstack.warnings._RemovedInSDKWarning", "openstack.warnings.OpenStackDeprecationWarning"):
        config.addinivalue_line("filterwarnings", f"ignore::{category}")
    for name in ("keystoneauth", "openstack", "stevedore", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LAST.index(item.path.stem) if item.path.stem in LAST else -1)


@pytest.fixture(scope="session")
def clouds():
    """Path of the lab's clouds.yaml; the session ends with a sentence when the lab is not up."""
    found = command_line.clouds()
    if found is None:
        pytest.exit("The lab is not up; start it with: make lab", returncode=1)
    return found


@pytest.fixture(scope="session")
def cloud(clouds):
    """The plain user's connection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OS_CLIENT_CONFIG_FILE", clouds)
        for name in [name for name in os.environ if name.startswith("OS_") and name != "OS_CLIENT_CONFIG_FILE"]:
            patch.delenv(name)
        yield openstack.connect(cloud="lab")


@pytest.fixture(scope="session")
def account(tmp_path_factory):
    """An ssh key pair of this session's own."""
    folder = tmp_path_factory.mktemp("ssh")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id"], check=True)
    return Account(folder / "id", folder)


@pytest.fixture(scope="session")
def project(cloud, account):
    """The tests' own network, router, security group and key pair, in a project without leftovers."""
    clean_up(cloud)
    yield Project.make(cloud, account, dns=str(settings.load().addresses.api))
    clean_up(cloud)


@pytest.fixture(scope="module")
def server(project, request):
    """A server of this module's own."""
    return project.make_server(request.module.__name__.rpartition("_")[2])


@pytest.fixture(scope="session")
def checkout(clouds):
    """This checkout, with its Salt master up."""
    made = Checkout(CHECKOUT)
    made.start_master(clouds)
    return made


@pytest.fixture(scope="session")
def demo(checkout, cloud, tmp_path_factory):
    """The cluster of cluster.map, as `make cluster` makes it; one that is there is kept."""
    made = Cluster.of(checkout, "demo", cloud, tmp_path_factory.mktemp("demo"))
    checkout.run("salt-cloud", "-y", "-m", "cluster.map", timeout=1200)
    checkout.run("salt-run", "managed_k8s.wait", timeout=1800)
    return made


@pytest.fixture(scope="session")
def beside(demo, cloud, tmp_path_factory):
    """A second cluster's place beside demo, under the same Salt master; what is made there is removed at the end."""
    folder = tmp_path_factory.mktemp("second")
    copy = demo.checkout.copy(folder / "checkout")
    second.add(copy.root)
    copy.start_master()
    made = Cluster.of(copy, second.NAME, cloud, folder)
    yield made
    copy.run("salt-run", "managed_k8s.destroy", second.NAME, "yes=True", check=False)
    demo.checkout.start_master()


@pytest.fixture(scope="session")
def small(beside, cloud, tmp_path_factory):
    """The second cluster, ready."""
    beside.checkout.run("salt-cloud", "-y", "-m", "cluster.map", timeout=1200)
    beside.checkout.run("salt-run", "managed_k8s.wait", second.NAME, timeout=1800)
    # Another one may have been there before: neither its authority nor its servers' keys are this one's.
    return Cluster.of(beside.checkout, second.NAME, cloud, tmp_path_factory.mktemp("small"))


@pytest.fixture
def serving(demo):
    """A workload that is to stay up whatever is done to the nodes; slow is no error, refused or cut off is one."""
    space = Workspace(demo.api, f"e2e-serving-{secrets.token_hex(3)}")
    space.core.create_namespace({"metadata": {"name": space.namespace}})
    yield Workload(space, patience=5)
    space.remove()
