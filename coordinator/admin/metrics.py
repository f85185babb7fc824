"""``/metrics``: the status object as Prometheus text. Pure.

Each scrape is made from one snapshot, so there is no series of a worker that is gone. A worker's
counters start at 0 with the worker, as Prometheus expects of a new series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

__all__ = ["render"]

_STATES: Final = ("starting", "ready", "draining", "lost")

_Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily


def render(status: Mapping[str, Any]) -> bytes:
    """The text of ``/metrics`` (text format 0.0.4)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(status))
    return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, status: Mapping[str, Any]) -> None:
        self._status = status

    def describe(self) -> Iterator[_Family]:
        return iter(())

    def collect(self) -> Iterator[_Family]:
        status = self._status
        coordinator = status["coordinator"]
        yield InfoMetricFamily(
            "shardtls", "The server.", value={"version": status["version"] or "unknown"}
        )
        yield _gauge("coordinator_start_time_seconds", "Unix time.", coordinator["started"])
        yield from _messages(coordinator["messages"])
        yield from _sessions(coordinator["sessions"])
        yield from _entropy(coordinator["entropy"])
        yield from _deployment(status["server"])
        yield from _workers(status["workers"])
        yield from _backends(status["workers"])


def _gauge(name: str, text: str, value: float) -> _Family:
    return GaugeMetricFamily(f"shardtls_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> _Family:
    return CounterMetricFamily(f"shardtls_{name}", text, value=value)


def _by(kind: str, name: str, text: str, label: str, values: Mapping[str, float]) -> _Family:
    make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family = make(f"shardtls_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _messages(messages: Mapping[str, Any]) -> Iterator[_Family]:
    counts = {endpoint: messages[endpoint] for endpoint in ("sessions", "control")}
    yield _by("counter", "coordinator_messages", "Messages received.", "endpoint", counts)
    yield _by("counter", "coordinator_errors", "Error replies sent.", "code", messages["errors"])
    refused = messages["connections_refused"]
    yield _counter("coordinator_connections_refused", "Connections without a known key.", refused)
    yield _counter("coordinator_defects", "Exceptions contained.", messages["defects"])


def _sessions(sessions: Mapping[str, Any]) -> Iterator[_Family]:
    yield _gauge("sessions_entries", "Sessions stored.", sessions["entries"])
    yield _gauge("sessions_max_entries", "Bound on their number.", sessions["max_entries"])
    yield _gauge("sessions_size_bytes", "Memory charged for them.", sessions["bytes"])
    yield _gauge("sessions_max_size_bytes", "Bound on it.", sessions["max_bytes"])
    yield _counter("sessions_stored", "Sessions put.", sessions["stored"])
    yield _counter("sessions_refused", "Puts refused.", sessions["refused"])
    yield _counter("sessions_evicted", "Sessions that made room.", sessions["evicted"])
    yield _counter("sessions_expired", "Sessions past their life.", sessions["expired"])
    yield _counter("sessions_purged", "Sessions purged.", sessions["purged"])
    yield _counter("sessions_hits", "Lookups that found one.", sessions["hits"])
    yield _by(
        "counter", "sessions_misses", "Lookups that found none.", "reason", sessions["misses"]
    )
    yield _counter("sessions_parked", "Lookups that waited for a put.", sessions["parked"])
    yield _gauge("sessions_parked_now", "Lookups that wait.", sessions["parked_now"])


def _entropy(entropy: Mapping[str, Any]) -> Iterator[_Family]:
    yield _counter("entropy_seeds", "Seeds given.", entropy["seeds"])
    yield _counter("entropy_refusals", "Seeds refused.", entropy["refusals"])
    sources = entropy["sources"]
    healthy = {source["name"]: float(source["state"] == "healthy") for source in sources}
    yield _by("gauge", "entropy_source_healthy", "1 if it counts.", "source", healthy)
    read = {source["name"]: source["bytes"] for source in sources}
    yield _by("counter", "entropy_source_read_bytes", "Noise read.", "source", read)
    failures = {source["name"]: source["failures"] for source in sources}
    yield _by("counter", "entropy_source_failures", "Health failures.", "source", failures)


def _deployment(server: Mapping[str, Any]) -> Iterator[_Family]:
    yield _by("gauge", "workers", "Workers, by state.", "state", server["workers"])
    yield _gauge("workers_wanted", "Workers asked for.", server["workers_wanted"])
    family = CounterMetricFamily(
        "shardtls_worker_restarts", "Workers replaced unasked.", labels=["supervisor"]
    )
    for supervisor in server["supervisors"]:
        family.add_metric([supervisor["id"]], supervisor["restarts"])
    yield family


def _workers(workers: list[dict[str, Any]]) -> Iterator[_Family]:
    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"shardtls_worker_{name}", text, labels=["worker", *labels])

    def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"shardtls_worker_{name}", text, labels=["worker", *labels])

    state = gauge("state", "1 for the state it is in.", "state")
    connections = gauge("connections", "Open connections.")
    handshakes = counter("handshakes", "Handshakes ended.", "kind")
    hits = counter("lookup_hits", "Session lookups that found one.")
    misses = counter("lookup_misses", "Session lookups that found none.", "reason")
    breaker = gauge("breaker_open", "1 while it does not ask the coordinator.")
    received = counter("received_bytes", "Plaintext received.")
    sent = counter("sent_bytes", "Plaintext sent.")
    ended = counter("connections_ended", "Connections that ended.", "reason")
    errors = counter("handler_errors", "Exceptions of the application.")
    pauses = counter("accept_pauses", "Times that it stopped accepting.")
    requests = counter("drbg_requests", "Requests to its DRBG.")
    reseeds = counter("drbg_reseeds", "Reseeds of its DRBG.")
    age = gauge("drbg_last_reseed_age_seconds", "Since its DRBG was seeded.")
    for worker in workers:
        id_ = worker["id"]
        for name in _STATES:
            state.add_metric([id_, name], float(worker["state"] == name))
        connections.add_metric([id_], worker["connections"])
        for kind, value in worker["handshakes"].items():
            handshakes.add_metric([id_, kind], value)
        hits.add_metric([id_], worker["lookups"]["hits"])
        for reason, value in worker["lookups"]["misses"].items():
            misses.add_metric([id_, reason], value)
        breaker.add_metric([id_], float(worker["breaker"] == "open"))
        if "bytes" in worker:
            received.add_metric([id_], worker["bytes"]["received"])
            sent.add_metric([id_], worker["bytes"]["sent"])
        for reason, value in worker["ended"].items():
            ended.add_metric([id_, reason], value)
        errors.add_metric([id_], worker["handler_errors"])
        pauses.add_metric([id_], worker["accept_pauses"])
        drbg = worker["drbg"]
        requests.add_metric([id_], drbg["requests"])
        reseeds.add_metric([id_], drbg["reseeds"])
        if drbg["last_reseed_age"] is not None:
            age.add_metric([id_], drbg["last_reseed_age"])
    yield from (state, connections, handshakes, hits, misses, breaker)
    yield from (received, sent, ended, errors, pauses, requests, reseeds, age)


def _backends(workers: list[dict[str, Any]]) -> Iterator[_Family]:
    labels = ["worker", "backend"]
    up = GaugeMetricFamily(
        "shardtls_worker_backend_up", "1 if the proxy's backend takes connections.", labels=labels
    )
    connections = GaugeMetricFamily(
        "shardtls_worker_backend_connections", "Connections relayed to it.", labels=labels
    )
    failures = CounterMetricFamily(
        "shardtls_worker_backend_failures", "Connections to it that failed.", labels=labels
    )
    for worker in workers:
        for name, backend in worker.get("backends", {}).items():
            up.add_metric([worker["id"], name], float(backend["up"]))
            connections.add_metric([worker["id"], name], backend["connections"])
            failures.add_metric([worker["id"], name], backend["failures"])
    if up.samples:
        yield from (up, connections, failures)
