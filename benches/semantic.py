"""The family `semantic`: the answer to nearly the same question, from the semantic cache,
and from indexes that a client keeps itself (FAISS, usearch) or the server does (vector sets)
with GET of what they lead to; what an insert costs, what an entry takes of memory, and how
long others wait meanwhile."""

import itertools
import time
from contextlib import contextmanager

import faiss
import numpy
import redis
from usearch.index import Index

from .embeddings import Embeddings
from .features import measure
from .figures import Figures, percentiles
from .load import pings_beside
from .server import packed, threads_anywhere

MOST_DIMS = 384  # Of the million.
HIT = 0.95
SLACK = 0.001  # What a similarity of ours may be off by.
PROMPT = b"p" * 60
# With the prompt and 16 bytes of lengths 512, as much as the allocator gives.
ANSWER_BYTES = 436
DAY = 86_400
KEY, VECTORS, VERSION = "semantic", "vectors", "v1"
CHUNK = 1_000

# Up to so many bytes are scanned by the event loop itself, where the server has threads.
INLINE_BYTES = "ml.semantic-inline-bytes"
BOUNDS = ("ml.semantic-max-entries", 16_777_216, "ml.semantic-max-bytes", 4_294_966_272)
ALL_BYTES = BOUNDS[-1]

ALONE = "FAISS flat alone"
FLAT = "FAISS flat, GET"
GRAPH = "usearch, GET"
EXACT = "usearch exact, GET"
VSIM = "VSIM, GET"
SEMGET = "ML.SEMGET"
IN_THE_LOOP = "ML.SEMGET in the event loop"
APPROXIMATE = (GRAPH, VSIM)
NOTHING = "nothing"

SEMSET, VADD, SET, ANSWERS = "ML.SEMSET", "VADD", "SET of the same bytes", "SET of the answer"


def title(what, dims, entries):
    return f"{what} {entries:,} entries of {dims} dimensions"


HITS = "a hit among"
MISSES = "a miss among"
INSERTS = "an insert into"
MEMORY = "memory beside answer and prompt, an entry of"
PINGS = "PING beside questions to"


def answer(number):
    return b"%012d" % number + b"a" * (ANSWER_BYTES - 12)


def number_of(text):
    return int(text[:12])


# How an entry is written, in each way.
WRITES = {
    SEMSET: lambda number, vector: (
        "ML.SEMSET", KEY, VERSION, vector.tobytes(), answer(number), "PROMPT", PROMPT, "EX", DAY),
    VADD: lambda number, vector: ("VADD", VECTORS, "FP32", vector.tobytes(), number),
    SET: lambda number, vector: (
        "SET", f"same:{number}", vector.tobytes() + answer(number) + PROMPT, "EX", DAY),
    ANSWERS: lambda number, _: ("SET", f"answer:{number}", answer(number)),
}  # fmt: skip
# What of that is answer and prompt.
BESIDE = {SEMSET: ANSWER_BYTES + len(PROMPT), VADD: 0}


def family(server, options):
    faiss.omp_set_num_threads(1)
    client = redis.Redis(port=server.port, protocol=2)
    server.call("CONFIG", "SET", *BOUNDS)
    for dims in options.dims:
        yield from of_width(server, client, dims, options)
    if options.million:
        yield from most(server, client, options)


def of_width(server, client, dims, options):
    """All of vectors of one width, as ever more of them are kept."""
    server.call("FLUSHALL", "SYNC")
    embeddings = Embeddings(dims)
    flat, graph = faiss.IndexFlatIP(dims), Index(ndim=dims, metric="cos")
    in_server = [SEMSET, ANSWERS]
    if server.call("COMMAND", "INFO", VADD) != [None]:
        in_server.append(VADD)
    taken = dict.fromkeys(in_server, 0)
    ways = ways_to_find(client, flat, graph, VADD in in_server)
    held = 0
    for entries in options.entries:
        for chunk in chunks(embeddings, entries - held):
            flat.add(chunk)
            graph.add(numpy.arange(held, held + len(chunk)), chunk, threads=1)
            for name in in_server:
                taken[name] += written(server, name, held, chunk)
            held += len(chunk)
        check_held(server, held)
        for name in BESIDE:
            if name in in_server:
                yield memory(dims, held, name, taken[name])
        hits, misses = questions(embeddings, flat, options.questions)
        # Fewer where each takes long, of an index that is scanned from end to end.
        count = max(options.questions // 6, min(options.questions, 3_000_000 // entries))
        for what, asked in ((HITS, hits), (MISSES, misses)):
            yield from finds(server, title(what, dims, held), ways, asked[:count], options.rounds)
    yield from pings(server, title(PINGS, dims, held), ways, hits + misses, options)
    yield from inserts(server, title(INSERTS, dims, held), in_server, embeddings, held, options)


def most(server, client, options):
    """What only the semantic cache is asked of: it would be hours elsewhere."""
    server.call("FLUSHALL", "SYNC")
    embeddings = Embeddings(MOST_DIMS)
    held = taken = 0
    for chunk in chunks(embeddings, options.most):
        taken += written(server, SEMSET, held, chunk)
        if not held:
            numbers = itertools.count()
            hits = list(zip(embeddings.reworded(chunk), numbers))[:options.questions // 6]
        held += len(chunk)
    check_held(server, held)
    yield memory(MOST_DIMS, held, SEMSET, taken)
    ways = ours(client)
    yield from finds(server, title(HITS, MOST_DIMS, held), ways, hits, options.rounds)
    yield from pings(server, title(PINGS, MOST_DIMS, held), ways, hits, options)


def chunks(embeddings, wanted):
    for first in range(0, wanted, CHUNK):
        yield embeddings.more(min(CHUNK, wanted - first))


def calls_to_write(name, first, vectors):
    return [packed(WRITES[name](first + place, vector)) for place, vector in enumerate(vectors)]


def written(server, name, first, vectors):
    """Writes entries in one of the ways: the memory that they take."""
    before = server.used_memory()
    server.call_silently(calls_to_write(name, first, vectors))
    return server.used_memory() - before


def check_held(server, entries):
    """Writes had no answers."""
    info = server.call("ML.SEMINFO", KEY)
    assert dict(zip(info[::2], info[1::2]))[b"entries"] == entries
    assert server.call("EXISTS", VECTORS) == 0 or server.call("VCARD", VECTORS) == entries


def memory(dims, entries, name, taken):
    figures = Figures("semantic", title(MEMORY, dims, entries), name, SEMSET)
    figures.add(entry_bytes=taken / entries - BESIDE[name])
    return figures


def questions(embeddings, flat, count):
    """So many questions that are answered and so many that are not, each with the number of
    the entry that answers it, or None."""
    chance = numpy.random.default_rng(2)
    hits, misses = [], []
    while len(hits) < count or len(misses) < count:
        near = [flat.reconstruct(int(number)) for number in chance.integers(flat.ntotal, size=count)]
        for vectors in (embeddings.reworded(numpy.array(near)), embeddings.more(count)):
            for vector, [similarity], [number] in zip(vectors, *flat.search(vectors, 1)):
                if similarity >= HIT + SLACK:
                    hits.append((vector, number))
                elif similarity < HIT - SLACK:
                    misses.append((vector, None))
    return hits[:count], misses[:count]


def ours(client):
    def semget(vector):
        status, entries = client.execute_command(
            "ML.SEMGET", KEY, VERSION, vector.tobytes(), "HIT", HIT)
        return number_of(entries[0][2]) if status == b"HIT" else None

    return {SEMGET: semget, IN_THE_LOOP: semget}


def ways_to_find(client, flat, graph, has_vectors):
    """Each finds the entry that answers a question, by number, or None."""

    def answered(number):
        return None if number is None else number_of(client.get(f"answer:{number}"))

    def by_flat(vector):
        [[similarity]], [[number]] = flat.search(vector[None], 1)
        return number if similarity >= HIT else None

    def by_graph(vector, exact=False):
        found = graph.search(vector, 1, threads=1, exact=exact)
        return int(found.keys[0]) if 1 - found.distances[0] >= HIT else None

    def vsim(vector):
        number, score = client.execute_command(
            "VSIM", VECTORS, "FP32", vector.tobytes(), "WITHSCORES", "COUNT", 1)
        return int(number) if 2 * float(score) - 1 >= HIT else None

    ways = {
        ALONE: by_flat,
        FLAT: lambda vector: answered(by_flat(vector)),
        GRAPH: lambda vector: answered(by_graph(vector)),
        EXACT: lambda vector: answered(by_graph(vector, exact=True)),
    }
    if has_vectors:
        ways[VSIM] = lambda vector: answered(vsim(vector))
    return ways | ours(client)


def finds(server, group, ways, asked, rounds):
    """How long it takes until an answer is there, or that there is none."""
    several = {name: Figures("semantic", group, name, next(iter(ways))) for name in ways}
    shares = {}
    for name, find in ways.items():  # A check, and a warm-up.
        found = [find(vector) for vector, _ in asked]
        shares[name] = sum(one == number for one, (_, number) in zip(found, asked)) / len(asked)
        # All that is exact finds the same, but for entries that are as near as each other.
        assert name in APPROXIMATE or shares[name] > 0.95, name
    threads_anywhere(server.process)
    for _ in range(rounds):
        for name, figures in several.items():
            calls = [lambda find=ways[name], vector=vector: find(vector) for vector, _ in asked]
            with in_the_loop(server, name == IN_THE_LOOP):
                cpu, wall = measure(server, calls)
            figures.add(time_ms=wall * 1e3, cpu_us=None if name == ALONE else cpu * 1e6,
                        found=shares[name])
    return several.values()


@contextmanager
def in_the_loop(server, wanted):
    """Scans are made by the event loop, where the server would leave them to threads."""
    held = server.call("CONFIG", "GET", INLINE_BYTES) if wanted else []
    if held:
        server.call("CONFIG", "SET", INLINE_BYTES, ALL_BYTES)
    yield
    if held:
        server.call("CONFIG", "SET", *held)


def pings(server, group, ways, asked, options):
    """How long PINGs of others take while questions are asked, one after the other."""
    several = {name: Figures("semantic", group, name, NOTHING) for name in (NOTHING, SEMGET, IN_THE_LOOP)}
    vectors = itertools.cycle([vector for vector, _ in asked])
    for _ in range(options.rounds):
        for name, figures in several.items():
            work = (lambda find=ways[name]: find(next(vectors))) if name in ways else None
            with in_the_loop(server, name == IN_THE_LOOP):
                times = pings_beside(server, work, options.pings)
            figures.add(**percentiles(times), longest_ms=max(times))
    return several.values()


def inserts(server, group, in_server, embeddings, held, options):
    names = [SET, *(name for name in in_server if name != ANSWERS)]
    several = {name: Figures("semantic", group, name, SET) for name in names}
    for _ in range(options.rounds):
        vectors = embeddings.more(options.inserts)
        for name, figures in several.items():
            # Of what takes a hundred times as long fewer are enough.
            some = vectors[:options.inserts // 10] if name == VADD else vectors
            calls = calls_to_write(name, held, some)
            cpu, start = server.cpu_seconds(), time.perf_counter()
            server.call_silently(calls)
            took = time.perf_counter() - start
            figures.add(rate=len(some) / took / 1e3,
                        cpu_us=(server.cpu_seconds() - cpu) / len(some) * 1e6)
        held += len(vectors)
    return several.values()
