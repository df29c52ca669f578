"""
A node whose version of Kubernetes, certificates or packages change while its cluster runs.

The Salt master says when: it sees to it that nothing runs on a node that may not, and that one master at a time is
touched.
"""

import base64
import contextlib
import datetime
import json
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from cryptography import x509
from salt.exceptions import CommandExecutionError

_KUBERNETES = Path("/etc/kubernetes")
_PKI = _KUBERNETES / "pki"
_MANIFESTS = _KUBERNETES / "manifests"
_KUBELET = Path("/var/lib/kubelet")
# A renewal was begun here and did not end.
_RENEWING = Path("/etc/managed-k8s/renewing")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROGRAMS = Path("/usr/local/bin")
# Where salt/kubernetes/upcoming.sls puts the kubeadm that upgrades this node.
_UPCOMING = Path("/usr/local/lib/managed-k8s/upcoming/kubeadm")
_CONFIGURATION = Path("/etc/managed-k8s/kubeadm.yaml")
_LIMIT = 2100
# kubeadm's certificates and kubeconfigs; the kubelet renews its own.
_KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")
# In this order they are restarted; where they say that they are well.
_COMPONENTS = {
    "etcd": "http://127.0.0.1:2381/health",
    "kube-apiserver": "https://127.0.0.1:6443/livez",
    "kube-controller-manager": "https://127.0.0.1:10257/healthz",
    "kube-scheduler": "https://127.0.0.1:10259/healthz",
}
_SECRET = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}|\b[0-9a-f]{64}\b")
_EMBEDDED = re.compile(r"client-certificate-data: (\S+)")
_DEPRECATED = "apiserver_requested_deprecated_apis"


def check():
    """Return what an upgrade has to know of this server before it begins.

    free: bytes on the fullest of its disks. etcd: bytes of etcd's data. deprecated: what this master's API server
    counted of requests to APIs that will be gone, as lines of its metrics.

    CLI Example: ``salt 'demo-*' managed_k8s_upgrade.check``
    """
    folders = [folder for folder in map(Path, ("/", "/var/lib/containerd", "/var/lib/etcd")) if folder.is_dir()]
    etcd = sum(file.stat().st_size for file in Path("/var/lib/etcd").rglob("*") if file.is_file())
    return {
        "free": min(shutil.disk_usage(folder).free for folder in folders),
        "etcd": etcd,
        "deprecated": _deprecated(),
    }


def _deprecated():
    manifest = _MANIFESTS / "kube-apiserver.yaml"
    if not manifest.is_file():
        return []
    annotations = yaml.safe_load(manifest.read_text())["metadata"]["annotations"]
    # Each API server counts its own; the virtual address leads to any of them.
    server = annotations["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"]
    metrics = _run(
        str(_PROGRAMS / "kubectl"), f"--kubeconfig={_KUBERNETES}/admin.conf", f"--server=https://{server}",
        "get", "--raw", "/metrics", limit=60,
    )  # fmt: skip
    return [line for line in metrics.splitlines() if line.startswith(_DEPRECATED)]


def control_plane(version, first=False):
    """Upgrade this master's static pods and its kubelet's configuration by kubeadm of that version; done is done.

    first: whether it is the first of the cluster: what belongs to the cluster as a whole is upgraded too.

    CLI Example: ``salt demo-master-1 managed_k8s_upgrade.control_plane 1.37.2 first=True``
    """
    kubeadm = str(_UPCOMING if _UPCOMING.is_file() else _PROGRAMS / "kubeadm")
    found = _run(kubeadm, "version", "--output=short", limit=60).strip().removeprefix("v")
    if found != version:
        raise CommandExecutionError(f"kubeadm is {found}, not {version}; salt/kubernetes/upcoming.sls brings it")
    words = ["apply", f"v{version}", "--yes"] if first else ["node"]
    _tidy()
    _run(kubeadm, "upgrade", *words, *_ignored(), limit=_LIMIT)
    return True


def _tidy():
    """Keep of kubeadm's copies of etcd's data the newest: it makes one whenever it is run, and removes none."""
    copies = sorted((_KUBERNETES / "tmp").glob("kubeadm-backup-etcd-*"), key=lambda copy: copy.stat().st_mtime)
    for copy in copies[:-1]:
        shutil.rmtree(copy)


def _ignored():
    names = ",".join(__pillar__["managed_k8s"]["settings"]["kubernetes"]["ignore_preflight_errors"])
    return [f"--ignore-preflight-errors={names}"] if names else []


def kubelet(version):
    """Have the kubelet of that version run, which the states installed: with its configuration, by a restart.

    CLI Example: ``salt demo-worker-1 managed_k8s_upgrade.kubelet 1.37.2``
    """
    found = _run(str(_PROGRAMS / "kubelet"), "--version", limit=60).strip().rpartition(" ")[2].removeprefix("v")
    if found != version:
        raise CommandExecutionError(f"the kubelet that is installed is {found}, not {version}; apply the states first")
    # On masters it did so when their static pods were upgraded.
    if not (_MANIFESTS / "kube-apiserver.yaml").is_file():
        _run(str(_PROGRAMS / "kubeadm"), "upgrade", "node", *_ignored(), limit=_LIMIT)
    _run("systemctl", "restart", "kubelet", limit=120)
    return True


def packages():
    """Upgrade Debian's packages, none that needs another removed; what configuration was changed stays.

    CLI Example: ``salt demo-worker-1 managed_k8s_upgrade.packages``
    """
    environment = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    _run("apt-get", "update", "--quiet", "--error-on=any", limit=300, env=environment)
    keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    _run("apt-get", "upgrade", "--quiet", "--yes", "--with-new-pkgs", *keep, limit=1700, env=environment)
    return True


def restart():
    """Reboot this server in two seconds, so that the answer to this still gets away.

    A master's API server ends by itself before that, which fewer miss than one that vanishes; the boot starts it again.

    CLI Example: ``salt demo-worker-1 managed_k8s_upgrade.restart``
    """
    if (_MANIFESTS / "kube-apiserver.yaml").is_file():
        __salt__["managed_k8s_node.stop_control_plane"]()
        # Nobody starts it before the boot, and nobody has to after it: no Salt master is needed to bring it back.
        _run("systemctl", "stop", "kubelet", limit=60)
        __salt__["managed_k8s_node.start_control_plane"]()
    _run("systemd-run", "--on-active=2", "--timer-property=AccuracySec=100ms", "systemctl", "reboot", limit=60)
    return True


def boot():
    """Return the id of this server's present boot, as the kubelet reports it.

    CLI Example: ``salt 'demo-*' managed_k8s_upgrade.boot``
    """
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return None


# Certificates


def certificates():
    """Return when the first certificate of each kind ends, in seconds since 1970, None where there is none.

    control_plane: kubeadm's. kubelet: the kubelet's. authority: the certificate authorities. renewing: whether a
    renewal was begun and did not end.

    CLI Example: ``salt 'demo-*' managed_k8s_upgrade.certificates``
    """
    files = sorted([*_PKI.glob("*.crt"), *_PKI.glob("etcd/*.crt")])
    authorities = [file for file in files if file.name.endswith("ca.crt")]
    authorities += [file for file in [Path("/etc/haproxy/kubernetes-ca.crt")] if file.is_file()]
    leaves = [file for file in files if not file.name.endswith("ca.crt")]
    ends = [_end(file.read_text()) for file in leaves] + [_embedded(_KUBERNETES / name) for name in _KUBECONFIGS]
    own = [_KUBELET / "pki" / f"kubelet-{what}-current.pem" for what in ("client", "server")]
    return {
        # Workers have the cluster's CA there, and no certificate of kubeadm's.
        "control_plane": _first(ends),
        "kubelet": _first(_end(file.read_text()) for file in own if file.is_file()),
        "authority": _first(_end(file.read_text()) for file in authorities),
        "renewing": _RENEWING.is_file(),
    }


def _first(times):
    return min((time for time in times if time is not None), default=None)


def _end(text):
    """Return when the certificate in a text ends; the kubelet's files hold the key too."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    with contextlib.suppress(ValueError, IndexError):
        pem = begin + text.split(begin, 1)[1].split(end, 1)[0] + end
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
    return None


def _embedded(path):
    """Return when the certificate inside of a kubeconfig ends."""
    if not path.is_file():
        return None
    found = _EMBEDDED.search(path.read_text())
    return _end(base64.b64decode(found[1]).decode()) if found else None


def renew():
    """Renew all certificates of this master that kubeadm made, and restart what uses them, one pod after the other.

    Works without an API: the authority's key is here. Begun again, it goes on.

    CLI Example: ``salt demo-master-1 managed_k8s_upgrade.renew``
    """
    _RENEWING.write_text(datetime.datetime.now(datetime.UTC).isoformat())
    _run(str(_PROGRAMS / "kubeadm"), "certs", "renew", "all", limit=300)
    _renew_kubelet()
    slow = [component for component in _COMPONENTS if not _restart(component)]
    _RENEWING.unlink()
    # Its etcd may still wait for other masters, whose certificates have ended too.
    return {"not_well_yet": slow}


def _renew_kubelet():
    """Sign a certificate for this master's kubelet when its own has ended: it cannot ask for one then, nor start."""
    current = _KUBELET / "pki" / "kubelet-client-current.pem"
    end = _end(current.read_text()) if current.is_file() else None
    if end is None or end > time.time():
        return
    kubeconfig = yaml.safe_load(
        _run(
            str(_PROGRAMS / "kubeadm"), "kubeconfig", "user", f"--config={_CONFIGURATION}", "--org=system:nodes",
            f"--client-name=system:node:{__pillar__['managed_k8s']['name']}", limit=60,
        )
    )  # fmt: skip
    user = kubeconfig["users"][0]["user"]
    pair = b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key"))
    # As the kubelet keeps them, and replaces them from now on: a file of its own, and a link to it.
    file = current.with_name(f"kubelet-client-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H-%M-%S}.pem")
    file.touch(mode=0o600)
    file.write_bytes(pair)
    link = current.with_name(".current")
    link.unlink(missing_ok=True)
    link.symlink_to(file)
    link.rename(current)
    _run("systemctl", "restart", "kubelet", limit=120)


def _restart(component):
    """Have the kubelet make a static pod anew; return whether it is well soon.

    An annotation is enough: the kubelet takes a static pod whose manifest changed for another one
    (pkg/kubelet/config/common.go, applyDefaults). kubeadm's next upgrade writes the manifest without it.
    """
    before = _containers(component)
    path = _MANIFESTS / f"{component}.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["metadata"].setdefault("annotations", {})["managed-k8s/restarted"] = str(time.time())
    # The kubelet does not read files that begin with a dot.
    part = path.with_name(f".{path.name}")
    part.touch(mode=0o600)
    part.write_text(yaml.safe_dump(manifest, sort_keys=False))
    part.rename(path)
    if not _until(lambda: _containers(component) - before and not _containers(component) & before, 180):
        raise CommandExecutionError(f"the kubelet does not restart {component}; see journalctl -u kubelet")
    return _until(lambda: _is_well(_COMPONENTS[component]), 60)


def _containers(component):
    """Return the ids of a component's containers that run."""
    ctr = [str(_PROGRAMS / "ctr"), "--namespace", "k8s.io"]
    label = f'labels."io.kubernetes.container.name"=={component}'
    named = set(_run(*ctr, "containers", "list", "--quiet", label, limit=60).split())
    lines = _run(*ctr, "tasks", "list", limit=60).splitlines()
    running = {words[0] for words in map(str.split, lines) if len(words) == 3 and words[2] == "RUNNING"}
    return named & running


def _is_well(url):
    unverified = ssl._create_unverified_context()  # noqa: S323 (only whether it answers is asked, of this server)
    try:
        with urllib.request.urlopen(url, timeout=3, context=unverified) as answer:  # noqa: S310 (a constant)
            text = answer.read(1000).decode()
    except (urllib.error.URLError, OSError):
        return False
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return json.loads(text)["health"] == "true"
    return True


def _until(is_done, seconds):
    end = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() >= end:
            return False
        time.sleep(1)
    return True


def _run(*words, limit, env=None):
    """Run a program; raise its last lines, without what looks like a token or a key."""
    name = " ".join(word for word in (Path(words[0]).name, *words[1:3]) if not word.startswith("-"))
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, env=env, check=False)
    except subprocess.TimeoutExpired:
        raise CommandExecutionError(f"{name}: did not end within {limit} seconds") from None
    if done.returncode:
        lines = _SECRET.sub("(secret)", f"{done.stdout}\n{done.stderr}").strip().splitlines()[-12:]
        raise CommandExecutionError(f"{name} failed:\n" + "\n".join(lines))
    return done.stdout
