"""Minions, cloud and API of a cluster, as the Protocols in managed_k8s/execute/ have them, that note what is asked."""

from managed_k8s.minions.jobs import Answer, JobError


class Calls:
    """All of them in one: `made` is what was asked, in order.

    fails: names of methods that fail.
    """

    def __init__(self, fails=()):
        self.fails, self.made = fails, []

    def __getattr__(self, name):
        def call(*args, **kwargs):
            words = [arg for arg in args if isinstance(arg, str)]
            self.made.append(
                (name, *(word.rpartition(".")[2] if word.startswith("managed_k8s_") else word for word in words))
            )
            if name in self.fails:
                raise JobError("silent")

        return call


class Jobs:
    """Minions that answer as they are told.

    log: gets (function without its module, minions). answers: function -> what run() returns, an error that it raises,
    or a function of its arguments; `otherwise` for the rest. told: minion -> what it says when all are asked at once.
    fails: functions that fail.
    """

    def __init__(self, log, answers=(), otherwise=None):
        self.log, self.answers, self.otherwise = log, dict(answers), otherwise
        self.told, self.fails = {}, set()

    def accepted(self, cluster):
        return ["demo-gateway-1", "demo-master-1", "demo-master-2"]

    def ask(self, minions, function, *args, limit, expected=()):
        self.log.append((function.rpartition(".")[2], *sorted(minions)))
        return {name: Answer(self.told[name], ok=True) for name in minions if name in self.told}

    def run(self, minion, function, *args, limit, **kwargs):
        module, _, name = function.rpartition(".")
        name = name if module.startswith("managed_k8s_") else function
        self.log.append((name, minion))
        if name in self.fails:
            raise JobError(f"{minion}: {name}: no")
        answer = self.answers.get(name, self.otherwise)
        if isinstance(answer, Exception):
            raise answer
        return answer(args) if callable(answer) else answer


class Cloud:
    """Servers in a dictionary.

    log: gets what is asked of it.
    """

    def __init__(self, log, names=()):
        self.log = log
        self.list = {name: {"id": f"id-{name}", "status": "ACTIVE", "address": None} for name in names}

    def servers(self):
        return self.list

    def begin(self):
        self.log.append(("begin",))

    def stop(self, name):
        self.log.append(("power off", name))

    def correct(self, say):
        say("allow tcp 22 from 192.0.2.0/24 to demo-gateway")


class Kube:
    """An API that is there: `tokens` are those it knows, `failed` what its smoke test finds."""

    def __init__(self):
        self.tokens, self.failed = set(), []
        self.certificates_withdrawn = 0

    def answers(self):
        return True

    def connect(self):
        return None

    def create_token(self, seconds):
        self.tokens.add("abcdef.0123456789abcdef")
        return "abcdef.0123456789abcdef"

    def delete_token(self, token):
        self.tokens.discard(token)

    def withdraw_certificates(self):
        self.certificates_withdrawn += 1

    def mint(self, sign, server, ca):
        return f"{server} {sign('request')}"

    def resources(self):
        return {"daemonset.yaml": "kind: DaemonSet"}

    def smoke(self, say):
        return self.failed
