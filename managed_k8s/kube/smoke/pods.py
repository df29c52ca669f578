"""The pods of the smoke tests: programs of the image that every node has already, no right but to run."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

PORT = 8080
# Of the image that the CSI driver's node plugin has; nothing is pulled.
PLUGIN = "csi-cinder-nodeplugin"
_NOBODY = 65534
_RESULT = "/dev/termination-log"

# Answers every connection with the pod's name.
_SERVER = (
    "use IO::Socket::INET; $| = 1; "
    f"my $s = IO::Socket::INET->new(LocalPort => {PORT}, Listen => 16, ReuseAddr => 1) or die $!; "
    'print "listening\\n"; '
    'while (my $c = $s->accept) { my $line = <$c>; print $c "HTTP/1.0 200 OK\\r\\n\\r\\nhello from $ENV{POD}\\n"; '
    "close $c }"
)
# Writes `name ok|failed what` per check; each is tried for a while, as rules for a new service take a moment.
_CLIENT = f"""
check() {{
  local name=$1 last; shift
  for _ in $(seq 20); do
    if last=$("$@" 2>&1); then echo "$name ok $last" >> {_RESULT}; return; fi
    sleep 0.5
  done
  echo "$name failed $(echo "$last" | tail -1)" >> {_RESULT}
}}
get() {{ timeout 2 bash -c 'exec 3<> /dev/tcp/$0/$1 && echo GET / >&3 && grep -m 1 hello <&3' "$1" "$2"; }}
resolve() {{ timeout 3 getent ahostsv4 kubernetes.default.svc.cluster.local | grep -m 1 -oE '^[0-9.]+' ; }}
api() {{
  local folder=/var/run/secrets/kubernetes.io/serviceaccount
  {{ printf 'GET /readyz HTTP/1.0\\r\\nAuthorization: Bearer %s\\r\\n\\r\\n' "$(cat $folder/token)"; sleep 1; }} |
    timeout 4 openssl s_client -quiet -connect "$VIRTUAL_IP:6443" -CAfile $folder/ca.crt -verify_return_error \\
      -verify_ip "$VIRTUAL_IP" 2>&1 | grep -m 1 HTTP/ | grep '200 OK'
}}
check dns resolve &
check pod get "$PEER" {PORT} &
check service get "$WEB_SERVICE_HOST" "$WEB_SERVICE_PORT" &
check api api &
wait
"""
_WRITE = f'echo "$TOKEN" > /data/token && sync && echo written > {_RESULT}'
_READ = f"cat /data/token > {_RESULT}"


def server(image: str) -> Object:
    """Return the pod that answers."""
    environment = {"POD": "server"}
    return _pod("server", image, ["perl", "-e", _SERVER], environment, labels={"app": "web"})


def service() -> Object:
    """Return the service in front of it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def client(image: str, peer: str, virtual_ip: str) -> Object:
    """Return the pod that asks: DNS, the server's pod, its service, the API at its virtual address.

    peer: the server's address.
    """
    pod = _pod("client", image, ["bash", "-c", _CLIENT], {"PEER": peer, "VIRTUAL_IP": virtual_ip})
    pod["spec"]["automountServiceAccountToken"] = True
    return pod


def writer(image: str, token: str) -> Object:
    """Return the pod that writes a token on the volume `data` and ends."""
    return _pod("writer", image, ["bash", "-c", _WRITE], {"TOKEN": token}, claim="data")


def reader(image: str, name: str, claim: str) -> Object:
    """Return a pod that reads the token of a volume and ends."""
    return _pod(name, image, ["bash", "-c", _READ], {}, claim=claim)


def on(pod: Object, node: str) -> Object:
    """Return a pod that the scheduler puts on a node."""
    pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    return pod


def claim(name: str, snapshot: str | None = None) -> Object:
    """Return a claim for the smallest volume of the default class, made from a snapshot if one is named."""
    specification: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    if snapshot:
        specification["dataSource"] = {
            "apiGroup": "snapshot.storage.k8s.io",
            "kind": "VolumeSnapshot",
            "name": snapshot,
        }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": specification,
    }


def snapshot(name: str, of_claim: str) -> Object:
    """Return a snapshot of a claim's volume, of the class `cinder`."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"volumeSnapshotClassName": "cinder", "source": {"persistentVolumeClaimName": of_claim}},
    }


def _pod(
    name: str,
    image: str,
    command: list[str],
    environment: dict[str, str],
    *,
    labels: dict[str, str] | None = None,
    claim: str | None = None,
) -> Object:
    container: Object = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": command,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    specification: Object = {
        "containers": [container],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": True,
        # A cluster of one worker still has two nodes.
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
            "fsGroup": _NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        specification["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": specification,
    }
