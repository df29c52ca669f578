from lab import cli, settings


def test_down_stops_ours_or_whichever_lab_runs(monkeypatch, tmp_path):
    stopped = []
    monkeypatch.setattr(cli.Lab, "down", lambda lab: stopped.append(lab.state.folder))
    monkeypatch.setattr(cli.host, "owner", lambda: tmp_path)
    cli.down(whichever=False)
    cli.down(whichever=True)
    monkeypatch.setattr(cli.host, "owner", lambda: None)
    cli.down(whichever=True)
    ours = settings.load().state
    assert stopped == [ours, tmp_path, ours]
