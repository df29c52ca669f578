"""Settings for all tests."""

import salt._logging


def pytest_configure() -> None:
    """Have Salt log through pytest alone.

    Importing it makes a handler of its own on the standard error of that moment, which is pytest's and closed when the
    last objects are destroyed: "I/O operation on closed file" for each of them.
    """
    salt._logging.shutdown_temp_handler()
