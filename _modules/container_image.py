"""
Container images in containerd, as Kubernetes sees them.
"""

import tempfile
from pathlib import Path

from salt.exceptions import CommandExecutionError

_CTR = ["/usr/local/bin/ctr", "--namespace", "k8s.io", "images"]


def present():
    """Return the images: reference -> digest.

    CLI Example: ``salt demo-worker-1 container_image.present``
    """
    lines = _run([*_CTR, "list"]).splitlines()[1:]
    return {words[0]: words[2] for words in (line.split() for line in lines) if len(words) > 2}


def import_archive(source, sha256):
    """Download an OCI archive, check it, import it and remove it.

    CLI Example: ``salt demo-worker-1 container_image.import_archive URL SHA256``
    """
    with tempfile.TemporaryDirectory(prefix="managed-k8s-", dir="/var/lib/managed-k8s") as folder:
        archive = Path(folder) / "image.tar"
        __salt__["artifact.install"](str(archive), source, sha256, "0600")
        # --all-platforms=false: the archives hold the server's own platform only.
        _run([*_CTR, "import", "--all-platforms=false", str(archive)])


def _run(command):
    done = __salt__["cmd.run_all"](command, python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"{' '.join(command)}: {done['stderr'] or done['stdout']}")
    return done["stdout"]
