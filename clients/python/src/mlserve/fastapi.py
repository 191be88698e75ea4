"""Limits and permits in FastAPI and Starlette.

```python
mlserve.fastapi.install(app)

@app.get("/", dependencies=[Depends(mlserve.fastapi.admitted(client, by_user))])

app.add_middleware(mlserve.fastapi.AdmissionMiddleware, client=client, asking=by_user)
```

`by_user(request)` returns what `mlserve.limit` or `mlserve.permit` made, or several, or
None for what is let in unasked. A denial is answered 429, or 503 where permits are in use
or the server is away, with Retry-After and, as draft-ietf-httpapi-ratelimit-headers-11 has
them, RateLimit-Policy and RateLimit. Denials raised elsewhere are answered so by the
middleware, or after `install(app)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlserve import aio
from mlserve.admission import Admitted, Asked, Denied, Limited, admit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mlserve._steps import AnyClient
    from mlserve.results import Admission

__all__ = ["AdmissionMiddleware", "admitted", "install"]

Found: TypeAlias = "Asked | Sequence[Asked] | None"
Asking: TypeAlias = Callable[..., "Found | Awaitable[Found]"]

LARGEST = 10**15 - 1
"""The largest Integer of RFC 9651; limits may be larger."""


def window_name(window: object) -> str:
    """A window as a part of a policy's name."""
    if isinstance(window, (int, float)):
        return f"in-{window}s"
    return f"a-{window.lower()}" if isinstance(window, str) else "until"


def headers(asked: Sequence[Asked], decision: Admission | None) -> dict[str, str]:
    """RateLimit-Policy, and RateLimit of what is left.

    Of limits only: how many run at once is for nobody to know (section 8.2 of the draft).
    A denial tells of the limits that deny, so that Retry-After is none too early (section 6).
    """
    policies: dict[str, str] = {}
    left = []
    for one in asked:
        row = decision.rows.get(one.key) if decision is not None else None
        for quota, window in one.policies:
            name = f"{quota}-{window_name(window)}"
            while name in policies:
                # The same policy at another key.
                name += "-too"
            policies[name] = f'"{name}";q={min(quota, LARGEST)}'
            # Of whole seconds, and optional in the draft.
            if isinstance(window, int):
                policies[name] += f";w={window}"
            # Of several windows the row is that of the one that binds.
            if row is None or (row.limit != quota and len(one.policies) > 1):
                continue
            wait = row.reset_after if decision else row.retry_after
            if decision or wait:
                more = f";t={math.ceil(wait)}" if math.isfinite(wait) else ""
                left.append(f'"{name}";r={min(max(row.remaining, 0), LARGEST)}{more}')
    found = {"RateLimit-Policy": ", ".join(policies.values()), "RateLimit": ", ".join(left)}
    return {name: value for name, value in found.items() if value}


def answer(denied: Denied) -> Response:
    """The response to a call that was not let in."""
    more = headers(denied.asked, denied.admission)
    if denied.retry_after is not None and math.isfinite(denied.retry_after):
        more["Retry-After"] = str(max(math.ceil(denied.retry_after), 1))
    limited = isinstance(denied, Limited)
    detail = "Too Many Requests" if limited else "Service Unavailable"
    return JSONResponse({"detail": detail}, 429 if limited else 503, more)


def install(app: Any) -> None:
    """Have denials raised anywhere in an application answered by 429 or 503."""

    async def handle(request: Request, error: Exception) -> Response:  # noqa: ARG001
        assert isinstance(error, Denied)  # noqa: S101
        return answer(error)

    app.add_exception_handler(Denied, handle)


def listed(found: Any) -> list[Asked]:
    """What is asked for, as a list."""
    if found is None:
        return []
    return [found] if isinstance(found, Asked) else list(found)


async def asked_of(asking: Asking, request: Request) -> list[Asked]:
    """What a request is to ask for."""
    found = asking(request)
    return listed(await found if inspect.isawaitable(found) else found)


def dependency_of(asking: Asking, *, in_loop: bool) -> Callable[..., Any]:
    """What asks, as a dependency: one that takes the request alone need not say so.

    `in_loop`: such a one is called in the event loop, without a thread.
    """
    parameters = list(inspect.signature(asking).parameters.values())
    by_request = (inspect.Parameter.empty, Request, "Request")
    if len(parameters) != 1 or parameters[0].annotation not in by_request:
        return asking

    async def awaited(request: Request) -> list[Asked]:
        return await asked_of(asking, request)

    def plainly(request: Request) -> Any:
        return asking(request)

    found = awaited if in_loop or inspect.iscoroutinefunction(asking) else plainly
    # FastAPI looks the annotations up by name.
    found.__annotations__.update(request=Request)
    return found


def admitted(client: AnyClient, asking: Asking, **options: Any) -> Callable[..., Any]:
    """A dependency of FastAPI: the request is let in by what `asking` asks for.

    `asking` takes the request, or is a dependency itself: plain or `async`, of what an
    endpoint may take, such as the parsed body under the endpoint's own name for it.
    `options` are those of `mlserve.admit`. It needs `install(app)`. The value is what the
    block of `mlserve.admit` gets; the hold is settled when the request is over. With a
    Client FastAPI runs it, and a plain `asking`, in its threads.
    """
    from fastapi import Depends  # What Starlette alone does without.

    admit(client, **options)
    asynchronous = isinstance(client, aio.Client)
    by = Depends(dependency_of(asking, in_loop=asynchronous))

    async def awaited(response: Response, found: Any = by) -> AsyncIterator[Admitted]:
        asked = listed(found)
        if not asked:
            yield Admitted(None, None, [])
            return
        async with admit(client, *asked, **options) as admission:
            response.headers.update(headers(asked, admission.decision))
            yield admission

    def plainly(response: Response, found: Any = by) -> Iterator[Admitted]:
        asked = listed(found)
        if not asked:
            yield Admitted(None, None, [])
            return
        with admit(client, *asked, **options) as admission:
            response.headers.update(headers(asked, admission.decision))
            yield admission

    dependency = awaited if asynchronous else plainly
    dependency.__annotations__.update(response=Response, found=Any)
    return dependency


class AdmissionMiddleware:
    """A middleware of ASGI: each HTTP request is let in by what `asking(request)` asks for.

    `options` are those of `mlserve.admit`. The hold is settled when the response is over,
    also one that streams. Websockets and lifespan pass. `asking` may be `async`; what it is
    given has no body.
    """

    def __init__(self, app: ASGIApp, client: aio.Client, asking: Asking, **options: Any) -> None:
        """Around an application, by an aio.Client."""
        if not isinstance(client, aio.Client):
            raise TypeError(
                f"client must be an mlserve.aio.Client: {client!r} would hold up the event loop"
            )
        admit(client, **options)
        self.app = app
        self.client = client
        self.asking = asking
        self.options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, and answer denials that come before the response does."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        more: dict[str, str] = {}
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(more)
            await send(message)

        asked = await asked_of(self.asking, Request(scope))
        try:
            if not asked:
                await self.app(scope, receive, sending)
                return
            async with admit(self.client, *asked, **self.options) as admission:
                more = headers(asked, admission.decision)
                await self.app(scope, receive, sending)
        except Denied as denied:
            if begun:
                raise
            await answer(denied)(scope, receive, send)
