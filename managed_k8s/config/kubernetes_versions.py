"""The versions of Kubernetes that can be installed; what goes with each is in the mirror's versions.json.

A version that is not here is refused. docs/artifacts.md says how one is added.
"""

SUPPORTED = ("1.36.3", "1.37.2")
# What a new cluster begins with.
DEFAULT = "1.36.3"
