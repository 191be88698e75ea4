"""Limits and permits in FastAPI and Starlette.

```python
@app.get("/", dependencies=[Depends(mlserve.fastapi.admitted(client, by_user))])
```

`by_user(request)` returns what `mlserve.limit` or `mlserve.permit` made, or several. A
denial is answered 429, or 503 where permits are in use or the server is away, with
Retry-After and, as draft-ietf-httpapi-ratelimit-headers-10 has them, RateLimit-Policy and
RateLimit. Denials raised elsewhere are answered so after `install(app)`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlserve.admission import Admitted, Asked, Denied, Limited, admit

if TYPE_CHECKING:
    from mlserve.aio import Client
    from mlserve.results import Admission

__all__ = ["admitted", "install"]

Asking = Callable[[Request], "Asked | list[Asked]"]


def headers(asked: list[Asked], decision: Admission | None) -> dict[str, str]:
    """RateLimit-Policy, and RateLimit of what is left; of limits only."""
    policies, left = [], []
    for one in asked:
        if one.item.is_permit:
            continue
        for quota, window in one.policies:
            name = f'"{quota}-in-{window}s"'
            policies.append(f"{name};q={quota};w={window}")
            row = decision.rows.get(one.key) if decision is not None else None
            # Of several windows the row is that of the one that binds.
            if row is not None and (row.limit == quota or len(one.policies) == 1):
                reset = math.ceil(min(row.reset_after, 1e9))
                left.append(f"{name};r={max(row.remaining, 0)};t={reset}")
    found = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}
    return {name: value for name, value in found.items() if value}


def answer(denied: Denied) -> Response:
    """The response to a call that was not let in."""
    more = dict(getattr(denied, "headers", {}))
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


def admitted(client: Client, asking: Asking, **options: Any) -> Callable[..., Any]:
    """A dependency: the request is let in by what `asking(request)` asks for.

    `options` are those of `mlserve.admit`. It needs `install(app)`. The value is what the
    block of `mlserve.admit` gets; the hold is settled when the request is over.
    """

    async def dependency(request: Request, response: Response) -> AsyncIterator[Admitted]:
        found = asking(request)
        asked = found if isinstance(found, list) else [found]
        try:
            block = admit(client, *asked, **options)
            admission = await block.__aenter__()
        except Denied as denied:
            denied.headers = headers(asked, denied.admission)  # type: ignore[attr-defined]
            raise
        response.headers.update(headers(asked, admission.decision))
        try:
            yield admission
        except BaseException as error:
            await block.__aexit__(type(error), error, error.__traceback__)
            raise
        await block.__aexit__(None, None, None)

    # FastAPI looks the annotations up by name.
    dependency.__annotations__.update(request=Request, response=Response)
    return dependency
