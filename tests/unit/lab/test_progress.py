import io

import pytest
from rich.console import Console

from lab.progress import Report


def test_finished_and_failed_steps_are_one_line_each():
    output = io.StringIO()
    report = Report(Console(file=output, force_terminal=False))
    with report.step("Boil water") as step:
        step.update("half way", done=1, total=2)
    with pytest.raises(ValueError, match="no tea"), report.step("Make tea"):
        raise ValueError("no tea")
    text = output.getvalue()
    assert "✓ Boil water" in text
    assert "✗ Make tea" in text
