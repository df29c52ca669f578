"""Patience with the cloud's API, measured at a real HTTP server, and words for what it finally refuses."""

import http.server
import threading

import keystoneauth1.exceptions
import openstack.exceptions
import pytest

from managed_k8s.openstack import connection
from managed_k8s.openstack.connection import CloudError

CLOUDS = """
clouds:
  one:
    auth_type: none
    endpoint: http://127.0.0.1:1
"""


SECRET = '{"application_credential": {"id": "1", "secret": "hunter2"}}'


class Server(http.server.ThreadingHTTPServer):
    """Has the codes to answer with, and the methods that it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Api)
        self.answers: list[int] = []
        self.seen: list[str] = []


class Api(http.server.BaseHTTPRequestHandler):
    """Answers with the server's codes, one after another; 0 hangs up."""

    server: Server

    def _answer(self):
        self.server.seen.append(self.command)
        code = self.server.answers.pop(0)
        if code:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(SECRET)))
            self.end_headers()
            self.wfile.write(SECRET.encode())
        else:
            self.close_connection = True
            self.connection.close()

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (names that the library calls)

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr("keystoneauth1.session.time.sleep", lambda seconds: None)
    return connection._Session()


def request(session, api, method, path="/servers"):
    return session.request(f"http://127.0.0.1:{api.server_port}{path}", method, authenticated=False)


@pytest.mark.parametrize(
    ("method", "answers"),
    [
        ("GET", [503, 429, 200]),
        ("GET", [500, 502, 504, 200]),
        ("GET", [0, 0, 200]),
        ("DELETE", [502, 0, 204]),
        ("POST", [503, 429, 202]),
    ],
)
def test_a_passing_failure_is_not_noticed(session, api, method, answers):
    api.answers = list(answers)
    assert request(session, api, method).status_code == answers[-1]
    assert len(api.seen) == len(answers)


@pytest.mark.parametrize("answer", [500, 502, 504, 0])
def test_what_may_have_made_something_is_not_sent_twice(session, api, answer):
    api.answers = [answer, 202]
    with pytest.raises(keystoneauth1.exceptions.ClientException) as raised:
        request(session, api, "POST")
    assert api.seen == ["POST"]
    # Who looks first whether it was made may try again.
    assert connection.is_transient(raised.value)


@pytest.mark.parametrize(("path", "is_logged"), [("/servers", True), ("/users/1/application_credentials", False)])
def test_the_secret_that_keystone_shows_once_is_not_logged(session, api, caplog, path, is_logged):
    caplog.set_level("DEBUG")
    api.answers = [201]
    assert "hunter2" in request(session, api, "POST", path).text
    assert ("hunter2" in caplog.text) == is_logged


def test_a_final_answer_is_not_asked_for_again(session, api):
    api.answers = [404]
    with pytest.raises(keystoneauth1.exceptions.NotFound) as raised:
        request(session, api, "GET")
    assert not connection.is_transient(raised.value)


def test_looks_and_makes_again_until_it_works(monkeypatch):
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    outcomes = iter([keystoneauth1.exceptions.ConnectFailure("reset"), keystoneauth1.exceptions.BadGateway(), None])

    def action():
        outcome = next(outcomes)
        if outcome:
            raise outcome
        return "made"

    assert connection.persistently(action) == "made"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (keystoneauth1.exceptions.Unauthorized("no"), "does not accept the account"),
        (keystoneauth1.exceptions.SSLError("self-signed"), "cacert in clouds.yaml"),
        (keystoneauth1.exceptions.ConnectFailure("refused"), "auth_url in clouds.yaml"),
        (openstack.exceptions.ForbiddenException("Quota exceeded for cores", http_status=403), "quota is used up"),
        (openstack.exceptions.ForbiddenException("Policy forbids", http_status=403), "role member"),
        (openstack.exceptions.HttpException("oops", http_status=503), "try again later"),
        (openstack.exceptions.ConflictException("port in use", http_status=409), "port in use"),
    ],
)
def test_says_what_to_do(error, words):
    with pytest.raises(CloudError, match=words), connection.explained():
        raise error


def test_a_cloud_that_is_in_no_file_is_named_with_those_that_are(tmp_path, monkeypatch):
    monkeypatch.delenv("OS_CLIENT_CONFIG_FILE", raising=False)
    (tmp_path / "clouds.yaml").write_text(CLOUDS)
    with pytest.raises(CloudError, match=r"'two' is in no clouds.yaml; there are one"):
        connection.connect("two", tmp_path)


def test_the_environments_file_comes_before_the_checkouts(tmp_path, monkeypatch):
    (tmp_path / "clouds.yaml").write_text(CLOUDS)
    (tmp_path / "other.yaml").write_text(CLOUDS.replace("one:", "other:"))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "other.yaml"))
    assert connection.connect("other", tmp_path).config.name == "other"


def test_only_what_is_transient_is_repeated():
    assert not connection.is_transient(ValueError())
    assert not connection.is_transient(openstack.exceptions.NotFoundException("gone", http_status=404))
