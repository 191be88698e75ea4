"""Stands for what mlserve.litellm uses of LiteLLM 1.110, which is too large for scripts/test.

Importing it puts it in the place of the package. Its limiter asks and corrects in the order
in which LiteLLM's does, one call after the other; its descriptors, estimates and usage are
given by the test. scripts/litellm-suite runs the adapter in the real one.
"""

import asyncio
import contextvars
import dataclasses
import datetime
import sys
import types
import uuid


@dataclasses.dataclass(frozen=True)
class RateLimitScope:
    descriptor_key: str
    descriptor_value: str

    def counter(self, kind):
        return RateLimitCounter(self, kind)


@dataclasses.dataclass(frozen=True)
class RateLimitCounter:
    scope: RateLimitScope
    kind: str


@dataclasses.dataclass(frozen=True)
class Increment:
    counter: RateLimitCounter
    amount: float


@dataclasses.dataclass(frozen=True)
class Guarded:
    increment: Increment
    window: str


class RateLimitStore:
    """What counts without a server: a dict."""

    def __init__(self, handle):
        self.counts = handle

    async def increment_many(self, increments):
        for one in increments:
            self.counts[one.counter] = self.counts.get(one.counter, 0) + one.amount


class Stores:
    def rate_limits(self, ttl):
        return {}


class ProxyRateLimitError(Exception):
    def __init__(
        self, detail, headers=None, category="litellm", rate_limit_type=None, model=None,
        llm_provider=None, *, descriptor_key=None,
    ):  # fmt: skip
        super().__init__(detail)
        self.detail, self.headers, self.category = detail, headers, category
        self.rate_limit_type, self.model = rate_limit_type, model
        self.llm_provider, self.descriptor_key = llm_provider, descriptor_key


class Unverifiable(Exception):
    """A 503."""


@dataclasses.dataclass(slots=True)
class Stash:
    owner: str | None = None
    rate_limit_response: dict | None = None
    parallel_slot: dict | None = None
    parallel_slot_release_lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    reserved_tokens: int = 0
    reserved_scopes: frozenset = frozenset()
    ptu_reserved_tokens: int = 0
    itpm_reserved_tokens: int = 0
    otpm_reserved_tokens: int = 0
    refunds: tuple = ()


_stash = contextvars.ContextVar("stash", default=None)


def get_request_stash():
    return _stash.get()


def get_or_create_request_stash():
    if _stash.get() is None:
        _stash.set(Stash())
    return _stash.get()


def get_request_stash_for_call(call_id):
    stash = _stash.get()
    return stash if stash is None or stash.owner in (None, call_id) or call_id is None else None


TOKENS = ("tokens_per_unit", "window_size")


class Limiter:
    """`_PROXY_MaxParallelRequestsHandler_v3`."""

    window_size = 60

    def __init__(self, internal_usage_cache, rate_limit_store=None, fail_closed=False):
        self.rate_limits = rate_limit_store
        self.fail_closed = fail_closed

    def get_rate_limiter_for_call_type(self, call_type):
        return object() if call_type == "acreate_batch" else None

    def _reject_if_rate_limit_unverifiable(self, what, error):
        if self.fail_closed:
            raise Unverifiable(what) from error

    async def should_rate_limit(
        self, descriptors, parent_otel_span=None, read_only=False, skip_tpm_check=False,
        parallel_slot_id=None, skip_parallel_check=False,
    ):  # fmt: skip
        response = {"overall_code": "OK", "statuses": []}
        for one in descriptors:
            limit = one["rate_limit"].get("requests_per_unit")
            counter = RateLimitScope(one["key"], one["value"]).counter("requests")
            if limit is not None:
                count = self.rate_limits.counts.get(counter, 0) + 1
                self.rate_limits.counts[counter] = count
                if count > limit:
                    response["overall_code"] = "OVER_LIMIT"
                response["statuses"].append({
                    "code": "OVER_LIMIT" if count > limit else "OK",
                    "rate_limit_type": "requests", "current_limit": limit,
                    "limit_remaining": limit - count, "descriptor_key": one["key"],
                    "descriptor_value": one["value"],
                })  # fmt: skip
        return response

    async def atomic_check_and_increment_by_n(self, descriptors, increments, parent_otel_span=None):
        await self.rate_limits.increment_many(
            Increment(RateLimitScope(one["key"], one["value"]).counter("tokens"), costs["tokens"])
            for one, costs in zip(descriptors, increments, strict=True)
        )
        return {"overall_code": "OK", "statuses": []}

    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        stash = get_or_create_request_stash()
        stash.owner = data.get("litellm_call_id")
        descriptors, estimate = data["descriptors"], data.get("estimate", 1)
        if call_type == "acreate_batch":
            response = await self.atomic_check_and_increment_by_n(
                descriptors, [{"tokens": estimate} for _ in descriptors]
            )
            stash.refunds = tuple(
                Guarded(Increment(counter, -estimate), window)
                for counter, window, _ in response["reservation_windows"]
            )
            return
        gauges = [
            RateLimitScope(one["key"], one["value"])
            for one in descriptors
            if one["rate_limit"].get("max_parallel_requests") is not None
        ]
        slot_id = uuid.uuid4().hex if gauges else None
        response = await self.should_rate_limit(
            descriptors, skip_tpm_check=True, parallel_slot_id=slot_id
        )
        if response["overall_code"] == "OVER_LIMIT":
            self._handle_rate_limit_error(response, descriptors, data.get("model"))
        stash.rate_limit_response = response
        if slot_id is not None:
            stash.parallel_slot = {"slot_id": slot_id, "gauges": tuple(gauges)}
        counted = [
            {**one, "rate_limit": {name: one["rate_limit"][name] for name in TOKENS}}
            for one in descriptors
            if one["rate_limit"].get("tokens_per_unit") is not None
        ]
        if data.get("breaks"):
            await self._release_stashed_parallel_slot(stash)
            raise RuntimeError("the estimate cannot be made")
        if counted:
            response = await self.atomic_check_and_increment_by_n(
                counted, [{"tokens": estimate} for _ in counted]
            )
            if response["overall_code"] == "OVER_LIMIT":
                await self._release_stashed_parallel_slot(stash)
                self._handle_rate_limit_error(response, descriptors, data.get("model"))
            stash.reserved_tokens = estimate
            stash.reserved_scopes = frozenset((one["key"], one["value"]) for one in counted)
            stash.rate_limit_response["statuses"].extend(response["statuses"])

    def _handle_rate_limit_error(self, response, descriptors, requested_model=None):
        for status in response["statuses"]:
            if status["code"] == "OVER_LIMIT":
                at = datetime.datetime.now(tz=datetime.timezone.utc)
                at = f"{at + datetime.timedelta(seconds=self.window_size):%Y-%m-%d %H:%M:%S} UTC"
                kind = status["rate_limit_type"]
                raise ProxyRateLimitError(
                    f"{status['descriptor_key']}: {kind}. Limit resets at: {at}",
                    {"retry-after": "60", "rate_limit_type": kind, "reset_at": at},
                    rate_limit_type=kind,
                    model=requested_model,
                    llm_provider="openai",
                    descriptor_key=status["descriptor_key"],
                )

    async def _release_stashed_parallel_slot(self, stash):
        if stash is not None and stash.parallel_slot is not None:
            await self._release_parallel_request_slots(stash.parallel_slot)
            stash.parallel_slot = None

    async def _release_parallel_request_slots(self, acquisition, parent_otel_span=None):
        """Nothing is counted of slots here."""

    async def _used(self, kwargs, scopes):
        stash = get_request_stash_for_call(kwargs.get("litellm_call_id"))
        reserved = stash.reserved_tokens if stash else 0
        increments = []
        for scope in scopes:
            held = reserved if stash and scope in stash.reserved_scopes else 0
            if kwargs.get("used", 0) != held:
                counter = RateLimitScope(*scope).counter("tokens")
                increments.append(Increment(counter, kwargs.get("used", 0) - held))
        if stash:
            stash.reserved_tokens = 0
        if increments:
            await self.rate_limits.increment_many(increments)

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        stash = get_request_stash_for_call(kwargs.get("litellm_call_id"))
        await self._release_stashed_parallel_slot(stash)
        await self._used(kwargs, kwargs["scopes"])

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        stash = get_request_stash_for_call(kwargs.get("litellm_call_id"))
        await self._release_stashed_parallel_slot(stash)
        if stash is not None and stash.reserved_tokens:
            await self._used(kwargs, stash.reserved_scopes)

    async def async_post_call_failure_hook(
        self, request_data, original_exception, user_api_key_dict, traceback_str=None
    ):
        stash = get_request_stash()
        await self._release_stashed_parallel_slot(stash)
        await self._apply_redis_window_guarded_token_increments(stash.refunds)
        if stash.reserved_tokens:
            await self._used({}, stash.reserved_scopes)

    async def async_post_call_success_hook(self, data, user_api_key_dict, response):
        await self._release_stashed_parallel_slot(get_request_stash())

    async def async_release_max_parallel_requests_on_disconnect(self, user_api_key_dict):
        await self._release_stashed_parallel_slot(get_request_stash())


class BaseCache:
    def __init__(self, default_ttl=60):
        self.default_ttl = default_ttl


class Cache:
    def __init__(self, type=None, _backend=None, **more):
        self.type, self.cache, self.more = type, _backend, more


class CustomLogger:
    pass


HOOKS = {"parallel_request_limiter": Limiter}

MODULES = {
    "": {"callback_settings": {}, "cache": None, "Cache": Cache},
    "caching.base_cache": {"BaseCache": BaseCache},
    "integrations.custom_logger": {"CustomLogger": CustomLogger},
    "proxy.common_utils.proxy_rate_limit_error": {"ProxyRateLimitError": ProxyRateLimitError},
    "proxy.hooks": {"PROXY_HOOKS": HOOKS},
    "proxy.hooks.parallel_request_limiter_v3": {
        "PARALLEL_REQUEST_SLOT_TTL_SECONDS": 3600,
        "PROXY_MaxParallelRequestsHandler_v3": Limiter,
        "get_or_create_request_stash": get_or_create_request_stash,
        "get_request_stash": get_request_stash,
        "get_request_stash_for_call": get_request_stash_for_call,
    },
    "redis.stores.connection": {"connect": lambda cache: Stores()},
    "redis.stores.rate_limits": {
        "RateLimitCounter": RateLimitCounter,
        "RateLimitScope": RateLimitScope,
        "RateLimitStore": RateLimitStore,
    },
}

for path, names in MODULES.items():
    parts = ["litellm", *path.split(".")] if path else ["litellm"]
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        sys.modules.setdefault(name, types.ModuleType(name))
    vars(sys.modules[name]).update(names)
