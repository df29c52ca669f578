"""
Prints nothing: of a runner that has told people already what there is to tell.
"""

from __future__ import annotations


def output(data: object, **kwargs: object) -> str:
    """Return nothing to print.

    CLI Example: ``salt-run --out=silent managed_k8s.validate``
    """
    return ""
