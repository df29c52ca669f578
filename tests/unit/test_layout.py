"""How the tests themselves are laid out."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_no_test_module_imports_another_one():
    """What two share lies in tests/support, so that either may change alone."""
    imports = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*(?:test_\w+|\w+ import test_\w+)", re.MULTILINE)
    modules = [*TESTS.rglob("*.py")]
    assert len(modules) > 100
    assert not {str(module): found for module in modules if (found := imports.findall(module.read_text()))}
