"""
A node of a Kubernetes cluster: what it is made from, and kubeadm on it.

Join secrets come with the pillar, which is asked for afresh, and go to kubeadm in files that only root can read: they
are never arguments, results or log lines.
"""

import contextlib
import hashlib
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import salt.pillar
import yaml
from salt.exceptions import CommandExecutionError

_KUBERNETES = Path("/etc/kubernetes")
_PKI = _KUBERNETES / "pki"
_ETCD_DATA = Path("/var/lib/etcd")
# Addresses that pods have; and which range this node has, which flannel's plugin reads.
_CNI, _FLANNEL = Path("/var/lib/cni"), Path("/run/flannel/subnet.env")
_MANAGED = Path("/etc/managed-k8s")
_VOLATILE = Path("/run/managed-k8s")
_KUBEADM = "/usr/local/bin/kubeadm"
_SOCKET = "unix:///run/containerd/containerd.sock"
_API = "kubeadm.k8s.io/v1beta4"
# `kubeadm init` ended well; a control plane without this was left half-made.
_INITIALISED = _MANAGED / "initialised"
_SECRET = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}|\b[0-9a-f]{64}\b")
_LIMIT = 600

# Programs by the layer that installs them.
_LAYERS = {
    "container_runtime": {"containerd", "containerd-shim-runc-v2", "ctr", "runc"},
    "kubernetes": {"kubeadm", "kubelet", "kubectl", "etcdctl", "etcdutl"},
}
# What Salt copies to minions to run there, and top.sls syncs.
_EXTENSIONS = ("modules", "states", "beacons")
_PACKAGES = {
    "gateway": ["haproxy", "keepalived", "nftables", "curl"],
    "node": ["nftables", "iptables", "conntrack", "ethtool", "socat", "ebtables", "zstd"],
}


def _pillar():
    return __pillar__["managed_k8s"]


def _fresh_pillar():
    """Ask the Salt master now: secrets come and go, and what is in memory is as old as the minion's start.

    Not `pillar.items`, which puts asterisks for what it takes for a secret.
    """
    compiled = salt.pillar.get_pillar(__opts__, dict(__grains__), __opts__["id"], "base").compile_pillar()
    if "managed_k8s" not in compiled:
        problem = "; ".join(compiled.get("_errors", ())) or "this minion's id is no node of a cluster with settings"
        raise CommandExecutionError(f"the Salt master gives no pillar: {problem}")
    return compiled["managed_k8s"]


def has_extensions():
    """Tell whether the modules, states and beacons here are those of the Salt master: to sync them takes seconds.

    CLI Example: ``salt demo-worker-1 managed_k8s_node.has_extensions``
    """
    folder = Path(__opts__["extension_modules"])
    files = [file for kind in _EXTENSIONS for file in (folder / kind).rglob("*.py")]
    here = {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return here == __pillar__.get("managed_k8s", {}).get("extensions")


def packages():
    """Return the Debian packages that this server's role needs.

    CLI Example: ``salt demo-gateway-1 managed_k8s_node.packages``
    """
    return _PACKAGES.get(_pillar()["role"], _PACKAGES["node"])


def artifacts_of(layer):
    """Return the mirror's files that a layer installs: ``bin`` and ``cni``, each name -> SHA-256.

    CLI Example: ``salt demo-worker-1 managed_k8s_node.artifacts_of kubernetes``
    """
    sums = _pillar()["artifacts"]["sums"]
    programs = {name: digest for name, digest in sums.items() if name.removeprefix("bin/") in _LAYERS[layer]}
    return {"bin": programs, "cni": {name: digest for name, digest in sums.items() if name.startswith("cni/")}}


def interface():
    """Return the network interface that has this server's fixed address.

    CLI Example: ``salt demo-gateway-1 managed_k8s_node.interface``
    """
    address = _pillar()["gateways"][_pillar()["name"]]
    for name, details in __salt__["network.interfaces"]().items():
        if any(entry.get("address") == address for entry in details.get("inet", ())):
            return name
    raise CommandExecutionError(f"no network interface has {address}, which OpenStack gave to {_pillar()['name']}")


# kubeadm's configuration


def init_configuration():
    """Return what `kubeadm init` reads, as YAML; there is nothing secret in it.

    CLI Example: ``salt demo-master-1 managed_k8s_node.init_configuration``
    """
    init = {
        "apiVersion": _API,
        "kind": "InitConfiguration",
        "nodeRegistration": _registration(_pillar()),
        # kubeadm always makes one, by default good for any join within a day; here each join gets one of its own.
        "bootstrapTokens": [{"ttl": "1m0s"}],
    }
    return _documents(init, _cluster_configuration(), _kubelet_configuration(), _proxy_configuration())


def _registration(pillar):
    kubernetes = pillar["settings"]["kubernetes"]
    return {
        "name": pillar["name"],
        "criSocket": _SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "kubeletExtraArgs": [{"name": "cloud-provider", "value": "external"}],
        "ignorePreflightErrors": kubernetes["ignore_preflight_errors"],
    }


def _cluster_configuration():
    pillar = _pillar()
    kubernetes = pillar["settings"]["kubernetes"]
    names = [pillar["virtual_ip"], *([pillar["public_address"]] if pillar["public_address"] else [])]
    folder = "/etc/kubernetes/managed-k8s"
    arguments = {
        "admission-control-config-file": f"{folder}/admission.yaml",
        "audit-log-maxage": "30",
        "audit-log-maxbackup": "5",
        "audit-log-maxsize": "100",
        "audit-log-path": "/var/log/kubernetes/audit.log",
        "audit-policy-file": f"{folder}/audit.yaml",
        "authentication-config": f"{folder}/authentication.yaml",
        "encryption-provider-config": f"{folder}/encryption.yaml",
        # What a kubelet shows of itself is signed by the cluster, not by itself.
        "kubelet-certificate-authority": "/etc/kubernetes/pki/ca.crt",
        "profiling": "false",
        "tls-min-version": "VersionTLS12",
    }
    return {
        "apiVersion": _API,
        "kind": "ClusterConfiguration",
        "clusterName": pillar["cluster"],
        "kubernetesVersion": f"v{kubernetes['version']}",
        "controlPlaneEndpoint": f"{pillar['virtual_ip']}:6443",
        "networking": {"podSubnet": kubernetes["pod_cidr"], "serviceSubnet": kubernetes["service_cidr"]},
        "apiServer": {
            "certSANs": names,
            "extraArgs": _arguments(arguments),
            "extraVolumes": [
                _volume("managed-k8s", folder, True),
                _volume("audit-logs", "/var/log/kubernetes", False),
            ],
        },
        "controllerManager": {"extraArgs": _arguments({"profiling": "false"})},
        "scheduler": {"extraArgs": _arguments({"profiling": "false"})},
    }


def _arguments(values):
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def _volume(name, path, read_only):
    return {"name": name, "hostPath": path, "mountPath": path, "readOnly": read_only, "pathType": "Directory"}


def _kubelet_configuration():
    settings = _pillar()["settings"]
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": settings["container_runtime"]["cgroup_driver"],
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
        "tlsMinVersion": "VersionTLS12",
        **settings["kubernetes"]["kubelet"],
    }


def _proxy_configuration():
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        **_pillar()["settings"]["kubernetes"]["kube_proxy"],
    }


def _documents(*documents):
    return yaml.safe_dump_all(documents, sort_keys=True)


# What this node is


def facts():
    """Return what the reconciler needs to know about this server.

    revision: what it was made from. prepared: what it is ready for kubeadm with. kubeadm: none, partial, initialised or
    joined. etcd_data: whether there is a member. ailments: what does not work of what should. disk_free: 0 to 1, of the
    fullest disk. virtual_ip: whether a gateway has the API's address now; of others None. boot: id of its present boot.
    certificates: when they end.

    CLI Example: ``salt 'demo-*' managed_k8s_node.facts``
    """
    return {
        "revision": _read(_MANAGED / "revision"),
        "prepared": _read(_MANAGED / "prepared"),
        "kubeadm": _kubeadm_state(),
        "etcd_data": (_ETCD_DATA / "member").is_dir(),
        "ailments": ailments(),
        "disk_free": _disk_free(),
        "virtual_ip": _has_virtual_ip(),
        "boot": __salt__["managed_k8s_upgrade.boot"](),
        "certificates": __salt__["managed_k8s_upgrade.certificates"](),
    }


def _has_virtual_ip():
    pillar = __pillar__.get("managed_k8s", {})
    if pillar.get("role") != "gateway":
        return None
    command = ["ip", "-oneline", "address", "show", "to", f"{pillar['virtual_ip']}/32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) if done.returncode == 0 else None


# Services that a server is nothing without.
_VITAL = {
    "gateway": ["haproxy", "keepalived"],
    "master": ["containerd", "kubelet"],
    "worker": ["containerd", "kubelet"],
}
# Where etcd says of itself how it is. It listens for clients before it has opened its data, so one that ends at that,
# again and again, seems to be there at times (embed/etcd.go, StartEtcd; kubeadm's app/phases/etcd/local.go).
_ETCD_HEALTH = 2381
# Half of what a kubelet defends by removing pods and images (nodefs.available, 10 %): it has tried what it can. Waiting
# for a disk without a byte would be in vain, as what it removes leaves some free each time.
_FREE = 0.05


def ailments():
    """Return what does not work on this server that should: names of services, ``etcd``, ``disk``.

    A server that is still being made has none. The beacon of the same name fires when this changes.

    CLI Example: ``salt 'demo-*' managed_k8s_node.ailments``
    """
    role = _pillar()["role"]
    done = _read(_MANAGED / "revision") if role == "gateway" else _kubeadm_state() in ("initialised", "joined")
    if not done:
        return []
    found = _dead(_VITAL[role])
    if role == "master" and not _listens(_ETCD_HEALTH):
        found.append("etcd")
    if _disk_free() < _FREE:
        found.append("disk")
    return found


def _disk_free():
    return min(usage.free / usage.total for usage in map(shutil.disk_usage, ("/", "/var/lib")))


def _dead(services):
    done = subprocess.run(["systemctl", "is-active", *services], capture_output=True, text=True, check=False)
    return [name for name, state in zip(services, done.stdout.split(), strict=False) if state not in _ALIVE]


# One that is being restarted by systemd is `activating`, however often.
_ALIVE = ("active", "reloading")


def revive():
    """Restart this server's vital services that do not run.

    CLI Example: ``salt demo-worker-1 managed_k8s_node.revive``
    """
    dead = _dead(_VITAL[_pillar()["role"]])
    for name in dead:
        # One that systemd gave up on does not start otherwise.
        subprocess.run(["systemctl", "reset-failed", name], capture_output=True, check=False)
        done = subprocess.run(["systemctl", "restart", name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandExecutionError(f"{name} cannot be started: {done.stderr.strip()}")
    return {"changed": dead}


def _read(path):
    with contextlib.suppress(OSError):
        return path.read_text().strip() or None
    return None


def _kubeadm_state():
    joined = (_KUBERNETES / "kubelet.conf").is_file()
    if _INITIALISED.is_file():
        return "initialised"
    if (_KUBERNETES / "manifests" / "kube-apiserver.yaml").is_file() or (_ETCD_DATA / "member").is_dir():
        return "joined" if joined and (_MANAGED / "joined").is_file() else "partial"
    return "joined" if joined and (_MANAGED / "joined").is_file() else "partial" if joined else "none"


# kubeadm


def init():
    """Make this master the first of its cluster; done already is done. A half-made one is reset and begun again.

    The reconciler asks only when no other master can have one.

    CLI Example: ``salt demo-master-1 managed_k8s_node.init``
    """
    state = _kubeadm_state()
    if state in ("initialised", "joined"):
        return {"changed": False}
    if state == "partial":
        reset()
    # Images are there already, and nobody needs the keys to the cluster from kubeadm's output.
    _kubeadm("init", "--config", str(_MANAGED / "kubeadm.yaml"), "--skip-token-print")
    _INITIALISED.write_text("")
    return {"changed": True}


def upload_certificates():
    """Put the control plane's keys, encrypted with the key in the pillar, where a joining master finds them for 2 h.

    CLI Example: ``salt demo-master-1 managed_k8s_node.upload_certificates``
    """
    join = _join_secrets(_fresh_pillar())
    documents = list(yaml.safe_load_all((_MANAGED / "kubeadm.yaml").read_text()))
    documents[0]["certificateKey"] = join["certificate_key"]
    with _private("upload.yaml", _documents(*documents)) as file:
        _kubeadm("init", "phase", "upload-certs", "--upload-certs", "--config", str(file))
    return True


def join():
    """Join the cluster by this server's role; done already is done. A half-made join is reset and begun again.

    CLI Example: ``salt demo-worker-1 managed_k8s_node.join``
    """
    state = _kubeadm_state()
    if state in ("initialised", "joined"):
        return {"changed": False}
    if state == "partial":
        reset()
    pillar = _fresh_pillar()
    secrets = _join_secrets(pillar)
    with (
        _private("discovery.conf", _discovery(pillar["virtual_ip"], secrets)) as discovery,
        _private("join.yaml", _documents(_join_configuration(pillar, secrets, discovery))) as file,
    ):
        _kubeadm("join", "--config", str(file))
    (_MANAGED / "joined").write_text("")
    return {"changed": True}


def _join_configuration(pillar, secrets, discovery):
    document = {
        "apiVersion": _API,
        "kind": "JoinConfiguration",
        "nodeRegistration": _registration(pillar),
        "discovery": {"file": {"kubeConfigPath": str(discovery)}, "tlsBootstrapToken": secrets["token"]},
    }
    if pillar["role"] == "master":
        document["controlPlane"] = {"certificateKey": secrets["certificate_key"]}
    return document


def _discovery(virtual_ip, secrets):
    """Return a kubeconfig that says where the API is and whom to believe.

    The token is in it because nobody without a name may read kubeadm's cluster-info here; a name that may not read it
    either lets kubeadm go on with what this file says (cmd/kubeadm/app/discovery/file).
    """
    cluster = {"server": f"https://{virtual_ip}:6443", "certificate-authority-data": secrets["ca"]}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": "joining", "user": {"token": secrets["token"]}}],
            "contexts": [{"name": "joining", "context": {"cluster": "cluster", "user": "joining"}}],
            "current-context": "joining",
        }
    )


def _join_secrets(pillar):
    secrets = pillar["secrets"]["join"]
    if not secrets:
        raise CommandExecutionError("no join is under way for this node: the Salt master gave no token")
    return secrets


@contextlib.contextmanager
def _private(name, text):
    """Keep a text in a file in memory, for root only, for as long as it is used."""
    _VOLATILE.mkdir(mode=0o700, exist_ok=True)
    path = _VOLATILE / name
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    try:
        path.write_text(text)
        yield path
    finally:
        path.unlink(missing_ok=True)


def reset():
    """Take this node out of everything kubeadm made, the etcd member's data too. For a node that is no member.

    CLI Example: ``salt demo-worker-2 managed_k8s_node.reset``
    """
    for name in ("joined", "initialised"):
        (_MANAGED / name).unlink(missing_ok=True)
    _kubeadm("reset", "--force", "--cri-socket", _SOCKET)
    for folder in (_ETCD_DATA, Path("/var/lib/kubelet/pki")):
        shutil.rmtree(folder, ignore_errors=True)
    # Not the folder: containerd, which watches it, ends with it.
    for file in Path("/etc/cni/net.d").glob("*"):
        file.unlink()
    forget_network()
    return True


def forget_network():
    """Remove what an earlier membership left of the pod network: a Node that is made anew has another range.

    CLI Example: ``salt demo-worker-2 managed_k8s_node.forget_network``
    """
    for link in ("cni0", "flannel.1"):
        # Where the network is another one, there is none.
        subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)
    shutil.rmtree(_CNI, ignore_errors=True)
    # A pod that starts before flannel does would bring the old range back by it.
    _FLANNEL.unlink(missing_ok=True)
    return True


def _kubeadm(*words):
    """Run kubeadm; raise its last lines, without what looks like a token or a key."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            [_KUBEADM, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandExecutionError(f"kubeadm {words[0]}: did not end within {_LIMIT} seconds") from None
    if done.returncode:
        lines = _SECRET.sub("(secret)", done.stdout).strip().splitlines()[-12:]
        took = time.monotonic() - started
        raise CommandExecutionError(f"kubeadm {words[0]} failed after {took:.0f} s:\n" + "\n".join(lines))
    return done.stdout


# etcd


def etcd_members():
    """Return etcd's members as this master sees them: id (hexadecimal), name, addresses, healthy, voter.

    A member that never started has no name and is not healthy; its address is known.

    CLI Example: ``salt demo-master-1 managed_k8s_node.etcd_members``
    """
    listed = json.loads(_etcdctl("member", "list"))["members"]
    # Ends with an error when one is ill, and says which all the same.
    healthy = {each["endpoint"] for each in json.loads(_etcdctl("endpoint", "health", "--cluster", check=False) or "[]")
               if each["health"]}  # fmt: skip
    return [
        {
            "id": f"{member['ID']:x}",
            "name": member.get("name", ""),
            "addresses": sorted({urlsplit(url).hostname for url in member["peerURLs"]}),
            "healthy": any(url in healthy for url in member.get("clientURLs", ())),
            "voter": not member.get("isLearner", False),
        }
        for member in listed
    ]


def remove_etcd_member(member_id):
    """Take a member out of etcd; one that is not in it is fine. Refused when the others would be no quorum.

    member_id: hexadecimal, as in etcd_members.

    CLI Example: ``salt demo-master-1 managed_k8s_node.remove_etcd_member 8e9e05c52164694d``
    """
    # Salt makes a number of what looks like one.
    member_id = str(member_id)
    members = etcd_members()
    if member_id not in [member["id"] for member in members]:
        return {"changed": False}
    rest = [member for member in members if member["voter"] and member["id"] != member_id]
    healthy = sum(member["healthy"] for member in rest)
    if healthy <= len(rest) // 2:
        raise CommandExecutionError(
            f"etcd would lose its quorum: without member {member_id} {healthy} of {len(rest)} members are healthy"
        )
    _etcdctl("member", "remove", member_id)
    return {"changed": True}


def _etcdctl(*words, check=True):
    pki = _PKI / "etcd"
    command = [
        "/usr/local/bin/etcdctl", "--endpoints=https://127.0.0.1:2379", f"--cacert={pki}/ca.crt",
        f"--cert={pki}/healthcheck-client.crt", f"--key={pki}/healthcheck-client.key", "--command-timeout=5s",
        "--write-out=json", *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if check and done.returncode:
        lines = done.stderr.strip().splitlines()[-2:]
        raise CommandExecutionError(f"etcdctl {' '.join(words)}: {' '.join(lines)}")
    return done.stdout.strip()


# Static pods of the control plane but etcd.
_SERVING = ("kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml")
_STOPPED = _KUBERNETES / "managed-k8s" / "stopped"


def stop_control_plane():
    """End this master's API server, controller manager and scheduler, as it leaves the cluster; others take over.

    CLI Example: ``salt demo-master-3 managed_k8s_node.stop_control_plane``
    """
    moved = _move(_KUBERNETES / "manifests", _STOPPED)
    end = time.monotonic() + 60
    while _listens(6443) and time.monotonic() < end:
        time.sleep(0.5)
    return {"changed": moved}


def start_control_plane():
    """Undo stop_control_plane.

    CLI Example: ``salt demo-master-3 managed_k8s_node.start_control_plane``
    """
    return {"changed": _move(_STOPPED, _KUBERNETES / "manifests")}


def _move(source, target):
    target.mkdir(mode=0o700, exist_ok=True, parents=True)
    found = [name for name in _SERVING if (source / name).is_file()]
    for name in found:
        (source / name).rename(target / name)
    return found


def _listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Certificates


def ca_certificate():
    """Return the certificate of the cluster's certificate authority.

    CLI Example: ``salt demo-master-1 managed_k8s_node.ca_certificate``
    """
    return (_PKI / "ca.crt").read_text()


def sign_client(csr, days=365):
    """Return a client certificate for a signing request, from the cluster's certificate authority.

    The private key stays with whoever made the request: this is how the Salt master gets its access.

    CLI Example: ``salt demo-master-1 managed_k8s_node.sign_client "$(cat admin.csr)"``
    """
    with _private("request.csr", csr) as request:
        done = subprocess.run(
            [
                "openssl", "x509", "-req", "-in", str(request), "-CA", str(_PKI / "ca.crt"),
                "-CAkey", str(_PKI / "ca.key"), "-days", str(int(days)), "-sha256", "-extfile", "/dev/stdin",
                "-set_serial", "0x" + hashlib.sha256(csr.encode()).hexdigest()[:32],
            ],
            input="keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nbasicConstraints=critical,CA:FALSE\n",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise CommandExecutionError(f"the request cannot be signed: {done.stderr.strip()}")
    return done.stdout


def put_files(folder, files):
    """Write the cluster's resources into a folder of the default user: name -> text.

    CLI Example: ``salt demo-master-1 managed_k8s_node.put_files /home/debian/.managed_k8s '{"README": "..."}'``
    """
    target = Path(folder)
    owner = target.parent.owner()
    changed = []
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if _read(path) != text.strip():
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
            changed.append(name)
    subprocess.run(["chown", "-R", owner, str(target)], check=True)
    return sorted(changed)


def default_user():
    """Return the home folder of the image's default user: the first ordinary one.

    CLI Example: ``salt demo-master-1 managed_k8s_node.default_user``
    """
    users = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    ordinary = sorted((int(user[2]), user[5]) for user in users if 1000 <= int(user[2]) < 60000)
    return ordinary[0][1] if ordinary else "/root"
