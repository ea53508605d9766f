"""What the service counts and times, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .served import ServedIndex

__all__ = ["Metrics", "Observe"]

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one application.

    Attributes
    ----------
    registry : CollectorRegistry
        All of them.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "rg_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "rg_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("rg_requests_in_flight", "Requests in progress.", registry=registry)
        self.batch = Histogram(
            "rg_batch_phrases",
            "Phrases that were answered in one pass.",
            buckets=_SIZES,
            registry=registry,
        )
        self._images = Gauge("rg_images", "Images of an index.", ["index"], registry=registry)
        self._regions = Gauge("rg_regions", "Regions of an index.", ["index"], registry=registry)

    def refresh(self, indexes: Iterable[ServedIndex]) -> None:
        """Read what is true now."""
        for served in indexes:
            counts = served.catalog.counts()
            self._images.labels(served.name).set(counts["images"])
            self._regions.labels(served.name).set(counts["regions"])


class Observe:
    """Middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        began = time.perf_counter()

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics = self._metrics
        metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_observed)
        finally:
            metrics.in_flight.dec()
            # The route's pattern: paths are chosen by clients, and would be countless.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if route != "other" else "any"
            metrics.requests.labels(route, method, str(status or "gone")).inc()
            metrics.seconds.labels(route).observe(time.perf_counter() - began)
