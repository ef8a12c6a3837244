"""The HTTP side: addresses, the checks of every message, and faults on demand."""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.kfp_server.errors import ApiError, denied, internal, invalid, unauthenticated, unavailable
from tests.kfp_server.state import ENDED, Record, State
from tests.kfp_server.wire import InvalidMessageError, check

PREFIX = "/apis/v2beta1/"
Fault = Literal["before", "after", "lost"]

# Method and address, the server's own name of what is asked, and the models of question and answer.
ROUTES = [
    ("GET", r"healthz", "healthz", None, "V2beta1GetHealthzResponse"),
    ("POST", r"experiments", "create_experiment", "V2beta1Experiment", "V2beta1Experiment"),
    ("GET", r"experiments", "list_experiments", None, "V2beta1ListExperimentsResponse"),
    ("GET", r"experiments/([^/]+)", "get_experiment", None, "V2beta1Experiment"),
    ("POST", r"experiments/([^/:]+):archive", "archive_experiment", None, None),
    ("DELETE", r"experiments/([^/:]+)", "delete_experiment", None, None),
    ("POST", r"pipelines/upload_version", "upload_version", "multipart", "V2beta1PipelineVersion"),
    ("POST", r"pipelines", "create_pipeline", "V2beta1Pipeline", "V2beta1Pipeline"),
    ("GET", r"pipelines", "list_pipelines", None, "V2beta1ListPipelinesResponse"),
    ("GET", r"pipelines/([^/]+)/versions", "list_versions", None, "V2beta1ListPipelineVersionsResponse"),
    ("GET", r"pipelines/([^/]+)/versions/([^/]+)", "get_version", None, "V2beta1PipelineVersion"),
    ("POST", r"runs", "create_run", "V2beta1Run", "V2beta1Run"),
    ("GET", r"runs", "list_runs", None, "V2beta1ListRunsResponse"),
    ("GET", r"runs/([^/:]+)", "get_run", None, "V2beta1Run"),
    ("POST", r"runs/([^/:]+):terminate", "terminate_run", None, None),
    ("DELETE", r"runs/([^/:]+)", "delete_run", None, None),
    ("POST", r"recurringruns", "create_recurring_run", "V2beta1RecurringRun", "V2beta1RecurringRun"),
    ("GET", r"recurringruns", "list_recurring_runs", None, "V2beta1ListRecurringRunsResponse"),
    ("GET", r"recurringruns/([^/:]+)", "get_recurring_run", None, "V2beta1RecurringRun"),
    ("POST", r"recurringruns/([^/:]+):enable", "enable_recurring_run", None, None),
    ("POST", r"recurringruns/([^/:]+):disable", "disable_recurring_run", None, None),
    ("DELETE", r"recurringruns/([^/:]+)", "delete_recurring_run", None, None),
]
# The parameters that each address takes in its query; the server refuses others.
PAGED = {"page_token", "page_size", "sort_by", "filter"}
QUERIES = {
    "list_experiments": PAGED | {"namespace"},
    "list_pipelines": PAGED | {"namespace"},
    "list_versions": PAGED,
    "list_runs": PAGED | {"namespace", "experiment_id"},
    "list_recurring_runs": PAGED | {"namespace", "experiment_id"},
    "upload_version": {"name", "display_name", "description", "pipelineid", "tags"},
    "delete_recurring_run": {"propagation_policy"},
}
POLICIES = ("", "DELETE_PROPAGATION_POLICY_UNSPECIFIED", "FOREGROUND", "BACKGROUND", "ORPHAN")


class KfpServer:
    """The server, as a test steers it and looks into it."""

    def __init__(self, *, token: str = "", allowed: Sequence[str] = (), existing: Sequence[str] | None = None) -> None:
        """`token` must be shown; with `allowed` namespaces it serves many users; those not `existing` are but names."""
        self.state = State()
        self.token = token
        self.allowed = allowed
        self.existing = existing if existing is not None else (allowed or None)
        self.requests: list[tuple[str, str]] = []
        self.writes: list[str] = []
        # The number of the write that fails, counted from the next one, and how.
        self.fail_write: tuple[int, Fault] | None = None
        # Answers to further questions for a run; the last one stays.
        self.plan: list[Record] = []
        self.fail_reads = 0
        self.address = ""

    @contextmanager
    def running(self, context: Any = None) -> Iterator["KfpServer"]:
        """Serve on a free port of loopback; `context` makes it TLS."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.address = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, method: str, target: str, body: bytes, headers: Message) -> tuple[int, Record | None]:
        """Status and body; no body at all means that the connection breaks."""
        with self.state.lock:
            try:
                return 200, self._answer(method, target, body, headers)
            except ApiError as error:
                return (error.status, error.body) if "upload" not in target else _upload_error(error)
            except _LostError:
                return 0, None

    def _answer(self, method: str, target: str, body: bytes, headers: Message) -> Record:
        parts = urlsplit(target)
        name, arguments, question, answer = _route(method, parts.path)
        query = _query(name, parts.query)
        self.requests.append((method, target))
        if self.token and name != "healthz" and headers.get("authorization") != f"Bearer {self.token}":
            raise unauthenticated()
        if method == "GET":
            if self.fail_reads and name != "healthz":
                self.fail_reads -= 1
                raise internal("the database is away")
            return _checked(self._do(name, arguments, query, None, ""), answer)
        wanted = _multipart(body, headers) if question == "multipart" else _message(body, question)
        fault = self._next_fault()
        if fault == "before":
            raise internal("the database is away")
        # What has no body is about something that is there, and its namespace with it.
        namespace = self._namespace(wanted) if question else ""
        done = _checked(self._do(name, arguments, query, wanted, namespace), answer)
        self.writes.append(f"{method} {name}")
        if fault == "after":
            raise unavailable("the server is restarting")
        if fault == "lost":
            raise _LostError
        return done

    def _do(self, name: str, arguments: Sequence[str], query: dict[str, str], wanted: Any, namespace: str) -> Record:
        state = self.state
        if name.startswith("list_") and self.allowed and "experiment_id" not in query and name != "list_versions":
            namespace = self._permitted(query.get("namespace", ""))
        match name:
            case "healthz":
                return {"multi_user": bool(self.allowed), "pipeline_store": "database"}
            case "create_experiment" | "create_pipeline":
                return getattr(state, name)(wanted, namespace)  # type: ignore[no-any-return]
            case "list_experiments" | "list_pipelines":
                return getattr(state, name)(query, namespace)  # type: ignore[no-any-return]
            case "list_runs" | "list_recurring_runs":
                return getattr(state, name)(query)  # type: ignore[no-any-return]
            case "list_versions":
                return state.list_versions(arguments[0], query)
            case "get_version":
                return state.get_version(arguments[0], arguments[1])
            case "upload_version":
                return state.upload_version(query.get("pipelineid", ""), query.get("name", ""), wanted)
            case "create_run" | "create_recurring_run":
                return getattr(state, name)(wanted, self.existing)  # type: ignore[no-any-return]
            case "get_experiment":
                return state.get("Experiment", arguments[0])
            case "get_recurring_run":
                return state.get("Job", arguments[0])
            case "get_run":
                return self._progress(arguments[0])
            case "terminate_run":
                state.terminate_run(arguments[0])
            case "archive_experiment" | "delete_experiment" | "delete_run":
                getattr(state, name)(arguments[0])
            case "enable_recurring_run" | "disable_recurring_run":
                state.switch(arguments[0], name.startswith("enable"))
            case "delete_recurring_run":
                policy = query.get("propagation_policy", "")
                if policy not in POLICIES:
                    raise invalid(f"parsing enum: {policy} is not valid")
                state.delete_recurring_run(arguments[0], policy)
        return {}

    def _progress(self, run: str) -> Record:
        """A run, one snapshot of the plan further."""
        found = self.state.get("Run", run)
        if self.plan and found["state"] not in ENDED:
            found.update(self.plan[0])
            if len(self.plan) > 1:
                self.plan.pop(0)
        return found

    def _namespace(self, wanted: Any) -> str:
        """The namespace of something new; a server of one user takes none to heart."""
        if not self.allowed or not isinstance(wanted, dict):
            return ""
        if wanted.get("experiment_id"):
            return self._permitted(self.state.get("Experiment", wanted["experiment_id"]).get("namespace", ""))
        return self._permitted(wanted.pop("namespace", ""))

    def _permitted(self, namespace: str) -> str:
        if not namespace:
            raise invalid("An experiment cannot have an empty namespace in multi-user mode")
        if namespace not in self.allowed:
            raise denied(namespace)
        return namespace

    def _next_fault(self) -> Fault | None:
        if self.fail_write is None:
            return None
        left, fault = self.fail_write
        self.fail_write = (left - 1, fault) if left > 1 else None
        return fault if left == 1 else None


def _upload_error(error: ApiError) -> tuple[int, Record]:
    """Uploads do not go through gRPC and have errors of their own, most of which are 400."""
    status = error.status if error.status in (401, 409) or error.status >= 500 else 400
    return status, {"error_message": error.for_people, "error_details": error.message}


class _LostError(Exception):
    """The answer never arrives."""


def _route(method: str, path: str) -> tuple[str, tuple[str, ...], str | None, str | None]:
    for verb, pattern, name, question, answer in ROUTES:
        match = re.fullmatch(re.escape(PREFIX) + pattern, path)
        if match and verb == method:
            return name, tuple(unquote(part) for part in match.groups()), question, answer
    raise ApiError(5, "Not Found", "Not Found")


def _query(name: str, text: str) -> dict[str, str]:
    query = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    unknown = query.keys() - QUERIES.get(name, set())
    if unknown:
        raise invalid(f"unknown parameter in the address: {', '.join(sorted(unknown))}")
    return query


def _message(body: bytes, model: str | None) -> Record:
    if model is None:
        if body:
            raise invalid("a body where none belongs")
        return {}
    try:
        message: Record = json.loads(body)
        check(message, model)
    except (ValueError, InvalidMessageError) as error:
        raise invalid(str(error)) from None
    return message


def _multipart(body: bytes, headers: Message) -> bytes:
    kind = headers.get("content-type", "").encode()
    whole = BytesParser().parsebytes(b"Content-Type: " + kind + b"\r\n\r\n" + body)
    for part in whole.get_payload() if whole.is_multipart() else ():
        if isinstance(part, Message) and part.get_param("name", header="content-disposition") == "uploadfile":
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                return content
    raise invalid("Failed to read pipeline from file")


def _checked(answer: Record, model: str | None) -> Record:
    """The server keeps to its own models too."""
    if model:
        check(answer, model)
    return answer


def _handler(server: KfpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet for an answer, at once: else each waits for the client's delayed acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = server.answer(self.command, self.path, body, self.headers)
            if not status:
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing: the test looks at `requests`."""

    return Handler
