from managed_k8s.model.steps import ADDONS, Step
from managed_k8s.state import attempts
from managed_k8s.state.attempts import StepAttempts
from managed_k8s.state.store import Store


def test_what_keeps_failing_is_left_alone_for_longer_each_time(tmp_path, monkeypatch):
    store, step = Store(tmp_path, "demo"), Step("addons", ADDONS, "", "apply")
    monkeypatch.setattr(attempts.time, "time", lambda: 1000.0)
    kept, pauses = StepAttempts(store), []
    for _ in range(20):
        kept.failed(step, "no")
        pauses.append(next(seconds for seconds in range(1, 1000) if not kept.resting(1000.0 + seconds)))
    assert pauses == sorted(pauses)
    assert pauses[0] == 10
    assert pauses[-1] == 600
    assert StepAttempts(store).resting(1599.0) == {step.id}, "the next run knows"
    kept.succeeded(step)
    assert not kept.resting(1000.0)
