"""The semantic cache: the answer to nearly the same question.

```python
cache = mlserve.SemanticCache(client, embed, embedder="minilm", version="v2", hit=0.95, maybe=0.8)

@mlserve.semantic_cached(cache, judge=same)
def answer(question, tenant): ...
```

What may be answered alike is compared: the question, by its embedding. What may not is the
scope: whose it is, which template, what was said before. Each scope is a key of its own.
"""

from __future__ import annotations

import functools
import inspect
import unicodedata
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

from mlserve import aio, calls, keys
from mlserve._steps import (
    AnyClient,
    Steps,
    Work,
    is_client,
    is_kind_of,
    logger,
    policy_of,
    run,
    run_async,
)
from mlserve.admission import Busy
from mlserve.caching import (
    JSON,
    Lease,
    Options,
    Serializer,
    check_flight,
    check_kept,
    computed,
    given_back,
    kept,
    refused,
    understood,
    versions,
)
from mlserve.calls.semantic import cosine, vector_of
from mlserve.errors import Error
from mlserve.results import NearFetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Self

    from mlserve.calls import Call, Seconds, Word
    from mlserve.results import NearAnswer, NearAnswers

__all__ = [
    "Answer",
    "Found",
    "Judge",
    "Question",
    "SemanticCache",
    "SemanticCached",
    "semantic_cached",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
ALIKE = 4
"""So many questions that differ and have one embedding are those of what looks at no text."""


class Question(NamedTuple):
    """A question that is embedded: the calls of a SemanticCache take it in place of its text."""

    text: str
    key: str
    """Of its scope and its embedder."""
    vector: bytes
    digest: str
    """Of the text: the very same one is a hit, whatever the threshold."""


class Answer(NamedTuple):
    """An answer to a question near the one that was asked."""

    id: str
    similarity: float
    """The cosine, within 0.001."""
    value: Any
    prompt: str
    """The question that it was the answer to."""
    age: float
    """Seconds since it was set."""


Judge: TypeAlias = "Callable[[str, Answer], Any]"
"""Of a question, and of an answer to one near it: whether that is an answer to it, too. True or
False; with an aio.Client it may be async."""


class Found(NamedTuple):
    """What was found near a question; true where it may be served."""

    status: str
    """HIT, MAYBE, MISS, or RETIRED: the version is not in force. Of a fetch, as of cachefetch,
    LEASE, BUSY and STALE in place of MISS."""
    answers: list[Answer]
    """The most similar one comes first; those that cannot be read are left out."""
    question: Question
    token: str | None = None
    """Of the lease, where this caller is to compute or to judge."""
    lasts: float = 0.0
    """Seconds: of the lease, one's own or the other caller's; of an answer what is left of it."""

    def __bool__(self) -> bool:
        """Whether there is an answer to serve."""
        return self.status in ("HIT", "STALE") and bool(self.answers)

    @property
    def value(self) -> Any:
        """The best answer, or None."""
        return self.answers[0].value if self.answers else None


class SemanticCache:
    """A semantic cache of answers, with a function that embeds their questions.

    For threads with a Client; with an aio.Client by `aget`, `aset` and so on. See
    `semantic_cached` for a decorator that does all of it.
    """

    def __init__(
        self,
        client: AnyClient,
        embed: Callable[[str], Any],
        *,
        embedder: str,
        version: str | bytes | Callable[[], str | bytes],
        name: str = "semantic",
        hit: float = 0.95,
        maybe: float | None = None,
        top: int = 1,
        ttl: Seconds | None = None,
        stale: Seconds | None = None,
        jitter: int | None = None,
        unicode: keys.Form | None = None,
        serializer: Serializer = JSON,
    ) -> None:
        """Embed by a function of a text; with an aio.Client it may be `async`.

        A plain one holds up the event loop while it computes. It returns 8 to 4096 numbers:
        a list, an array, or bytes (little-endian f4). `embedder` names the function and its
        model: vectors of two are never compared, as it is a part of the key, and told to the
        server. `version` is the model's that answers, or a function of nothing. `hit` and
        `maybe` are cosines: from `hit` on an answer is served, from `maybe` on up to `top`
        of them are to be judged. Measure them: `mlserve calibrate`. `ttl`, `stale`, `jitter`
        are those of semset. `unicode` brings texts to a normal form first.

        The keys are `name:hash` of embedder and scope, so `cacheversionset(name, ...)`
        says which versions are served.
        """
        is_client(client)
        check_kept(name, ttl, jitter, serializer)
        if not callable(embed):
            raise TypeError(f"embed must be a function of a text: {embed!r}")
        if not isinstance(embedder, str) or not embedder:
            raise TypeError(f"embedder must name what embeds: {embedder!r}")
        if not 0 <= cosine("hit", hit) <= 1:
            raise ValueError(f"hit must be a similarity, from 0 to 1: {hit!r}")
        if maybe is not None and not 0 <= cosine("maybe", maybe) <= hit:
            raise ValueError(f"maybe must be a similarity, from 0 to hit: {maybe!r}")
        if not isinstance(top, int) or not 1 <= top <= 64:
            raise ValueError(f"top must be from 1 to 64: {top!r}")
        self.client = client
        self.name = name
        self.hit = hit
        self.maybe = maybe
        self._embed = embed
        self._embedder = embedder
        self._version = versions(version)
        self._top = top
        self._unicode = unicode
        self.stale = stale
        # The embedding of the first question, all that have the same, and whether one has not.
        self._first: bytes | None = None
        self._alike: set[str] = set()
        self._differ = False
        self._times: Any = {"ttl": ttl, "stale": stale, "jitter": jitter}
        self.serializer = serializer
        awaited_where_it_can_be(client, "embed", embed)

    def key(self, scope: Any = ()) -> str:
        """The key of a scope: a tuple or a list of any values that `mlserve.cached` makes keys of.

        One value by itself is a tuple of that one: ("acme",), ["acme"] and "acme" are the same.
        """
        scope = tuple(scope) if isinstance(scope, (tuple, list)) else (scope,)
        return f"{self.name}:{keys.digest([self._embedder, scope], self._unicode)}"

    def get(self, prompt: str | Question, scope: Any = ()) -> Found:
        """The answers nearest to a question, in a scope."""
        return run(self._of(asynchronous=False), self.getting(prompt, scope))

    async def aget(self, prompt: str | Question, scope: Any = ()) -> Found:
        """`get` for asyncio."""
        return await run_async(self._of(asynchronous=True), self.getting(prompt, scope))

    def set(
        self,
        prompt: str | Question,
        value: Any,
        scope: Any = (),
        *,
        ttl: Seconds | None = None,
        token: str | None = None,
    ) -> str | None:
        """Keep the answer to a question, `ttl` seconds or as long as the cache does.

        `token` is that of the fetch that it was computed under. The result is its id, None
        where the version is not in force, or the token no longer the holder's.
        """
        return run(self._of(asynchronous=False), self.setting(prompt, value, scope, ttl, token))

    async def aset(
        self,
        prompt: str | Question,
        value: Any,
        scope: Any = (),
        *,
        ttl: Seconds | None = None,
        token: str | None = None,
    ) -> str | None:
        """`set` for asyncio."""
        steps = self.setting(prompt, value, scope, ttl, token)
        return await run_async(self._of(asynchronous=True), steps)

    def fetch(
        self,
        prompt: str | Question,
        scope: Any = (),
        *,
        lease: Seconds = 30,
        wait: Seconds | None = None,
    ) -> Found:
        """`get`; of all who miss it, for this and near questions, one is to compute it.

        That one has a token, for `set` or `accept`; `client.semrenew` and `semrelease` take
        it with the key of the question. See semfetch for `lease` and `wait`.
        """
        return run(self._of(asynchronous=False), self.fetching(prompt, scope, lease, wait))

    async def afetch(
        self,
        prompt: str | Question,
        scope: Any = (),
        *,
        lease: Seconds = 30,
        wait: Seconds | None = None,
    ) -> Found:
        """`fetch` for asyncio."""
        steps = self.fetching(prompt, scope, lease, wait)
        return await run_async(self._of(asynchronous=True), steps)

    def accept(self, found: Found, answer: Answer) -> bool:
        """Have an answer that was judged to fit be that of the question, too.

        `found` is of a fetch that has a token. False where that is no longer the holder's.
        """
        return run(self._of(asynchronous=False), self.accepting(found, answer))

    async def aaccept(self, found: Found, answer: Answer) -> bool:
        """`accept` for asyncio."""
        return await run_async(self._of(asynchronous=True), self.accepting(found, answer))

    def _of(self, *, asynchronous: bool) -> Any:
        if isinstance(self.client, aio.Client) != asynchronous:
            raise TypeError("a Client is for get, set, fetch, accept; an aio.Client for aget, ...")
        return self.client

    # --- the steps of it ------------------------------------------------------

    def text_of(self, prompt: str) -> str:
        """A prompt in the normal form that is embedded."""
        if not isinstance(prompt, str):
            raise TypeError(f"a prompt must be str: {prompt!r}")
        return unicodedata.normalize(self._unicode, prompt) if self._unicode else prompt

    def embedding(self, text: str) -> Work:
        """What embeds a text."""
        return Work(lambda: self._embed(text))

    def question(self, text: str, key: str, vector: Any) -> Question:
        """A question with its embedding."""
        data = vector_of(vector)
        self._look(text, data)
        return Question(text, key, data, keys.digest(text))

    def _look(self, text: str, vector: bytes) -> None:
        """Raise where the first questions have one embedding: all would have one answer.

        Case, blanks and punctuation some models do not look at.
        """
        if self._differ:
            return
        if self._first is None:
            self._first = vector
        if vector != self._first:
            self._differ = True
            return
        self._alike.add("".join(filter(str.isalnum, text.casefold())))
        if len(self._alike) >= ALIKE:
            raise ValueError(
                f"embed says the same of the first {ALIKE} questions, {text!r} the last"
            )

    def asking(self, prompt: str | Question, scope: Any) -> Steps[Question]:
        """Embed a question."""
        if isinstance(prompt, Question):
            return prompt
        text, key = self.text_of(prompt), self.key(scope)
        if not text.strip():
            # All that is empty has the same embedding, and many questions the same answer.
            raise ValueError(f"a prompt must not be empty: {prompt!r}")
        return self.question(text, key, (yield self.embedding(text)))

    def getting(self, prompt: str | Question, scope: Any = ()) -> Steps[Found]:
        """The steps of `get`."""
        question = yield from self.asking(prompt, scope)
        return self.found(question, (yield self.get_call(question)))

    def setting(
        self,
        prompt: str | Question,
        value: Any,
        scope: Any = (),
        ttl: Seconds | None = None,
        token: str | None = None,
    ) -> Steps[str | None]:
        """The steps of `set`."""
        data = self.serializer.dumps(value)
        question = yield from self.asking(prompt, scope)
        kept: str | None = yield self.set_call(question, data, ttl=ttl, token=token)
        return kept

    def fetching(
        self, prompt: str | Question, scope: Any, lease: Seconds, wait: Seconds | None
    ) -> Steps[Found]:
        """The steps of `fetch`."""
        question = yield from self.asking(prompt, scope)
        return self.found(question, (yield self.fetch_call(question, lease, wait, calls.new_id())))

    def accepting(self, found: Found, answer: Answer) -> Steps[bool]:
        """The steps of `accept`."""
        if found.token is None:
            raise ValueError("found must be of a fetch that has a token")
        accepted: bool = yield self.accept_call(found.question, answer, found.token)
        return accepted

    def dropping(self, prompt: str | Question, scope: Any = ()) -> Steps[int]:
        """Drop all that a question would be answered with; how many went."""
        question = yield from self.asking(prompt, scope)
        dropped = 0
        while True:
            near = yield self.get_call(question, judged=False)
            if near.status != "HIT":
                return dropped
            gone = sum((yield [calls.semdrop(question.key, id=one.id) for one in near.entries]))
            if not gone:
                # Another was faster, or what is there is no longer served.
                return dropped
            dropped += gone

    def get_call(self, question: Question, *, judged: bool = True) -> Call[NearAnswers]:
        """What looks for answers; those that are to be judged only where they are."""
        return calls.semget(
            question.key,
            self._version(),
            question.vector,
            self.hit,
            **self._asked(question, judged=judged),
        )

    def fetch_call(
        self,
        question: Question,
        lease: Seconds,
        wait: Seconds | None,
        token: str,
        *,
        judged: bool = True,
    ) -> Call[NearFetch]:
        """`get_call`, or a lease to compute an answer."""
        return calls.semfetch(
            question.key,
            self._version(),
            question.vector,
            self.hit,
            lease,
            wait=wait,
            token=token,
            **self._asked(question, judged=judged),
        )

    def _asked(self, question: Question, *, judged: bool) -> Any:
        return {
            "maybe": self.maybe if judged else None,
            "top": self._top,
            "embedder": self._embedder,
            "digest": question.digest,
        }

    def set_call(
        self,
        question: Question,
        data: Word,
        *,
        ttl: Seconds | None = None,
        token: str | None = None,
    ) -> Call[str | None]:
        """What keeps an answer."""
        times = self._times if ttl is None else {**self._times, "ttl": ttl}
        return calls.semset(
            question.key,
            self._version(),
            question.vector,
            data,
            embedder=self._embedder,
            prompt=question.text.encode("utf-8", "surrogatepass"),
            digest=question.digest,
            token=token,
            **times,
        )

    def accept_call(self, question: Question, answer: Answer, token: str) -> Call[bool]:
        """What makes an answer that of one more question."""
        return calls.semalias(question.key, self._version(), question.vector, answer.id, token)

    def found(self, question: Question, near: NearAnswers | NearFetch) -> Found:
        """What a call has found, in the values that were set."""
        answers = [answer for entry in near.entries if (answer := self._read(entry)) is not None]
        if isinstance(near, NearFetch):
            return Found(near.status, answers, question, near.token, near.lasts)
        return Found(near.status, answers, question)

    def _read(self, entry: NearAnswer) -> Answer | None:
        known, value = understood(self, entry.value)
        if not known:
            return None
        prompt = (entry.prompt or b"").decode("utf-8", "surrogatepass")
        return Answer(entry.id, entry.similarity, value, prompt, entry.age)


class SemanticCached(Protocol[P, R_co]):
    """A function whose answers are kept, as `semantic_cached` makes it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The answer, kept or computed."""

    def key(self, *args: Any, **kwargs: Any) -> str:
        """The key of the scope that these arguments are of."""

    def drop(self, *args: Any, **kwargs: Any) -> Any:
        """Drop all that these arguments would be answered with, without a judge.

        How many answers went, awaited with an aio.Client: those as similar as the cache's
        `hit`, of the version of now.
        """

    @overload
    def __get__(self, owner: None, kind: object) -> Self: ...
    @overload
    def __get__(self, owner: object, kind: object) -> Callable[..., R_co]: ...


def semantic_cached(
    cache: SemanticCache,
    *,
    judge: Judge | None = None,
    prompt: str | None = None,
    ignore: Iterable[str] = (),
    lease: Seconds = 30,
    wait: Seconds | None = None,
    backoff: Seconds | None = None,
    on_error: Literal["allow", "deny", "raise"] = "allow",
    on_busy: Literal["compute", "raise"] = "compute",
    on_failure: Literal["raise", "stale"] = "raise",
) -> Callable[[Callable[P, R_co]], SemanticCached[P, R_co]]:
    """Keep what a function answers, for nearly the same question: a decorator.

    The argument named `prompt`, by default the first, is the question. All others are its
    scope, but for those in `ignore`: nobody is answered what was asked with another tenant,
    template or history.

    An answer as similar as the cache's `hit` is served. One as similar as its `maybe` is
    served if `judge` says so: a function of the prompt and of the Answer, True or False. What
    it accepts is an answer to that question from then on, and is judged no more; where it
    raises an Exception, which is logged, the answer is computed. Without a judge there is
    no maybe.

    Of all callers in all processes with nearly the same question one computes, or judges,
    under a lease of `lease` seconds that is renewed at half of them; the others wait up to
    `wait` seconds, by default as long as the lease. An error of the function, or a
    cancellation, gives it back. `backoff`, `on_error`, `on_busy` and `on_failure` are those
    of `mlserve.cached`; `on_error` is also what follows where the embedding fails.
    """
    if not isinstance(cache, SemanticCache):
        raise TypeError(f"cache must be a SemanticCache: {cache!r}")
    check_flight(lease, ignore, on_busy, on_failure, stale=cache.stale)
    if judge is not None:
        is_judge(cache, judge)
    client = cache.client
    options = Options(
        name=cache.name,
        lease=calls.in_seconds(lease),
        wait=calls.in_seconds(lease if wait is None else wait),
        backoff=backoff,
        serializer=cache.serializer,
        on_error=policy_of(on_error),
        on_busy=on_busy,
        on_failure=on_failure,
    )

    def decorate(function: Callable[P, R_co]) -> SemanticCached[P, R_co]:
        is_kind_of(client, function, "caches")
        compute: Callable[..., Any] = function
        told = told_by(function, prompt, list(ignore))

        def place(*args: Any, **kwargs: Any) -> tuple[str, str]:
            text, scope = told(*args, **kwargs)
            try:
                return cache.text_of(text), cache.key(scope)
            except TypeError as error:
                raise TypeError(
                    f"{function.__qualname__}: {error}: prompt= names the question, ignore= what "
                    "is no part of its scope"
                ) from None

        def steps(*args: Any, **kwargs: Any) -> Steps[Any]:
            text, key = place(*args, **kwargs)
            flight = Flight(cache, options, judge, lambda: compute(*args, **kwargs))
            return flight.answer(text, key)

        @functools.wraps(function)
        def plainly(*args: Any, **kwargs: Any) -> Any:
            return run(client, steps(*args, **kwargs))  # type: ignore[arg-type]

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await run_async(client, steps(*args, **kwargs))  # type: ignore[arg-type]

        def dropping(*args: Any, **kwargs: Any) -> Steps[int]:
            text, scope = told(*args, **kwargs)
            return cache.dropping(text, scope)

        def drop(*args: Any, **kwargs: Any) -> Any:
            taken: Any = run_async if isinstance(client, aio.Client) else run
            return taken(client, dropping(*args, **kwargs))

        made: Any = awaited if isinstance(client, aio.Client) else plainly
        made.drop = drop
        made.key = lambda *args, **kwargs: place(*args, **kwargs)[1]
        return cast("SemanticCached[P, R_co]", made)

    return decorate


def is_judge(cache: SemanticCache, judge: Judge) -> None:
    """Raise unless a judge has something to judge, and is answered where it is called."""
    if not callable(judge):
        raise TypeError(f"judge must be a function of a prompt and an Answer: {judge!r}")
    if cache.maybe is None:
        raise ValueError("a judge needs a cache with maybe: from which similarity on it is asked")
    awaited_where_it_can_be(cache.client, "judge", judge)


def awaited_where_it_can_be(client: AnyClient, name: str, function: Any) -> None:
    """Raise where nobody would await what a function returns."""
    if inspect.iscoroutinefunction(function) and not isinstance(client, aio.Client):
        raise TypeError(f"{name} must be a plain function with a Client: {function!r}")


def told_by(
    function: Callable[..., Any], prompt: str | None, ignore: Sequence[str]
) -> Callable[..., tuple[Any, tuple[Any, ...]]]:
    """What a function's arguments say: the question, and all else that counts."""
    signature = inspect.signature(function)
    asked = prompt or next(iter(signature.parameters), "prompt")
    for name in [asked, *ignore]:
        if name not in signature.parameters:
            raise ValueError(f"{function.__qualname__} takes no argument {name!r}")
    if asked in ignore:
        raise ValueError(f"ignore must not name the question, {asked!r}")

    def told(*args: Any, **kwargs: Any) -> tuple[Any, tuple[Any, ...]]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        apart = [asked, *ignore]
        rest = (value for name, value in bound.arguments.items() if name not in apart)
        return bound.arguments[asked], tuple(rest)

    return told


def judged(
    judge: Judge, found: Found, renewals: Sequence[Call[Any]] = (), every: float = 0
) -> Steps[Answer | None]:
    """The first answer that a judge accepts; a judge that fails accepts none."""
    for answer in found.answers:
        asked = functools.partial(judge, found.question.text, answer)
        try:
            verdict = yield Work(asked, renewals, every)
            if verdict not in (True, False):
                # Text is true, also where it reads "no".
                raise TypeError(f"a judge must return True or False: {verdict!r}")
        except Exception as error:
            logger.warning("mlserve: a judge failed, its answer is computed", exc_info=error)
            return None
        if verdict:
            return answer
    return None


def looked_up(
    cache: SemanticCache, question: Question, judge: Judge | None
) -> Steps[tuple[Found, Answer | None]]:
    """What is found near a question, and the answer that may be served, if any.

    What a judge accepts is kept as an answer to that question, too.
    """
    found = cache.found(question, (yield cache.get_call(question, judged=judge is not None)))
    if found:
        return found, found.answers[0]
    if judge is None or found.status != "MAYBE":
        return found, None
    answer = yield from judged(judge, found)
    if answer is not None:
        data = cache.serializer.dumps(answer.value)
        yield from kept(cache, cache.set_call(question, data), [])
    return found, answer


class Flight:
    """One call of a decorated function: the answer that is there, or one computed."""

    def __init__(
        self,
        cache: SemanticCache,
        options: Options,
        judge: Judge | None,
        compute: Callable[[], Any],
    ) -> None:
        """By these options."""
        self._cache = cache
        self._options = options
        self._judge = judge
        self._compute = compute
        # What the answer is to replace, where there is one.
        self._stale: bytes | None = None

    def answer(self, text: str, key: str) -> Steps[Any]:
        """The answer to a question in the scope of a key."""
        if not text.strip():
            # All that is empty has the same embedding.
            return (yield Work(self._compute))
        try:
            vector = yield self._cache.embedding(text)
        except Exception as error:
            self._unembedded(error)
            return (yield Work(self._compute))
        question = self._cache.question(text, key, vector)
        token = calls.new_id()
        try:
            found = yield from self._found(question, token)
            accepted = yield from self._accepted(found)
        except Error:
            raise
        except BaseException:
            # Cancelled: the lease may have been granted all the same.
            yield from given_back(self._options, [calls.semrelease(key, token)])
            raise
        if found:
            return found.value
        if accepted is not None:
            return accepted.value
        if found.status in ("RETIRED", "MISS"):
            return (yield Work(self._compute))
        if found.token is None and found.status in ("BUSY", "MAYBE"):
            self._options.busy(found.lasts)
            return (yield Work(self._compute))
        # Under a lease; or what is there cannot be read, and is computed anew.
        lease = self._lease(found)
        return (yield from computed(self._options, lease, self._compute, self._stale))

    def _unembedded(self, error: Exception) -> None:
        """Return where an answer is to be computed though its question cannot be embedded."""
        if self._options.on_error == "raise":
            raise error
        logger.warning("mlserve: a question of %s is not embedded: %s", self._cache.name, error)
        if self._options.on_error == "deny":
            raise Busy("the embedding failed, and nothing is computed without it") from error

    def _found(self, question: Question, token: str) -> Steps[Found]:
        """What is there, or a lease; where the cache is to be left out it is a MISS."""
        options, cache, is_judged = self._options, self._cache, self._judge is not None
        lease, wait = options.lease, options.wait or None
        try:
            call = cache.fetch_call(question, lease, wait, token, judged=is_judged)
            near: NearFetch = yield call
        except Error as error:
            if not refused(error):
                options.away(error)
                return Found("MISS", [], question)
        else:
            if near.status == "LEASE" and near.entries:
                self._stale = near.entries[0].value
            return cache.found(question, near)
        # Leases are writes, and the server takes none for now: it is read alone.
        try:
            return cache.found(question, (yield cache.get_call(question, judged=is_judged)))
        except Error as error:
            options.away(error)
            return Found("MISS", [], question)

    def _accepted(self, found: Found) -> Steps[Answer | None]:
        """The candidate that is judged to fit; it is the question's, too, from then on."""
        if self._judge is None or found.status != "MAYBE":
            return None
        lease = self._lease(found)
        answer = yield from judged(self._judge, found, lease.renewals, self._options.lease / 2)
        if answer is not None and found.token is not None:
            call = self._cache.accept_call(found.question, answer, found.token)
            if not (yield from kept(self._options, call, lease.release(None))):
                # It went while it was judged, or the lease did.
                yield from given_back(self._options, lease.release(None))
        return answer

    def _lease(self, found: Found) -> Lease:
        """The lease that was found, if any."""
        key, token, lasts = found.question.key, found.token, self._options.lease

        def release(backoff: Seconds | None) -> list[Call[Any]]:
            return [] if token is None else [calls.semrelease(key, token, backoff=backoff)]

        return Lease(
            [] if token is None else [calls.semrenew(key, token, lasts)],
            lambda data: self._cache.set_call(found.question, data, token=token),
            release,
        )
