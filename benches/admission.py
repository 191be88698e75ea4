"""The family `admission`: a request, its tokens and a slot in one decision, beside
what gateways do by scripts; several limits in one call; one key that all ask for;
and a key on which many hold something."""

import random
from dataclasses import replace

from . import peers
from .cases import Case
from .figures import Figures
from .load import Load, throughput
from .server import Server, packed

CONNECTIONS, PIPELINE = 16, 32
BOTH = "ML.ADMIT, ML.SETTLE"
MANY, WINDOW, SLOTS, LASTS = "1000000000", "3600", "1000", "600"
ESTIMATE, ACTUAL = 1500, 1210
OPEN = (0, 1_000, 60_000)


class Lanes:
    """Connections on which as many callers act at a time."""

    def __init__(self, server, connections):
        self.server = server
        self.all = [Server(server.port, server.process) for _ in range(connections)]
        for lane in self.all:
            lane.connect()

    def close(self):
        for lane in self.all:
            lane.stream.close()

    def play(self, callers):
        """The CPU microseconds that the server takes. A caller is a list of trips: calls
        that are sent together, each with what its answer begins with, if anything."""
        callers = [[(b"".join(packed(words) for words, _ in trip), [begins for _, begins in trip])
                    for trip in caller] for caller in callers]
        before = self.server.cpu_seconds()
        for first in range(0, len(callers), len(self.all)):
            for trips in zip(*callers[first:first + len(self.all)]):
                for lane, (sent, _) in zip(self.all, trips):
                    lane.stream.write(sent)
                    lane.stream.flush()
                for lane, (_, expected) in zip(self.all, trips):
                    for begins in expected:
                        answer = lane.answer(("a call",))
                        first_of = answer[0] if isinstance(answer, list) else answer
                        assert begins is None or first_of == begins, answer
        return (self.server.cpu_seconds() - before) * 1e6


def pipelined(callers):
    """Callers that wait for nothing, so many on a connection at a time."""
    return [[[call for caller in callers[first:first + PIPELINE] for trip in caller
              for call in trip]] for first in range(0, len(callers), PIPELINE)]


def identity(chance):
    return f"{chance.getrandbits(128):032x}"


def by_command(_):
    def caller(user, trace):
        keys = (f"{user}:rpm", f"{user}:tpm", f"{user}:slots")
        return [
            [(("ML.ADMIT", 3, *keys, "LIMIT", MANY, WINDOW, "LIMIT", MANY, WINDOW, "COST", ESTIMATE,
               "PERMIT", SLOTS, "HOLD", LASTS + "000", "ID", trace), 1)],
            [(("ML.SETTLE", 3, *keys, trace, "ACTUAL", "-", ACTUAL, "-"), 1)],
        ]
    return caller


def by_one_script(server):
    admit, settle = (script(server, text) for text in (peers.ADMIT, peers.SETTLE))

    def caller(user, trace):
        keys = (f"{user}:rpm", f"{user}:tpm", f"{user}:slots")
        return [
            [((*admit, 3, *keys, MANY, MANY, ESTIMATE, WINDOW, SLOTS, LASTS, trace), 1)],
            [((*settle, 2, *keys[1:], ACTUAL - ESTIMATE, trace), 1)],
        ]
    return caller


def by_litellm(server):
    requests, slot, tokens, correct, release = (script(server, text) for text in (
        peers.LITELLM_REQUESTS, peers.LITELLM_SLOT, peers.LITELLM_TOKENS, peers.LITELLM_CORRECT,
        peers.LITELLM_RELEASE))
    now = server.call("TIME")[0].decode()

    def caller(user, trace):
        window, rpm, tpm, slots = (f"{user}:{kind}" for kind in ("window", "rpm", "tpm", "slots"))
        return [
            [((*requests, 2, window, rpm, now, WINDOW), None)],
            [((*slot, 1, slots, SLOTS, LASTS, trace), 0)],
            [((*tokens, 2, window, tpm, MANY, ESTIMATE, WINDOW), 0)],
            [((*correct, 1, tpm, ACTUAL - ESTIMATE, WINDOW), None)],
            [((*release, 1, slots, trace), None)],
        ]
    return caller


def script(server, text):
    return "EVALSHA", server.call("SCRIPT", "LOAD", text).decode()


def at_once(_):
    """Three limits, by one call."""
    def caller(user, _):
        keys = (f"{user}:second", f"{user}:minute", f"{user}:day")
        return [[(("ML.ADMIT", 3, *keys, *("LIMIT", MANY, WINDOW) * 3), 1)]]
    return caller


def one_by_one(_):
    """Three limits, each by a call, for the answer of which the caller waits."""
    def caller(user, _):
        return [[(("ML.RATELIMIT", f"{user}:{kind}", MANY, WINDOW), 1)]
                for kind in ("second", "minute", "day")]
    return caller


# What is done, and the ways to do it, all beside the first.
WAYS = {
    "requests, tokens and a slot": {
        BOTH: by_command, "one Lua script": by_one_script, "LiteLLM's calls": by_litellm},
    "three limits": {"three ML.RATELIMIT": one_by_one, "ML.ADMIT of three": at_once},
}


def beside(server, lanes, options, what, ways):
    """Ways to do one thing, with a round trip for each call and in pipelines."""
    users = max(options.keys // 10, 1)
    of = f"{users:,} users, {CONNECTIONS} connections"
    groups = {f"{what}, a round trip a call; {of}": list,
              f"{what}, in pipelines of {PIPELINE} callers; {of}": pipelined}
    for group, arranged in groups.items():
        several = [Figures("admission", group, way, next(iter(ways))) for way in ways]
        for turn in range(options.rounds + 1):
            chance = random.Random(turn)
            for figures, way in zip(several, ways.values()):
                server.call("FLUSHALL", "SYNC")
                caller = way(server)

                def callers(numbers):
                    return [caller(f"{{user:{number:06}}}", identity(chance))
                            for number in numbers]

                lanes.play(pipelined(callers(range(users))))  # All keys are there before.
                drawn = callers(chance.randrange(users) for _ in range(options.counted))
                cpu_us = lanes.play(arranged(drawn)) / options.counted
                if turn:  # The first is a warm-up.
                    figures.add(cpu_us=cpu_us)
        yield from several


HOT = [Case("INCR", ("INCR", "hot"), "INCR"),
       Case("ML.RATELIMIT", ("ML.RATELIMIT", "hot", MANY, WINDOW), "INCR"),
       Case("ML.ADMIT", ("ML.ADMIT", "1", "hot", "LIMIT", MANY, WINDOW), "INCR"),
       Case("ML.ADMIT, and one of its own",
            ("ML.ADMIT", "2", "own:__rand_int__", "hot", *("LIMIT", MANY, WINDOW) * 2), "INCR")]


def one_hot_key(server, options):
    load = Load(options.requests, options.keys, connections=1000, pipeline=1)
    load = replace(load, requests=load.requests // 4 + 1)
    several = [Figures("admission", "one key for 1,000 connections", case.name, case.beside)
               for case in HOT]
    for turn in range(options.rounds + 1):
        for case, figures in zip(HOT, several):
            measured = throughput(server, case, load)
            if turn:
                figures.add(rate=measured["rate"], cpu_us=measured["cpu_us"])
    return several


YEAR, ROOM = "31536000", str(1 << 50)
KINDS = {
    "FIXED": ("LIMIT", ROOM, YEAR, "ALGORITHM", "FIXED"),
    "SLIDING": ("LIMIT", ROOM, YEAR, "ALGORITHM", "SLIDING"),
    # So slow that nothing is paid off: each refund has to find its charge.
    "GCRA": ("LIMIT", "1", YEAR, "ALGORITHM", "GCRA", "BURST", ROOM),
    "permits": ("PERMIT", ROOM),
}


def many_holds(server, options):
    """A charge, and a hold opened and another settled, with so many open on the key.
    Which is settled is drawn, so that it may have been open for long."""
    # On one connection: from others, a hold might be settled before it is opened.
    lanes = Lanes(server, 1)
    for kind, item in KINDS.items():
        group = f"holds open on one key, {kind}; in pipelines of {PIPELINE} callers"
        verbs = ("opened and settled",) if kind == "permits" else ("charged", "opened and settled")
        several = {(verb, count): Figures("admission", group, name(verb, count), name(verb, 0))
                   for verb in verbs for count in OPEN}
        for turn in range(options.rounds + 1):
            for count in OPEN:
                measured = with_open(server, lanes, item, count, random.Random(turn), options)
                for verb in verbs if turn else ():  # The first is a warm-up.
                    several[verb, count].add(**measured[verb])
        yield from several.values()
    lanes.close()


def name(verb, count):
    return f"{verb}, {count:,} open"


def with_open(server, lanes, item, count, chance, options):
    def opened(trace):
        return ("ML.ADMIT", 1, "held", *item, "COST", 100, "HOLD", LASTS + "000", "ID", trace), 1

    def settled(trace):
        return ("ML.SETTLE", 1, "held", trace, *(("ACTUAL", 40) if item[0] == "LIMIT" else ())), 1

    def one_for_another():
        trace = identity(chance)
        traces.append(trace)
        place = chance.randrange(len(traces))
        traces[place], traces[-1] = traces[-1], traces[place]
        return [[opened(trace), settled(traces.pop())]]

    def cpu_us(calls):
        return lanes.play(pipelined(calls)) / len(calls)

    server.call("FLUSHALL", "SYNC")
    traces = [identity(chance) for _ in range(count)]
    server.call_silently(packed(opened(trace)[0]) for trace in traces)
    measured = {}
    if item[0] == "LIMIT":
        charge = ("ML.RATELIMIT", "held", *item[1:]), 1
        measured["charged"] = {"cpu_us": cpu_us([[[charge]]] * options.counted)}
    swaps = [one_for_another() for _ in range(options.counted)]
    measured["opened and settled"] = {"cpu_us": cpu_us(swaps)}
    return measured


def family(server, options):
    lanes = Lanes(server, CONNECTIONS)
    for what, ways in WAYS.items():
        yield from beside(server, lanes, options, what, ways)
    lanes.close()
    yield from many_holds(server, options)
    yield from one_hot_key(server, options)
