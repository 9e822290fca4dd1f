"""Kubeflow Pipelines' API v2beta1 in memory for the real kfp.Client: versions, runs, schedules, rights and faults.

with FakeKubeflow() as kubeflow:
    client = kfp.Client(host=kubeflow.url, namespace="team")
    kubeflow.fail("GET", "/runs/", 503, times=2)
    ...
    kubeflow.task(run_id, "train", "FAILED", status=65, lines=["hqclip train: the loss is not a number"])
    kubeflow.finish(run_id, "FAILED")
    kubeflow.assert_all_faults_fired()

Every request and answer is held against the API's own description; a request that does not fit is a mistake.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Collection

from tests.fakes.faulty import Fault, Faulty, Server
from tests.fakes.kubeflow_api import PREFIX, UPLOADS, Answer, Refused, Request, answer_faults, refusal, route
from tests.fakes.kubeflow_lists import Row
from tests.fakes.kubeflow_objects import Objects
from tests.fakes.kubeflow_server import Handler
from tests.fakes.kubeflow_workflows import Workflows

LOGIN = (
    '<!DOCTYPE html><html><head><title>Log in to Your Account</title></head><body id="dex-container">dex</body></html>'
)


class FakeKubeflow(Faulty, Objects, Workflows):
    """In a thread, on a free port.

    `multi_user` with `namespaces`: each caller must name one of them. `token`: the bearer token that is let in, others
    get 401. `cookie`: what a browser's cookie must contain, others are sent to a login page, as Dex and IAP do.
    """

    def __init__(
        self,
        *,
        multi_user: bool = False,
        namespaces: Collection[str] = ("team",),
        token: str = "",
        cookie: str = "",
    ) -> None:
        Faulty.__init__(self)
        Objects.__init__(self, multi_user)
        Workflows.__init__(self)
        self.namespaces, self.token, self.cookie = namespaces, token, cookie
        self._next_polls: list[Callable[[str], object]] = []
        self._polls: dict[str, list[Callable[[str], object]]] = {}
        self._closed = threading.Event()
        self._server = Server(self.answer, Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeKubeflow:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for error in self._server.errors:
            raise error

    # what happens to runs

    def play(self, recording: Row) -> str:
        """A run as it was recorded, of a pipeline that is called as its own was; its id."""
        with self.changed:
            run, reference = dict(recording["run"]), recording["run"]["pipeline_version_reference"]
            name = f"hqclip-{recording['workflow']['pipeline']}"
            key = reference["pipeline_id"]
            self.pipelines[key] = {"pipeline_id": key, "name": name, "display_name": name, "created_at": self.now()}
            self.runs[run["run_id"]], self._in_namespace[run["run_id"]] = run, ""
            self.replayed(recording)
            return str(run["run_id"])

    def finish(self, run_id: str, state: str = "SUCCEEDED") -> None:
        """The run ends."""
        with self.changed:
            self.state(run_id, state)

    def on_polls(self, *steps: Callable[[str], object]) -> None:
        """What happens to the next run that is created: a step, given its id, before each answer about it."""
        self._next_polls = list(steps)

    # what goes wrong

    def fail(
        self,
        method: str,
        pattern: str,
        code: int,
        times: int = 1,
        *,
        message: str = "",
        retry_after: int = 0,
        skip: int = 0,
    ) -> Fault:
        """Answer with an error; nothing is done."""
        answers = [refusal(code, message), refusal(code, message, upload=True)]
        for answer in answers:
            answer.headers |= {"Retry-After": str(retry_after)} if retry_after else {}
        return self.expect(Fault("fail", method, pattern, times, skip, answers[0], answers[1]))

    def say(self, method: str, pattern: str, answer: Answer, times: int = 1) -> Fault:
        """Answer with just this: what a proxy or a login page says."""
        return self.expect(Fault("fail", method, pattern, times, 0, answer, answer))

    def slow(self, method: str, pattern: str, seconds: float, times: int = 1) -> Fault:
        """Do it, and answer late."""
        return self.expect(Fault("slow", method, pattern, times, seconds=seconds))

    def asked(self, method: str, pattern: str) -> list[Request]:
        """The requests so far whose path and query match."""
        return [r for r in list(self.requests) if r.method == method and re.search(pattern, r.url)]

    def answer(self, request: Request) -> Answer | None:
        """What a request is answered; None if the connection is to break."""
        with self.changed:
            fault = self.noticed(request)
            if fault.kind == "drop":
                return None
            if fault.kind == "fail":
                return fault.upload_answer if "/pipelines/upload" in request.path else fault.answer
            answer = self._at_the_door(request) or self._checked(request)
            answer = Answer(copy.deepcopy(answer.body), answer.code, answer.headers)
            if fault.do is not None:
                fault.do()
        self._closed.wait(fault.seconds)
        return None if fault.kind == "commit_then_drop" else answer

    def _at_the_door(self, request: Request) -> Answer | None:
        """What gateways answer by themselves: a login page, a refusal."""
        if request.path.startswith("/dex/"):
            return Answer(LOGIN, headers={"Content-Type": "text/html; charset=utf-8"})
        if self.cookie and self.cookie not in request.headers.get("cookie", ""):
            return Answer("", 302, {"Location": f"{self.url}/dex/auth?client_id=kubeflow", "Content-Type": "text/html"})
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return refusal(401)
        if not request.path.startswith(PREFIX):
            older = self.older(request.path)
            return Answer(*older) if older else Answer("404 page not found\n", 404)
        return None

    def _checked(self, request: Request) -> Answer:
        """Carried out, and held against the description on the way in and out."""
        try:
            faults = route(request)
            if faults:
                answer = refusal(400, f"Invalid input error: {'; '.join(faults)}", upload=request.operation in UPLOADS)
            else:
                self._may(request)
                self._poll(request)
                answer = Answer(getattr(self, request.operation, self._not_built)(request))
                if request.operation == "RunService_CreateRun":
                    self._polls[answer.body["run_id"]], self._next_polls = self._next_polls, []
        except Refused as refused:
            answer = refusal(refused.code, refused.message, upload=request.operation in UPLOADS)
        if request.operation:
            wrong = answer_faults(request, answer)
            assert not wrong, f"the fake answers {request.operation} wrongly: {wrong}"
        return answer

    def _poll(self, request: Request) -> None:
        steps = self._polls.get(request.arguments.get("run_id", ""), [])
        if request.operation == "RunService_GetRun" and steps:
            steps.pop(0)(request.arguments["run_id"])

    def _may(self, request: Request) -> None:
        said = request.query.get("namespace") or (request.body or {}).get("namespace")
        if self.multi_user and said and said not in self.namespaces:
            raise Refused(
                403,
                "PermissionDenied: Failed to authorize: User 'ada@example.org' is not authorized with reason:  "
                f"(request: &ResourceAttributes{{Namespace:{said},Verb:list,Group:pipelines.kubeflow.org,}})",
            )

    def _not_built(self, request: Request) -> Row:
        raise AssertionError(f"the fake has no {request.operation}")
