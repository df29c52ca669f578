"""The one base class of what an operator can do something about."""

from __future__ import annotations

# Libraries whose errors say what the world refused, not what is wrong in this code.
_LIBRARIES = {"keystoneauth1", "kubernetes", "openstack", "requests", "salt", "urllib3"}


class Error(Exception):
    """What went wrong, and what to do: a message for an operator, not a defect of this code.

    Adapters turn what their libraries raise into one of these.
    """


class RequestError(Error):
    """What was asked for cannot be done; the message says why and what to do instead."""


def is_expected(error: BaseException) -> bool:
    """Tell whether an error is to be shown as a message rather than as a traceback.

    Beside our own: what the operating system says (a full disk, a file that this user may not read), and what a
    library raised that no adapter explained. Libraries are known by name, so that nothing has to be loaded for this.
    """
    if isinstance(error, Error | OSError):
        return True
    return any(base.__module__.partition(".")[0] in _LIBRARIES for base in type(error).__mro__)


def text(error: BaseException) -> str:
    """Return an error's message, or at least its kind."""
    return str(error).strip() or type(error).__name__
