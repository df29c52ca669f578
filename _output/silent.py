"""
Prints nothing: of a runner that has told people already what there is to tell.
"""


def output(data, **kwargs):
    """Return nothing to print.

    CLI Example: ``salt-run --out=silent managed_k8s.validate``
    """
    return ""
