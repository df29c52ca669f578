"""
Files that a cluster's nodes keep for people who log in there.
"""

from __future__ import annotations

import importlib
import pwd
import shutil
from pathlib import Path

import managed_k8s_common as common

importlib.reload(common)


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def put(folder: str, files: dict[str, str]) -> list[str]:
    """Write files into a folder that belongs to whom its parent belongs to: name -> text. Return which changed.

    A text that begins as a script does can be executed.

    CLI Example: ``salt demo-master-1 managed_k8s_files.put /home/debian/.managed_k8s '{"README": "..."}'``
    """
    target = Path(folder)
    changed = []
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if common.read(path) != text.strip():
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
            changed.append(name)
    owner = target.parent.owner()
    for path in (target, *target.rglob("*")):
        shutil.chown(path, owner)
    return sorted(changed)


def default_home() -> str:
    """Return the home folder of the image's default user: the first ordinary one.

    CLI Example: ``salt demo-master-1 managed_k8s_files.default_home``
    """
    ordinary = sorted((user.pw_uid, user.pw_dir) for user in pwd.getpwall() if 1000 <= user.pw_uid < 60000)
    return ordinary[0][1] if ordinary else "/root"
