"""An etcd of half a gigabyte: filled below a prefix of its own, and as small as before when it is done with."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator

from bench.setting import Setting
from managed_k8s import names

MEGABYTES = 500
_ENDPOINT = "https://127.0.0.1:2379"
ETCDCTL = (
    f"/usr/local/bin/etcdctl --endpoints={_ENDPOINT} --cacert=/etc/kubernetes/pki/etcd/ca.crt "
    "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key "
    "--command-timeout=120s"
)
# Not below /registry: API servers would hold all of it in memory.
_PREFIX = "/managed-k8s-filling/"
# Seconds.
_SETTLED = 30
# What the values are made of: the cluster's own objects as etcd has them, each value beginning elsewhere among them; or
# what nothing makes smaller.
CONTENTS = OBJECTS, RANDOM = "objects", "random bytes"


def _puts(value: str) -> str:
    """Return a script that puts values of what a command prints, as large as fit into one request."""
    return f"for n in $(seq {{megabytes}}); do {value} | {ETCDCTL} put {_PREFIX}$n > /dev/null; done"


_FILL = {
    OBJECTS: (
        "set -e; objects=$(mktemp); trap 'rm $objects' EXIT; "
        # Those of a new cluster are hardly a megabyte: several times, further apart than zstd looks back.
        f"for copy in 1 2 3 4; do {ETCDCTL} get /registry --prefix --print-value-only; done > $objects; "
        "size=$(stat -c %s $objects); "
        + _puts("tail -c +$((n * 997003 % (size - 1000000))) $objects | head -c 1000000")
    ),
    RANDOM: "set -e; " + _puts("head -c 1000000 /dev/urandom"),
}
# etcd keeps its last requests in memory, 10,000 and 5,000 more (--snapshot-count, slow followers): nobody has such of a
# megabyte each. After so many small ones those are forgotten.
_SMALL = {"key": base64.b64encode(f"{_PREFIX}small".encode()).decode(), "value": ""}
_FORGET = (
    "cd /etc/kubernetes/pki/etcd; curl --silent --show-error --fail --parallel --output /dev/null --cacert ca.crt "
    f"--cert healthcheck-client.crt --key healthcheck-client.key --data '{json.dumps(_SMALL)}' "
    f"'{_ENDPOINT}/v3/kv/put#[1-20000]'"
)
# What was deleted takes room until its revisions are compacted, and the file is as large until it is written anew.
_EMPTY = (
    f"set -e; {ETCDCTL} del --prefix {_PREFIX} > /dev/null; "
    f"revision=$({ETCDCTL} get {_PREFIX} --write-out=fields | sed -n 's/^\"Revision\" : //p'); "
    f"{ETCDCTL} compact --physical=true $revision"
)


@contextlib.contextmanager
def filled(setting: Setting, content: str = OBJECTS, megabytes: int = MEGABYTES) -> Iterator[None]:
    """Have so much more in etcd meanwhile. content: one of CONTENTS. Raises BenchError."""
    masters = sorted(node.id for node in setting.cluster.nodes if node.role == names.MASTER)
    # What an interrupted run left would be overwritten, and kept as revisions.
    _empty(setting, masters)
    try:
        setting.salt(masters[:1], "cmd.run_all", _FILL[content].format(megabytes=megabytes))
        _settle(setting, masters)
        yield
    finally:
        _empty(setting, masters)


def _settle(setting: Setting, masters: list[str]) -> None:
    """Wait until what was filled in a minute is on the disks and only there: nobody's etcd grows so quickly."""
    setting.salt(masters[:1], "cmd.run_all", _FORGET)
    setting.salt(masters, "cmd.run", "sync")
    time.sleep(_SETTLED)


def _empty(setting: Setting, masters: list[str]) -> None:
    setting.salt(masters[:1], "cmd.run_all", _EMPTY)
    for name in masters:
        # One after the other: a member that writes its file anew answers nobody.
        setting.salt([name], "cmd.run_all", f"{ETCDCTL} defrag")
