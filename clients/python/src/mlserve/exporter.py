"""INFO ml and ML.STATS as metrics for Prometheus: `mlserve exporter`.

Every scrape reads every node. The labels are `node`; `namespace`, of which a node counts at
most `ml.stats-max-namespaces` by name in each section and the others together as
`(other)`; and `version`, of those in force. The keys denied most are not exported, as
nothing bounds how many there are over time: see `mlserve top`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    UnknownMetricFamily,
)

from mlserve.readings import Nodes, Reading, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["CACHE", "FEATURES", "GAUGES", "INFO", "LIMITS", "Collector", "run"]

LIMITS = {
    "allowed": "Decisions on limits that allowed, one a key.",
    "denied": "Decisions on limits that denied, one a key.",
    "waiting": "Calls of ML.ADMIT that waited, at the key that held them up first.",
    "waited_ms": "How long calls of ML.ADMIT waited in all.",
}

CACHE = {
    "hits": "Fresh answers served.",
    "misses": "Reads of the cache that found no answer.",
    "stale": "Stale answers served.",
    "leases": "Leases granted.",
    "expired_leases": "Leases that ran out without an answer.",
    "late_sets": "Answers set after the time of their lease.",
    "waits": "Callers that waited for another's answer.",
    "coalesced": "Answers got by waiting for another's.",
    "refused_sets": "Sets refused: version not in force, or token no longer the holder's.",
    "saved_ms": "What computing the answers of all hits had taken.",
    "entries_written": "Answers set.",
    "bytes_written": "The sum of the lengths of the answers set.",
}

FEATURES = {
    "rows": "Entities read that are rows.",
    "hashes": "Entities read that are hashes.",
    "found": "Fields asked for and found.",
    "missing": "Fields asked for and not there.",
    "too_old": "Fields asked for and older than the call took them.",
    "written": "Rows written.",
    "late": "Writes left out, as the row held something newer.",
}

SEMANTIC = {
    "hits": "Questions answered.",
    "maybes": "Questions with candidates to be judged.",
    "misses": "Questions without an answer or candidates.",
    "stale": "Stale answers served.",
    "leases": "Leases granted.",
    "expired_leases": "Leases that ran out without an answer.",
    "late_sets": "Answers set, or accepted, after the time of their lease.",
    "waits": "Callers that waited for another's answer.",
    "coalesced": "Answers got by waiting for another's.",
    "refused_sets": "Sets refused: version not in force, or token no longer the holder's.",
    "saved_ms": "What computing the answers of all hits had taken.",
    "entries_written": "Answers set.",
    "aliases": "Questions that were given the answer of another.",
    "entries_evicted": "Answers that a set took away: they were over, or hit longest ago.",
}

INFO = {
    "ratelimit_fixed_allowed": "Decisions by fixed windows that allowed, one a key.",
    "ratelimit_fixed_denied": "Decisions by fixed windows that denied, one a key.",
    "ratelimit_sliding_allowed": "Decisions by sliding windows that allowed, one a key.",
    "ratelimit_sliding_denied": "Decisions by sliding windows that denied, one a key.",
    "ratelimit_gcra_allowed": "Decisions by GCRA that allowed, one a key.",
    "ratelimit_gcra_denied": "Decisions by GCRA that denied, one a key.",
    "ratelimit_peeked": "Limits looked at with PEEK.",
    "ratelimit_settled": "Holds on limits settled, one a key.",
    "ratelimit_renewed": "Holds on limits renewed, one a key.",
    "ratelimit_open_holds": "Holds on limits now.",
    "permit_granted": "Permits granted, one a key.",
    "permit_denied": "Permits denied, one a key.",
    "permit_renewed": "Permits renewed, one a key.",
    "permit_released": "Permits released, one a key.",
    "permit_held": "Permits held now.",
    "admission_admitted": "Calls of ML.ADMIT let in.",
    "admission_denied": "Calls of ML.ADMIT denied.",
    "admission_peeked": "Calls of ML.ADMIT with PEEK.",
    "admission_waited": "Calls of ML.ADMIT that had to wait.",
    "admission_waited_ms": "How long they waited in all.",
    "admission_waiters": "Callers of ML.ADMIT that wait now.",
    **{f"cache_{name}": text for name, text in CACHE.items()},
    "cache_open_leases": "Leases open now, backoffs included.",
    "cache_past_leases": "Leases over that are remembered now.",
    "cache_lease_bytes": "Memory of leases and of those who wait, as reckoned.",
    "cache_waiters": "Callers that wait for another's answer now.",
    **{
        f"features_{name}": text
        for name, text in FEATURES.items()
        if name in ("found", "missing", "too_old", "written", "late")
    },
    **{f"semantic_{name}": text for name, text in SEMANTIC.items()},
    "semantic_open_leases": "Leases on questions open now, backoffs included.",
    "semantic_past_leases": "Leases on questions over that are remembered now.",
    "semantic_lease_bytes": "Memory of these and of those who wait, as reckoned.",
    "semantic_waiters": "Callers that wait for another's answer to a question now.",
    "semantic_scanning": "Callers whose scan by threads is not through.",
    "semantic_scans": "Scans that threads have done.",
    "semantic_scans_given_up": "Scans whose key was taken away, or whose caller has gone.",
    "serve_answered": "Calls of ML.SERVE answered from the cache.",
    "serve_to_compute": "Calls of ML.SERVE that are to compute their answer.",
    "serve_unanswered": "Calls of ML.SERVE that another computes for, or of a retired version.",
    "serve_denied": "Calls of ML.SERVE denied that had no answer.",
    "features_layouts": "Sets of field names that rows share now.",
    "features_layout_bytes": "Memory of these sets and of their table.",
}
"""What each field of INFO ml is, without its `ml_`."""

GAUGES = {
    "ratelimit_open_holds",
    "permit_held",
    "admission_waiters",
    "cache_open_leases",
    "cache_past_leases",
    "cache_lease_bytes",
    "cache_waiters",
    "features_layouts",
    "features_layout_bytes",
    "semantic_open_leases",
    "semantic_past_leases",
    "semantic_lease_bytes",
    "semantic_waiters",
    "semantic_scanning",
}
"""Those of INFO ml that are not counted up, but are so many now."""

SECTIONS = {"limits": LIMITS, "cache": CACHE, "features": FEATURES, "semantic": SEMANTIC}


class Family:
    """A metric while it is gathered; the samples of equal labels are added up."""

    def __init__(self, name: str, text: str, kind: type[Any], labels: Sequence[str]) -> None:
        """By the name of the field: times become seconds, as Prometheus has them."""
        self._name = f"mlserve_{name.removesuffix('_ms')}"
        self._scale = 1.0
        if name.endswith("_ms"):
            self._name += "_seconds"
            self._scale = 1000.0
        self._text, self._kind, self._labels = text, kind, labels
        self._samples: defaultdict[tuple[str, ...], float] = defaultdict(float)

    def add(self, labels: tuple[str, ...], value: float) -> None:
        """Take a sample."""
        self._samples[labels] += value / self._scale

    def metric(self) -> Metric:
        """As the library writes it."""
        made: Metric = self._kind(self._name, self._text, labels=self._labels)
        for labels, value in self._samples.items():
            made.add_metric(labels, value)  # type: ignore[attr-defined]
        return made


class Collector:
    """Reads the nodes of some URLs whenever it is asked for metrics."""

    def __init__(self, nodes: Nodes) -> None:
        """Of these nodes."""
        self._nodes = nodes
        # A scrape that comes while another runs waits: the nodes are read one by one.
        self._one = threading.Lock()

    def describe(self) -> list[Metric]:
        """Nothing, so that registering it reads no node."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of all nodes."""
        with self._one:
            found = self._nodes.read()
        families: dict[str, Family] = {}

        def add(
            name: str, text: str, kind: type[Any], labels: Mapping[str, str], value: float
        ) -> None:
            family = families.get(name)
            if family is None:
                family = families[name] = Family(name, text, kind, list(labels))
            family.add(tuple(labels.values()), value)

        for reading in found:
            node = {"node": reading.node}
            up = reading.problem is None
            add("up", "Whether the node answered.", GaugeMetricFamily, node, up)
            if not up:
                continue
            text = "Whether ML.STATS is allowed: without it there are no namespaces."
            add("stats_readable", text, GaugeMetricFamily, node, reading.denied is None)
            for name, value in reading.info.items():
                add(name, INFO.get(name, f"ml_{name} of INFO ml."), kind_of(name), node, value)
            for labels, section, counts, prefix in counted(reading):
                for name, text in SECTIONS[section].items():
                    if name in counts:
                        full = f"{prefix}_{section}_{name}"
                        add(full, text, CounterMetricFamily, {**node, **labels}, counts[name])
        for family in families.values():
            yield family.metric()


def kind_of(name: str) -> type[Any]:
    """The kind of metric of a field of INFO ml; of one that is newer than this, unknown."""
    if name in GAUGES:
        return GaugeMetricFamily
    return CounterMetricFamily if name in INFO else UnknownMetricFamily


def counted(reading: Reading) -> Iterator[tuple[dict[str, str], str, Mapping[str, Any], str]]:
    """The counts of a node's namespaces and versions: labels, section, counts, prefix."""
    for section in SECTIONS:
        for name, counts in reading.stats.get(section, {}).items():
            yield {"namespace": shown(name)}, section, counts, "namespace"
            for space, versions in counts.get("versions", {}).items():
                for version, of in versions.items():
                    labels = {"namespace": shown(space), "version": shown(version)}
                    yield labels, section, of, "version"


def run(options: argparse.Namespace) -> int:
    """Serve metrics until Ctrl-C."""
    nodes = Nodes(options.url, timeout=options.timeout)
    registry = CollectorRegistry()
    registry.register(Collector(nodes))
    try:
        server, _ = start_http_server(options.port, options.address, registry)
    except OSError as error:
        print(f"error: {options.address}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"http://{options.address}:{server.server_port}/metrics", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.shutdown()
    nodes.close()
    return 0
