"""Wrong maps, settings and profiles: one message that says everything, and nothing is changed.

The wrong inputs are those of a cluster that nobody has, so that demo is not in danger where the test fails.
"""

from __future__ import annotations

import re
import shutil

import pytest
import yaml

from tests.support.checkout import difference, objects

pytestmark = pytest.mark.timeout(1800)

NAME = "wrong"
# `wait` is told not to wait long, `destroy` not to ask.
VERBS = {
    **dict.fromkeys(("plan", "status", "reconcile", "infra", "smoke"), ()),
    "wait": ("timeout=5",),
    "destroy": ("yes=True",),
}


@pytest.fixture(scope="module")
def pristine(checkout, tmp_path_factory):
    """A copy of the checkout whose only cluster is a new one, with everything in order."""
    made = checkout.copy(tmp_path_factory.mktemp("wrong") / "checkout")
    for file in ("cluster.map", "pillar/clusters/demo.sls", "cloud.profiles.d/demo.conf"):
        path = made.root / file
        text = re.sub(r"\bdemo\b", NAME, path.read_text())
        path.unlink()
        path.with_name(path.name.replace("demo", NAME)).write_text(text)
    yield made
    # What a test that failed let be made.
    made.run("salt-run", "managed_k8s.destroy", NAME, "yes=True", check=False)


class Inputs:
    """The files of a copy, changed as by a careless operator."""

    def __init__(self, root):
        self.settings = root / "pillar" / "clusters" / f"{NAME}.sls"
        self.profiles = root / "cloud.profiles.d" / f"{NAME}.conf"
        self.map = root / "cluster.map"
        self._files = {file: file.read_text() for file in (self.settings, self.profiles, self.map)}

    def set(self, file, *path, value):
        """Set a key of a file of tables."""
        content = yaml.safe_load(file.read_text())
        table = content
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = value
        file.write_text(yaml.safe_dump(content, sort_keys=False))

    def setting(self, *path, value):
        """Set a setting."""
        self.set(self.settings, "managed_k8s", *path, value=value)

    def profile(self, role, key, value):
        """Set a key of a role's profile."""
        self.set(self.profiles, f"{NAME}-{role}", key, value=value)

    def servers(self, role, *names):
        """Set the servers of a role."""
        self.set(self.map, f"{NAME}-{role}", value=list(names))

    def restore(self):
        """Set everything back."""
        for file, text in self._files.items():
            file.write_text(text)


@pytest.fixture
def inputs(pristine):
    made = Inputs(pristine.root)
    yield made
    made.restore()


@pytest.fixture(autouse=True)
def nothing_changes(pristine, cloud):
    """Neither the project nor what the Salt master keeps changes by any of it."""
    keys = pristine.run("salt-key", "--out=json", "--list=all").stdout
    before = objects(cloud)
    yield
    assert difference(before, objects(cloud)) == []
    assert pristine.run("salt-key", "--out=json", "--list=all").stdout == keys


def refusal(checkout, *words):
    """Return what a program says that has to refuse: an exit code, and no traceback."""
    done = checkout.run(*words, check=False, timeout=300)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert done.returncode != 0, said
    return said


def assert_says(said, phrases):
    """Fail unless every phrase is in a text; programs wrap their lines as they like."""
    text = " ".join(said.split())
    assert [phrase for phrase in phrases if phrase not in text] == [], said


def several(inputs):
    inputs.servers("master", f"{NAME}-master-1", f"{NAME}-master-2")
    inputs.servers("gateway")
    inputs.setting("kubernetes", "pod_cidr", value="ten")
    inputs.setting("kubernets", value={})
    inputs.setting("gateway", "advertisement_interval", value="fast")
    inputs.profile("worker", "flavour", "lab.medium")
    inputs.profile("worker", "networks", NAME)


SEVERAL = ("2 masters", "no gateway", "kubernetes.pod_cidr", "kubernets", "kubernetes?", "advertisement_interval",
           "flavour", "networks")  # fmt: skip

# What the files say of themselves: whoever reads them refuses.
CASES = {
    "several": (several, SEVERAL),
    "no gateway": (lambda i: i.servers("gateway"), ["no gateway", f"{NAME}-gateway-1"]),
    "two masters": (lambda i: i.servers("master", *(f"{NAME}-master-{n}" for n in (1, 2))), ["2 masters", "1, 3 or 5"]),
    "no masters": (lambda i: i.servers("master"), ["0 masters", "1, 3 or 5"]),
    "a name of no role": (lambda i: i.servers("worker", "worker-one"), ["worker-one", "must be named"]),
    "an unknown setting": (lambda i: i.setting("storage", "size", value=1), ["storage.size: no such setting"]),
    "a setting of a wrong type": (
        lambda i: i.setting("gateway", "connection_timeout_hours", value="long"),
        ["connection_timeout_hours", "'long'"],
    ),
    "ranges that overlap": (
        lambda i: i.setting("kubernetes", "service_cidr", value="10.244.0.0/24"), ["overlaps", "10.244.0.0/16"],
    ),
    "a virtual IP elsewhere": (
        lambda i: i.setting("openstack", "virtual_ip", value="10.9.0.5"), ["virtual_ip", "10.9.0.5"],
    ),
    "an unknown version": (lambda i: i.setting("kubernetes", "version", value="1.20.0"), ["1.20.0", "1.36.3"]),
    "settings without the cloud": (lambda i: i.set(i.settings, "managed_k8s", value={}), ["openstack", "artifacts"]),
    "settings that are no YAML": (lambda i: i.settings.write_text("managed_k8s: ["), [f"{NAME}.sls"]),
    "an unknown key of a profile": (lambda i: i.profile("master", "imagee", "debian-12"), ["imagee"]),
    "a key of a wrong type": (lambda i: i.profile("worker", "boot_volume", "big"), ["boot_volume"]),
    "a profile of another cluster": (lambda i: i.profile("worker", "cluster", "other"), [f"{NAME}-worker", "other"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_refused_by_validate_and_by_salt_cloud(pristine, inputs, case):
    spoil, phrases = CASES[case]
    spoil(inputs)
    assert_says(refusal(pristine, "salt-run", "managed_k8s.validate"), phrases)
    assert_says(refusal(pristine, "salt-cloud", "-y", "-m", "cluster.map"), phrases)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_wrong_input(pristine, inputs, verb):
    several(inputs)
    assert_says(refusal(pristine, "salt-run", f"managed_k8s.{verb}", NAME, *VERBS[verb]), SEVERAL)
    assert_says(pristine.data(verb, NAME, *VERBS[verb])["error"], SEVERAL)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_a_cluster_that_is_not_there(pristine, verb):
    assert_says(refusal(pristine, "salt-run", f"managed_k8s.{verb}", "another", *VERBS[verb]), ["'another'", NAME])


def test_a_map_that_cannot_be_read_is_refused(pristine, inputs):
    inputs.map.write_text("wrong-master: [wrong-master-1")
    assert_says(refusal(pristine, "salt-run", "managed_k8s.validate"), ["cluster.map", "is no YAML"])
    refusal(pristine, "salt-cloud", "-y", "-m", "cluster.map")


def test_a_profile_that_is_not_there_is_refused(pristine, inputs):
    inputs.set(inputs.map, f"{NAME}-workers", value=[f"{NAME}-worker-1"])
    inputs.servers("worker")
    assert_says(
        refusal(pristine, "salt-run", "managed_k8s.validate"),
        [f"profile {NAME}-workers", f"{NAME}-master, {NAME}-worker"],
    )
    assert_says(refusal(pristine, "salt-cloud", "-y", "-m", "cluster.map"), [f"{NAME}-workers"])


def test_what_the_cloud_does_not_have_is_said_at_once(pristine, inputs):
    inputs.set(inputs.profiles, NAME, "image", value="debian-99")
    inputs.set(inputs.profiles, NAME, "flavor", value="lab.enormous")
    inputs.profile("gateway", "floating_ip", "the-moon")
    said = refusal(pristine, "salt-cloud", "-y", "-m", "cluster.map")
    assert_says(said, ["debian-99", "debian-12", "lab.enormous", "lab.medium", "the-moon", "external"])


def test_a_cloud_that_is_in_no_clouds_yaml_is_refused(pristine, inputs):
    inputs.setting("openstack", "cloud", value="mars")
    assert_says(refusal(pristine, "salt-run", "managed_k8s.plan"), ["'mars'", "lab"])


def test_inputs_that_are_in_order_pass(pristine):
    assert shutil.which("salt-run", path=pristine.environment["PATH"])
    assert pristine.data("validate")["clusters"] == [NAME]
