"""The limiter of LiteLLM's proxy: all limits of a request in one ML.ADMIT.

LiteLLM's class finds out which limits a request is under, what it will cost and what it did
cost, and words the denials. It counts by four methods, and a store for what comes after the
call; those are what this module replaces:

- before the call LiteLLM asks for requests, slots and tokens one after the other. Here
  they are collected and told that they fit, until it has asked for all; then one
  ML.ADMIT decides, with a hold on all keys. What does not fit takes nothing;
- after the call what LiteLLM corrects is collected likewise, and one ML.SETTLE ends the hold;
- in between holds are renewed, for as long as the request lives.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import math
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from litellm.proxy.common_utils.proxy_rate_limit_error import ProxyRateLimitError
from litellm.proxy.hooks import PROXY_HOOKS
from litellm.proxy.hooks.parallel_request_limiter_v3 import (
    PARALLEL_REQUEST_SLOT_TTL_SECONDS,
    PROXY_MaxParallelRequestsHandler_v3,
    get_or_create_request_stash,
    get_request_stash,
    get_request_stash_for_call,
)
from litellm.redis.stores.connection import connect
from litellm.redis.stores.rate_limits import RateLimitCounter, RateLimitScope, RateLimitStore

from mlserve import calls
from mlserve._methods import checked
from mlserve._steps import logger
from mlserve.calls import Limit, Permit
from mlserve.errors import Error
from mlserve.litellm._apart import Apart
from mlserve.litellm._settings import Settings, configured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

__all__ = ["MlserveLimiter", "put_in_force"]

FIELDS = {
    "requests": "requests_per_unit",
    "tokens": "tokens_per_unit",
    "max_parallel_requests": "max_parallel_requests",
}
"""What a limit is called in a descriptor, by what is limited."""

RESERVED = (
    "parallel_slot",
    "rate_limit_response",
    "reserved_tokens",
    "ptu_reserved_tokens",
    "itpm_reserved_tokens",
    "otpm_reserved_tokens",
)
"""Where LiteLLM notes for a request what was taken for it."""

MOST = 2**53
"""The largest limit and cost that the server takes."""

WINDOWS_KNOWN = 65_536
"""Of how many keys a limiter remembers the window."""


class Entry(NamedTuple):
    """What is asked of a key, and the status that tells LiteLLM the answer."""

    key: bytes
    item: Limit | Permit
    cost: int | None
    """None: a slot."""
    status: dict[str, Any]

    @property
    def counter(self) -> RateLimitCounter:
        """What LiteLLM calls it."""
        scope = RateLimitScope(self.status["descriptor_key"], self.status["descriptor_value"])
        return RateLimitCounter(scope, self.status["rate_limit_type"])


class Asking:
    """What a request asks for before its call, as it is collected."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.descriptors: list[Any] = []
        self.slot_id: str | None = None


class Settling:
    """What is to be corrected after a call, as it is collected."""

    def __init__(self) -> None:
        self.operations: list[Any] = []


IN_MEMORY = "in memory"
"""The mode while the server is away: LiteLLM counts in this process."""

_mode: ContextVar[Asking | Settling | str | None] = ContextVar("mlserve_litellm", default=None)


class Hold:
    """What an admission holds: the keys that are not settled, with their estimates."""

    __slots__ = ("id", "open", "since")

    def __init__(self, id: str | None, entries: Iterable[Entry]) -> None:  # noqa: A002
        """The id is None where it is in this process's memory."""
        self.id = id
        self.open = {entry.key: entry.cost for entry in entries}
        self.since = time.monotonic()


class Store(RateLimitStore):
    """What LiteLLM corrects counters by after a call; the rest of it is in memory."""

    def __init__(self, handle: Any, corrected: Callable[[Sequence[Any]], Awaitable[None]]) -> None:
        super().__init__(handle)
        self._corrected = corrected

    async def increment(self, increment: Any) -> Any:
        """Correct one counter."""
        await self._corrected([increment])
        return increment.amount

    async def increment_many(self, increments: Sequence[Any]) -> None:
        """Correct several."""
        await self._corrected(increments)

    async def increment_many_post_call(self, increments: Sequence[Any]) -> None:
        """Correct several once the answer is sent."""
        await self._corrected(increments)

    async def in_memory(self, increments: Sequence[Any]) -> None:
        """Correct them in this process's memory."""
        await super().increment_many(increments)


class MlserveLimiter(PROXY_MaxParallelRequestsHandler_v3):
    """In place of LiteLLM's `parallel_request_limiter`.

    While the server is away it does as LiteLLM's does without Redis: it counts in this
    process's memory, or, with `fail_closed_rate_limit_enforcement` in `general_settings`,
    answers 503.
    """

    def __init__(
        self, internal_usage_cache: Any, settings: Settings | None = None, **options: Any
    ) -> None:
        """Limit by these settings, else by those of the proxy's configuration.

        The options are those of LiteLLM's own limiter.
        """
        memory = connect(None).rate_limits(internal_usage_cache.dual_cache.default_in_memory_ttl)
        super().__init__(
            internal_usage_cache, rate_limit_store=Store(memory, self._correct), **options
        )
        self._settings = settings or configured()
        self.server = Apart(self._settings)
        # A request's notes cannot be referred to weakly. Their lock can, and lives as long.
        self._holds: weakref.WeakKeyDictionary[asyncio.Lock, list[Hold]] = (
            weakref.WeakKeyDictionary()
        )
        self._windows: dict[bytes, tuple[int, int]] = {}
        self._renewing: asyncio.Task[None] | None = None

    # --- what is asked --------------------------------------------------------

    def _key(self, name: str, value: str, kind: str) -> bytes:
        """The key of a limit; those of one descriptor share a slot of a cluster."""
        text = f"{self._settings.namespace}:{{{name}:{value}}}:{kind}"
        return text.encode(errors="surrogatepass")

    def _entry(self, descriptor: Any, kind: str, cost: int) -> Entry | None:
        """What a descriptor asks for of one kind, or None."""
        limits = descriptor.get("rate_limit") or {}
        found = limits.get(FIELDS[kind])
        if found is None:
            return None
        limit = min(max(int(found), 0), MOST)
        key = self._key(descriptor["key"], descriptor["value"], kind)
        status = {
            "code": "OK",
            "current_limit": int(found),
            "limit_remaining": limit,
            "rate_limit_type": kind,
            "descriptor_key": descriptor["key"],
            "descriptor_value": descriptor["value"],
        }
        if kind == "max_parallel_requests":
            return Entry(key, Permit(limit), None, status)
        window = int(limits.get("window_size") or self.window_size)
        if key not in self._windows and len(self._windows) >= WINDOWS_KNOWN:
            self._windows.clear()
        self._windows[key] = (limit, window)
        return Entry(key, self._limit(key, min(cost, MOST)), min(cost, MOST), status)

    def _limit(self, key: bytes, cost: int) -> Limit:
        limit, window = self._windows[key]
        return Limit(limit, window, algorithm=self._settings.algorithm, cost=cost)

    async def should_rate_limit(
        self,
        descriptors: Sequence[Any],
        parent_otel_span: Any = None,
        read_only: bool = False,
        skip_tpm_check: bool = False,
        parallel_slot_id: str | None = None,
        skip_parallel_check: bool = False,
    ) -> Any:
        """Take a request, and a slot where there is a limit of slots; `read_only` takes nothing."""

        async def in_memory() -> Any:
            return await super(MlserveLimiter, self).should_rate_limit(
                descriptors,
                parent_otel_span,
                read_only,
                skip_tpm_check,
                parallel_slot_id,
                skip_parallel_check,
            )

        windows = ("requests",) if skip_tpm_check else ("requests", "tokens")
        entries = [self._entry(one, kind, 1) for one in descriptors for kind in windows]
        if not skip_parallel_check:
            entries += [self._entry(one, "max_parallel_requests", 1) for one in descriptors]
        return await self._ask(
            [entry for entry in entries if entry],
            descriptors,
            in_memory,
            read_only,
            parallel_slot_id,
        )

    async def atomic_check_and_increment_by_n(
        self,
        descriptors: Sequence[Any],
        increments: Sequence[Any],
        parent_otel_span: Any = None,
    ) -> Any:
        """Take so many requests and tokens of each descriptor, all or none."""

        async def in_memory() -> Any:
            return await super(MlserveLimiter, self).atomic_check_and_increment_by_n(
                descriptors, increments, parent_otel_span
            )

        if len(descriptors) != len(increments):
            raise ValueError("increments must be given for each of the descriptors")
        entries = [
            self._entry(one, kind, int(costs.get(kind) or 0))
            for one, costs in zip(descriptors, increments, strict=True)
            for kind in ("requests", "tokens")
            if int(costs.get(kind) or 0) >= 0
        ]
        return await self._ask([entry for entry in entries if entry], descriptors, in_memory)

    async def _ask(
        self,
        entries: list[Entry],
        descriptors: Sequence[Any],
        in_memory: Callable[[], Awaitable[Any]],
        peek: bool = False,
        slot_id: str | None = None,
    ) -> Any:
        """Collect what is asked before a call; decide at once what is asked otherwise."""
        mode = _mode.get()
        if mode is IN_MEMORY:
            return await in_memory()
        if isinstance(mode, Asking) and not peek:
            mode.entries += entries
            mode.descriptors += descriptors
            mode.slot_id = mode.slot_id or slot_id
            return {"overall_code": "OK", "statuses": [entry.status for entry in entries]}
        response = await self._admit(entries, slot_id, peek)
        return await in_memory() if response is None else response

    async def _admit(self, entries: list[Entry], slot_id: str | None, peek: bool = False) -> Any:
        """Decide; the answer as LiteLLM has it, or None where the server is away."""
        statuses = [entry.status for entry in entries]
        if not entries:
            return {"overall_code": "OK", "statuses": statuses}
        stash = get_request_stash()
        hold: float | None = self._settings.hold
        if peek:
            hold = None
        elif stash is None:
            # Nobody would renew it: slots are held as long as LiteLLM holds them, the rest is
            # charged and done.
            slots = any(entry.cost is None for entry in entries)
            hold = PARALLEL_REQUEST_SLOT_TTL_SECONDS if slots else None
        id = None if hold is None else slot_id or calls.new_id()  # noqa: A001
        # Of two that ask for one key, the last counts: the smallest limit, the largest cost.
        entries = sorted(
            entries, key=lambda entry: (-int(entry.status["current_limit"]), entry.cost or 0)
        )
        items: dict[str | bytes, Limit | Permit] = {entry.key: entry.item for entry in entries}
        try:
            decision = await self.server.ask(calls.admit(items, hold=hold, id=id, peek=peek))
        except Error as error:
            self._reject_if_rate_limit_unverifiable("ML.ADMIT", error)
            logger.warning("mlserve: limits are counted in this process: %s", error)
            return None
        except BaseException:
            # Cancelled: it may have been let in all the same.
            if id is not None:
                await self._settle(id, {entry.key: _nothing(entry.cost) for entry in entries})
            raise
        for entry in entries:
            row = decision.rows[entry.key]
            entry.status["limit_remaining"] = row.remaining
            if not decision and row.retry_after > 0:
                entry.status["code"] = "OVER_LIMIT"
        if not decision:
            return {
                "overall_code": "OVER_LIMIT",
                "statuses": statuses,
                "retry_after": decision.retry_after,
            }
        if id is not None and stash is not None:
            self._holds.setdefault(stash.parallel_slot_release_lock, []).append(Hold(id, entries))
            self._renew()
        response: dict[str, Any] = {"overall_code": "OK", "statuses": statuses}
        if id is not None:
            # What LiteLLM keeps to give back by what a batch has taken.
            response["reservation_windows"] = frozenset(
                (entry.counter, id, "redis") for entry in entries if entry.cost is not None
            )
        return response

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: Any, call_type: str, **more: Any
    ) -> Any:
        """Let a call in by all its limits in one ML.ADMIT, or raise a 429."""

        async def asked(mode: Asking | str | None) -> Any:
            before = _mode.set(mode)
            try:
                return await super(MlserveLimiter, self).async_pre_call_hook(
                    user_api_key_dict, cache, data, call_type, **more
                )
            finally:
                _mode.reset(before)

        if self.get_rate_limiter_for_call_type(call_type) is not None:
            return await asked(None)
        stash = get_or_create_request_stash()
        noted = {name: getattr(stash, name) for name in RESERVED}
        asking = Asking()
        try:
            result = await asked(asking)
            response = await self._admit(asking.entries, asking.slot_id)
        except BaseException:
            note(stash, noted)
            raise
        if response is None:
            note(stash, noted)
            self._holds.setdefault(stash.parallel_slot_release_lock, []).append(Hold(None, []))
            return await asked(IN_MEMORY)
        if response["overall_code"] == "OVER_LIMIT":
            note(stash, noted)
            model = data.get("model")
            self._handle_rate_limit_error(
                response, asking.descriptors, model if isinstance(model, str) else None
            )
        return result

    def _handle_rate_limit_error(
        self, response: Any, descriptors: Sequence[Any], requested_model: str | None = None
    ) -> None:
        """Raise LiteLLM's 429, with the wait that the server told in place of a whole window."""
        try:
            super()._handle_rate_limit_error(response, descriptors, requested_model)
        except ProxyRateLimitError as error:
            wait = response.get("retry_after", math.inf)
            if not math.isfinite(wait):
                raise
            at = datetime.datetime.fromtimestamp(time.time() + wait, tz=datetime.timezone.utc)
            reset_at = f"{at:%Y-%m-%d %H:%M:%S} UTC"
            headers = dict(error.headers or {})
            raise ProxyRateLimitError(
                detail=str(error.detail).replace(headers.get("reset_at", reset_at), reset_at),
                headers={**headers, "retry-after": str(math.ceil(wait)), "reset_at": reset_at},
                category=error.category,
                rate_limit_type=error.rate_limit_type,
                model=error.model,
                llm_provider=error.llm_provider,
                descriptor_key=error.descriptor_key,
            ) from None

    # --- what is given back ---------------------------------------------------

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Settle what the call has really used."""
        await self._settled(
            get_request_stash_for_call(call_id(kwargs)),
            super().async_log_success_event(kwargs, response_obj, start_time, end_time),
        )

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Give the tokens and slots back; of a stream that broke off, but what it used."""
        await self._settled(
            get_request_stash_for_call(call_id(kwargs)),
            super().async_log_failure_event(kwargs, response_obj, start_time, end_time),
        )

    async def async_post_call_failure_hook(
        self,
        request_data: Any,
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """The same, of a request that was rejected after it was let in."""
        await self._settled(
            get_request_stash(),
            super().async_post_call_failure_hook(
                request_data, original_exception, user_api_key_dict, traceback_str
            ),
        )

    async def _settled(self, stash: Any, event: Awaitable[None]) -> None:
        """Run an event of LiteLLM's, and settle all of the hold by what it corrects."""
        settling = Settling()
        before = _mode.set(settling)
        try:
            await event
        finally:
            _mode.reset(before)
            hold = self._newest(stash)
            await self._apply(hold, settling.operations, list(hold.open) if hold else [])

    async def _correct(self, operations: Sequence[Any]) -> None:
        """What the store is told: collected during an event, else applied at once."""
        mode = _mode.get()
        if isinstance(mode, Settling):
            mode.operations += operations
        else:
            await self._apply(self._newest(get_request_stash()), operations, [])

    async def _apply_redis_window_guarded_token_increments(self, operations: Sequence[Any]) -> None:
        # The server knows by itself whether a charge still weighs on its window.
        await self._correct([operation.increment for operation in operations])

    async def _apply(self, hold: Hold | None, operations: Sequence[Any], over: list[bytes]) -> None:
        """Settle the keys that are corrected, and those of the hold that are `over`."""
        if hold is not None and hold.id is None:
            await self.rate_limits.in_memory(operations)
            return
        settled: dict[bytes, int | None] = dict.fromkeys(over)
        charged: dict[bytes, int] = {}
        elsewhere = []
        for operation in operations:
            scope = operation.counter.scope
            key = self._key(scope.descriptor_key, scope.descriptor_value, operation.counter.kind)
            estimate = hold.open.get(key) if hold else None
            if estimate is not None:
                base = settled.get(key)
                settled[key] = max(
                    0, (estimate if base is None else base) + round(operation.amount)
                )
            elif self._windows.get(key, (0, 0))[0] > 0 and operation.amount > 0:
                charged[key] = charged.get(key, 0) + round(operation.amount)
            else:
                elsewhere.append(operation)
        charges: dict[str | bytes, Limit | Permit] = {
            key: self._limit(key, min(cost, MOST)) for key, cost in charged.items()
        }
        if hold is not None and hold.id is not None and settled:
            for key in settled:
                del hold.open[key]
            await self._settle(hold.id, settled)
        if charges:
            await self._charge(charges)
        if elsewhere:
            await self.rate_limits.in_memory(elsewhere)

    async def _settle(self, id: str, actual: dict[bytes, int | None]) -> None:  # noqa: A002
        try:
            await self.server.ask(calls.settle(list(actual), id, list(actual.values())))
        except Error as error:
            logger.warning("mlserve: a hold was not settled, and ends by its time: %s", error)

    async def _charge(self, items: dict[str | bytes, Limit | Permit]) -> None:
        """Charge what no hold stands for: a call's second attempt, or a call within a call."""
        try:
            await self.server.ask(calls.admit(items, force=True))
        except Error as error:
            logger.warning("mlserve: tokens that were used are not charged: %s", error)

    async def _release_parallel_request_slots(
        self, acquisition: Any, parent_otel_span: Any = None
    ) -> None:
        """Free the slots of a request, the tokens of which are settled later."""
        mode = _mode.get()
        if isinstance(mode, Asking):
            # Nothing is taken yet.
            return
        newest = self._newest(get_request_stash())
        if mode is IN_MEMORY or (newest is not None and newest.id is None):
            await super()._release_parallel_request_slots(acquisition, parent_otel_span)
            return
        id = acquisition["slot_id"]  # noqa: A001
        keys = [
            self._key(scope.descriptor_key, scope.descriptor_value, "max_parallel_requests")
            for scope in acquisition["gauges"]
        ]
        if newest is not None and newest.id == id:
            if isinstance(mode, Settling):
                # With the rest of the hold.
                return
            for key in keys:
                newest.open.pop(key, None)
        if keys:
            await self._settle(id, dict.fromkeys(keys))

    # --- what is held ---------------------------------------------------------

    def _newest(self, stash: Any) -> Hold | None:
        """The hold of a request."""
        holds = stash and self._holds.get(stash.parallel_slot_release_lock)
        return holds[-1] if holds else None

    def _renew(self) -> None:
        """See to it that holds are renewed."""
        task, loop = self._renewing, asyncio.get_running_loop()
        if task is None or task.done() or task.get_loop() is not loop:
            # In an empty context: that of this request would keep its notes alive.
            self._renewing = contextvars.Context().run(loop.create_task, self._renew_all())

    async def _renew_all(self) -> None:
        """Renew all that is held, at half its time, until nothing is."""
        while True:
            await asyncio.sleep(self._settings.hold / 2)
            oldest = time.monotonic() - PARALLEL_REQUEST_SLOT_TTL_SECONDS
            held = [
                hold
                for holds in list(self._holds.values())
                for hold in holds
                if hold.id is not None and hold.open and hold.since > oldest
            ]
            if not held:
                return
            renewals = [
                calls.renew(list(hold.open), str(hold.id), self._settings.hold) for hold in held
            ]
            try:
                checked(await self.server.ask_all(renewals))
            except Error as error:
                logger.warning("mlserve: a renewal failed: %s", error)


def _nothing(cost: int | None) -> int | None:
    return None if cost is None else 0


def note(stash: Any, noted: dict[str, Any]) -> None:
    """Have LiteLLM's notes say what was taken before."""
    for name, value in noted.items():
        setattr(stash, name, value)


def call_id(kwargs: Any) -> str | None:
    """The call that an event is of."""
    found = kwargs.get("litellm_call_id") if isinstance(kwargs, dict) else None
    return found if isinstance(found, str) else None


def put_in_force() -> None:
    """Have the proxy make this limiter in place of its own."""
    configured()
    PROXY_HOOKS["parallel_request_limiter"] = MlserveLimiter
