"""Answers every request with a greeting."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import types
from wit_world.imports.environment import get_environment
from wit_world.imports.streams import StreamError_Closed


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Response:
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/plain; charset=utf-8"})


def answer(request: Request) -> Response:
    # os.environ is that of the build; this is the function's.
    environment = dict(get_environment())
    greeting = environment.get("GREETING", "Hello")
    name = request.query.get("name", ["world"])[0]
    agent = request.headers.get("user-agent", "something unnamed")
    text = f"{greeting}, {name}!\nYou sent {request.method} {request.path} with {len(request.body)} bytes by {agent}.\n"
    return Response(text.encode())


# From here on: the request and the answer as wasi:http has them.


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: types.IncomingRequest, response_out: types.ResponseOutparam) -> None:
        made = answer(read(request))
        fields = types.Fields.from_list([(name, value.encode()) for name, value in made.headers.items()])
        response = types.OutgoingResponse(fields)
        response.set_status_code(made.status)
        body = response.body()
        types.ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            # A stream takes at most 4096 bytes at once.
            for at in range(0, len(made.body), 4096):
                stream.blocking_write_and_flush(made.body[at : at + 4096])
        types.OutgoingBody.finish(body, None)


def read(request: types.IncomingRequest) -> Request:
    method = request.method()
    name = method.value if isinstance(method, types.Method_Other) else type(method).__name__.removeprefix("Method_").upper()
    path, _, query = (request.path_with_query() or "/").partition("?")
    headers = {name: value.decode("latin-1") for name, value in request.headers().entries()}
    parts = []
    with request.consume() as body, body.stream() as stream:
        try:
            while True:
                parts.append(stream.blocking_read(65536))
        except Err as error:
            if not isinstance(error.value, StreamError_Closed):
                raise
    return Request(name, path, parse_qs(query), headers, b"".join(parts))
