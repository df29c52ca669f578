"""The add-ons' objects: what is changed in upstream's manifests, and what is refused."""

from __future__ import annotations

import base64
import configparser
import dataclasses
from typing import Any

import pytest
import yaml

from managed_k8s.kube import addons, resources
from tests.support.kube_manifests import CCM, SETTINGS, VERSIONS, manifests
from tests.support.settings import settings

ACCESS = addons.CloudAccess("demo", "id-1", "secret#1", "https://cloud:5000/v3", "One", "-----CA-----")


def made(access: addons.CloudAccess = ACCESS, **changes: Any) -> dict[str, dict[str, Any]]:
    """Return `Kind name` -> object; changes: section -> values of the settings."""
    found = addons.objects(settings(**changes), VERSIONS, manifests(), access)
    return {f"{item['kind']} {item['metadata']['name']}": item for item in found}


def pod(item: dict[str, Any]) -> dict[str, Any]:
    specification: dict[str, Any] = item["spec"]["template"]["spec"]
    return specification


def one(item: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in pod(item)["containers"] if c["name"] == name)
    return found


def cloud_conf(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


def test_same_input_gives_the_same_objects_in_order_of_need() -> None:
    first, second = (addons.objects(SETTINGS, VERSIONS, manifests(), ACCESS) for _ in range(2))
    assert first == second
    assert addons.digest(first) == addons.digest(second)
    kinds = [item["kind"] for item in first]
    assert kinds.index("CustomResourceDefinition") < kinds.index("ServiceAccount") < kinds.index("Secret")
    assert kinds.index("Secret") < kinds.index("DaemonSet") < kinds.index("Deployment")
    assert kinds.index("Deployment") < kinds.index("VolumeSnapshotClass")
    assert all(item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "managed-k8s" for item in first)


def test_images_are_those_on_the_nodes_and_never_pulled_again() -> None:
    known = {f"{image['name']}:{image['tag']}" for image in VERSIONS["images"]}
    for item in made().values():
        if item["kind"] in ("DaemonSet", "Deployment") and item["metadata"]["name"] != "coredns":
            for each in [*pod(item).get("initContainers", []), *pod(item)["containers"]]:
                assert each["image"] in known
                assert each["imagePullPolicy"] == "IfNotPresent"


def test_all_images_that_are_missing_are_named() -> None:
    few = {"images": [image for image in VERSIONS["images"] if "csi" not in image["name"]]}
    with pytest.raises(
        addons.ManifestError, match=r"csi-attacher, .*cinder-csi-plugin|cinder-csi-plugin, csi-attacher"
    ):
        addons.objects(SETTINGS, few, manifests(), ACCESS)


def test_all_manifests_that_are_missing_are_named() -> None:
    few = {path: text for path, text in manifests().items() if not path.startswith("snapshot-crds/")}
    with pytest.raises(addons.ManifestError, match=r"volumesnapshotclasses.*volumesnapshotcontents.*volumesnapshots"):
        addons.objects(SETTINGS, VERSIONS, few, ACCESS)


def test_without_a_probe_image_the_plugin_has_no_probe() -> None:
    plugin = made()["DaemonSet csi-cinder-nodeplugin"]
    assert [c["name"] for c in pod(plugin)["containers"]] == ["node-driver-registrar", "cinder-csi-plugin"]
    assert "livenessProbe" not in one(plugin, "cinder-csi-plugin")


def test_with_a_probe_image_the_probe_stays() -> None:
    more = {"images": [*VERSIONS["images"], {"name": "registry.k8s.io/sig-storage/livenessprobe", "tag": "v2.17.0"}]}
    found = addons.objects(SETTINGS, more, manifests(), ACCESS)
    plugin = next(item for item in found if item["metadata"]["name"] == "csi-cinder-nodeplugin")
    assert "livenessProbe" in one(plugin, "cinder-csi-plugin")


def test_flannel_has_the_pod_network_and_writes_no_program_on_the_host() -> None:
    found = made(kubernetes={"pod_cidr": "10.99.0.0/16"})
    assert '"10.99.0.0/16"' in found["ConfigMap kube-flannel-cfg"]["data"]["net-conf.json"]
    specification = pod(found["DaemonSet kube-flannel-ds"])
    assert [c["name"] for c in specification["initContainers"]] == ["install-cni"]
    assert [v["name"] for v in specification["volumes"]] == ["run"]
    environment = {e["name"]: e["value"] for e in specification["containers"][0]["env"]}
    assert environment["KUBERNETES_SERVICE_HOST"] == "10.30.0.5"
    assert environment["POD_NAME"] == "x"


def test_own_network_means_no_flannel() -> None:
    assert not [name for name in made(kubernetes={"cni": "none"}) if "flannel" in name]


def test_cloud_controller_runs_on_control_plane_nodes_before_they_are_usable() -> None:
    found = made()
    daemons = found[f"DaemonSet {CCM}"]
    specification = pod(daemons)
    assert specification["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}
    tolerated = {toleration["key"] for toleration in specification["tolerations"]}
    assert {"node.cloudprovider.kubernetes.io/uninitialized", "node.kubernetes.io/not-ready"} <= tolerated
    assert specification["hostNetwork"]
    assert specification["dnsPolicy"] == "Default"
    arguments = one(daemons, CCM)["args"]
    assert arguments[0] == f"/bin/{CCM}"
    assert {"--cloud-provider=openstack", "--leader-elect=true", "--bind-address=127.0.0.1"} <= set(arguments)
    assert {e["name"]: e["value"] for e in one(daemons, CCM)["env"]}["CLUSTER_NAME"] == "demo"


def test_cloud_controller_sees_nothing_of_its_host() -> None:
    found = made()
    specification = pod(found[f"DaemonSet {CCM}"])
    assert [volume["name"] for volume in specification["volumes"]] == ["cloud-config-volume"]
    assert [mount["name"] for mount in specification["containers"][0]["volumeMounts"]] == ["cloud-config-volume"]
    assert specification["securityContext"]["runAsNonRoot"]
    assert specification["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "ClusterRole system:cloud-node-controller" not in found


def test_cloud_conf_has_the_credential_and_no_load_balancers() -> None:
    data = made()["Secret cloud-config"]["data"]
    text = base64.b64decode(data["cloud.conf"]).decode()
    conf = cloud_conf(text)
    assert conf["Global"]["application-credential-secret"] == '"secret#1"'
    assert conf["Global"]["auth-url"] == '"https://cloud:5000/v3"'
    assert conf["Global"]["ca-file"] == '"/etc/config/ca.pem"'
    assert conf["LoadBalancer"]["enabled"] == '"false"'
    assert conf["BlockStorage"]["ignore-volume-az"] == '"false"'
    assert base64.b64decode(data["ca.pem"]) == b"-----CA-----"


def test_cloud_conf_of_a_cloud_with_a_public_authority() -> None:
    credential = {"id": "i", "secret": "s", "auth_url": "https://cloud", "region": "One", "ca": None}
    data = made(addons.CloudAccess.of("demo", credential))["Secret cloud-config"]["data"]
    conf = cloud_conf(base64.b64decode(data["cloud.conf"]).decode())
    assert list(data) == ["cloud.conf"]
    assert "ca-file" not in conf["Global"]


def test_another_credential_renews_the_pods_that_log_in_with_it_and_no_others() -> None:
    before, after = made(), made(dataclasses.replace(ACCESS, id="id-2"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"Secret cloud-config", f"DaemonSet {CCM}", "Deployment csi-cinder-controllerplugin"}


def test_secret_stays_out_of_what_is_printed() -> None:
    assert "secret#1" not in repr(ACCESS)


def test_nodes_that_run_users_pods_get_no_credential() -> None:
    found = made()
    assert [v.get("configMap") for v in pod(found["DaemonSet csi-cinder-nodeplugin"])["volumes"]] == [
        {"name": "cinder-csi-node"}
    ]
    assert "Global" not in cloud_conf(found["ConfigMap cinder-csi-node"]["data"]["cloud.conf"])
    with_credential = [
        item
        for item in found.values()
        if item["kind"] in ("Deployment", "DaemonSet") and "cloud-config" in str(pod(item).get("volumes"))
    ]
    assert len(with_credential) == 2
    for item in with_credential:
        assert pod(item)["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}


def test_controllers_are_two_on_different_nodes() -> None:
    found = made()
    for name in ("csi-cinder-controllerplugin", "snapshot-controller"):
        deployment = found[f"Deployment {name}"]
        assert deployment["spec"]["replicas"] == 2
        assert pod(deployment)["topologySpreadConstraints"][0]["labelSelector"] == {"matchLabels": {"app": name}}
    assert "minReadySeconds" not in found["Deployment snapshot-controller"]["spec"]


def test_volumes_are_marked_with_the_cluster() -> None:
    deployment = made()["Deployment csi-cinder-controllerplugin"]
    assert one(deployment, "cinder-csi-plugin")["env"] == [{"name": "CLUSTER_NAME", "value": "demo"}]
    assert {"name": "socket-dir", "emptyDir": {}} in pod(deployment)["volumes"]


def test_classes() -> None:
    found = made()
    default = found["StorageClass cinder"]
    assert default["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert default["volumeBindingMode"] == "WaitForFirstConsumer"
    assert default["allowVolumeExpansion"]
    assert default["parameters"] == {}
    assert found["VolumeSnapshotClass cinder"]["parameters"] == {"force-create": "true"}
    assert found["VolumeSnapshotClass cinder-backup"]["parameters"]["type"] == "backup"


def test_volume_type_and_zone_of_their_own() -> None:
    found = made(storage={"volume_type": "fast", "availability_zone": "volumes"})
    assert found["StorageClass cinder"]["parameters"] == {"type": "fast", "availability": "volumes"}
    conf = cloud_conf(found["ConfigMap cinder-csi-node"]["data"]["cloud.conf"])
    assert conf["BlockStorage"]["ignore-volume-az"] == '"true"'


def test_dns_pods_are_never_on_one_node() -> None:
    found = made()
    constraint = pod(found["Deployment coredns"])["topologySpreadConstraints"][0]
    assert constraint["minDomains"] == 2
    assert constraint["whenUnsatisfiable"] == "DoNotSchedule"
    assert found["PodDisruptionBudget coredns"]["spec"]["maxUnavailable"] == 1


def test_files_on_the_master_hold_everything_but_secrets() -> None:
    found = addons.objects(SETTINGS, VERSIONS, manifests(), ACCESS)
    files = resources.files(SETTINGS, found)
    assert files["smoke-test"].startswith("#!")
    assert "secret#1" not in str(files)
    assert base64.b64encode(b"secret#1").decode() not in str(files)
    written = [
        item for name, text in files.items() if name.startswith("resources/") for item in yaml.safe_load_all(text)
    ]
    assert len(written) == len([item for item in found if item["kind"] != "Secret"])


def test_script_finds_every_file_it_uses() -> None:
    files = resources.files(SETTINGS, addons.objects(SETTINGS, VERSIONS, manifests(), ACCESS))
    names = {name.removeprefix("smoke/").removesuffix(".yaml") for name in files if name.startswith("smoke/")}
    script = files["smoke-test"]
    used = {name for name in names if f"$here/{name}.yaml" in script or f"place {name} " in script}
    assert used == names
