"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wattfill.server.engine import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _EngineMetrics(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine, service = self._engine, self._engine.service
        for name, text, value in (
            ("wattfill_allocations", "Allocations answered or streamed.", service.n_allocations),
            (
                "wattfill_overloads_prevented",
                "Allocations in which a connector was held down by what its group may draw.",
                service.n_overloads_prevented,
            ),
            ("wattfill_commands", "Commands handed to streams.", engine.n_commands),
        ):
            yield CounterMetricFamily(name, text, value=value)
        for name, text, value in (
            ("wattfill_groups", "Groups in memory.", engine.n_groups),
            ("wattfill_streams", "Streams that are followed.", len(engine.followers)),
            (
                "wattfill_pending_increases",
                "Increases that wait for confirmations.",
                engine.n_pending,
            ),
            (
                "wattfill_disobeying_connectors",
                "Connectors that draw more than they were told.",
                engine.n_disobeying,
            ),
            ("wattfill_dispatches", "1 where this process dispatches.", int(engine.leads)),
            (
                "wattfill_database_up",
                "1 where the database could be written the last time.",
                int(engine.trouble is None),
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class Metrics:
    """Counters of requests, and what the engine counts."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineMetrics(engine))
        self._requests = Counter(
            "wattfill_requests",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "wattfill_request_seconds",
            "Seconds from a request to its answer.",
            ("method", "route"),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self._registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self._registry)
