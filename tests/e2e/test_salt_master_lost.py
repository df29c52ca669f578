"""The Salt master's machine is gone: another one, of an export and a copy of the repository, restores from a backup.

The other one is a second checkout of this machine, with a state folder of its own; the first one's is not touched.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from managed_k8s.salt_master import cli, export
from tests.support.checkout import Cluster
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(1800)
VICTIM = "demo-master-2"


@pytest.fixture(scope="module")
def before(demo):
    """What the first one made last: a backup."""
    made = demo.verb("backup")
    assert made["retcode"] == 0, made
    return made


@pytest.fixture(scope="module")
def elsewhere(demo, before, cloud):
    """The cluster under the other Salt master, while the first one is stopped."""
    # Sockets' paths are short, so the folder is.
    folder = Path(tempfile.mkdtemp(prefix="mk8s-"))
    demo.checkout.run("python", "-m", "managed_k8s.master", "export", folder / "export.tar.gz")
    demo.checkout.stop_master()
    repository = demo.store.folder.parents[1] / "managed_k8s_backups" / "demo" / "repository"
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Of everything below, its programs included.
            patch.setenv("XDG_STATE_HOME", str(folder / "s"))
            other = demo.checkout.copy(folder / "checkout")
            _clean(other.root)
            try:
                other.run("python", "-m", "managed_k8s.master", "import", folder / "export.tar.gz")
                shutil.copytree(repository, cli.state_folder() / "managed_k8s_backups" / "demo" / "repository")
                other.start_master()
                yield Cluster.of(other, "demo", cloud, folder)
            finally:
                other.stop_master()
    finally:
        demo.checkout.start_master()
        eventually(lambda: demo.checkout.salt(VICTIM, "test.ping", check=False)[VICTIM] is True, 180, 5)
        shutil.rmtree(folder)


def _clean(root):
    """Remove what comes with the export."""
    for path in (root / name for name in export.INPUT):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_the_minions_answer_the_other_one(elsewhere):
    def answers():
        return elsewhere.checkout.salt("demo-*", "test.ping", check=False)

    eventually(lambda: {name for name, ok in answers().items() if ok is True} == set(elsewhere.servers), 300, 5)


def test_it_finds_the_cluster_as_it_should_be(elsewhere):
    elsewhere.checkout.run("salt-run", "managed_k8s.wait", "demo", "timeout=600", timeout=700)
    assert elsewhere.verb("smoke")["ok"]
    assert elsewhere.ssh(VICTIM, "hostname") == VICTIM


def test_it_opens_the_repository_and_proves_a_backup_of_the_first_ones(elsewhere, before):
    assert before["name"] in [one["name"] for one in elsewhere.verb("backups")["backups"]]
    tried = elsewhere.verb("backup_verify", f"backup={before['name']}")
    assert (tried["retcode"], tried["name"], tried["proven"]) == (0, before["name"], True)


def test_it_restores_from_it(elsewhere):
    """The certificates of a master: with the backup's authorities, over the way that a database takes too."""
    elsewhere.ssh(VICTIM, "sudo sh -c 'rm /etc/kubernetes/pki/ca.key /etc/kubernetes/pki/apiserver.key'")
    done = elsewhere.verb("restore", "yes=True", timeout=1200)
    assert (done["retcode"], done.get("restored")) == (0, True), done
    assert elsewhere.ssh(VICTIM, "sudo ls /etc/kubernetes/pki/ca.key") == "/etc/kubernetes/pki/ca.key"
