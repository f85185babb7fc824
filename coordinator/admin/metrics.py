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

_STATES: Final = ("starting", "ready", "draining", "lost", "quarantined")
_SOURCE_STATES: Final = ("starting", "healthy", "quarantined", "uncredited")

_Numbers = CounterMetricFamily | GaugeMetricFamily
_Family = _Numbers | InfoMetricFamily


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
        yield from _ticket_keys(coordinator["ticket_keys"])
        yield from _entropy(coordinator["entropy"])
        yield from _deployment(status["server"])
        yield from _workers(status["workers"])
        yield from _lookups(status["workers"])
        yield from _resumption(status["workers"])
        yield from _drbgs(status["workers"])
        yield _expiries(status["workers"])
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


def _ticket_keys(ring: Mapping[str, Any]) -> Iterator[_Family]:
    states = dict.fromkeys(("next", "active", "decrypting"), 0)
    for key in ring["keys"]:
        states[key["state"]] += 1
        if key["state"] == "active":
            yield _gauge("ticket_key_age_seconds", "Of the key that seals.", key["age_seconds"])
            yield _gauge("ticket_key_sealed", "Tickets under it, as reported.", key["sealed"])
    yield _by("gauge", "ticket_keys", "Ticket keys, by state.", "state", states)
    yield _counter("ticket_key_rotations", "Keys that began to seal.", ring["rotations"])
    yield _gauge("ticket_watermarks", "Purges that workers remember.", ring["watermarks"])
    strikes = ring["strikes"]
    yield _gauge("ticket_strikes_entries", "Used tickets remembered.", strikes["entries"])
    yield _gauge("ticket_strikes_max_entries", "Bound on their number.", strikes["max_entries"])
    yield _counter("ticket_strikes_accepted", "First uses.", strikes["accepted"])
    refused = strikes["refused"]
    yield _by("counter", "ticket_strikes_refused", "Uses refused.", "reason", refused)


def _entropy(entropy: Mapping[str, Any]) -> Iterator[_Family]:
    yield _counter("entropy_seeds", "Seeds given.", entropy["seeds"])
    yield _counter("entropy_refusals", "Seeds refused.", entropy["refusals"])
    yield _gauge(
        "entropy_available_bits", "Credited since the last seed.", entropy["available_bits"]
    )
    yield _gauge("entropy_required_bits", "Needed for a seed.", entropy["required_bits"])
    yield _gauge("entropy_ledger_length", "Seeds that the ledger holds.", entropy["ledger_length"])
    yield _counter("entropy_canary_repeats", "Repeated first outputs.", entropy["canary_repeats"])
    state = GaugeMetricFamily(
        "shardtls_entropy_source_state", "1 for the state it is in.", labels=["source", "state"]
    )
    age = GaugeMetricFamily(
        "shardtls_entropy_source_last_failure_age_seconds", "Since it failed.", labels=["source"]
    )
    for source in entropy["sources"]:
        for name in _SOURCE_STATES:
            state.add_metric([source["name"], name], float(source["state"] == name))
        if source["last_failure_age"] is not None:
            age.add_metric([source["name"]], source["last_failure_age"])
    yield from (state, age)
    counts = {
        "samples": ("bytes", "Samples read, of a byte each."),
        "alarms": ("alarms", "Health alarms; a sound source has one now and then."),
        "failures": ("failures", "Health failures, and reads that failed."),
    }
    for metric, (key, text) in counts.items():
        values = {source["name"]: source[key] for source in entropy["sources"]}
        yield _by("counter", f"entropy_source_{metric}", text, "source", values)


def _deployment(server: Mapping[str, Any]) -> Iterator[_Family]:
    yield _by("gauge", "workers", "Workers, by state.", "state", server["workers"])
    yield _gauge("workers_wanted", "Workers asked for.", server["workers_wanted"])
    family = CounterMetricFamily(
        "shardtls_worker_restarts", "Workers replaced unasked.", labels=["supervisor"]
    )
    for supervisor in server["supervisors"]:
        family.add_metric([supervisor["id"]], supervisor["restarts"])
    yield family


def _of_worker(kind: str, name: str, text: str, *labels: str) -> _Numbers:
    make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    return make(f"shardtls_worker_{name}", text, labels=["worker", *labels])


def _expiries(workers: list[dict[str, Any]]) -> _Family:
    family = GaugeMetricFamily(
        "shardtls_worker_certificate_expiry_timestamp_seconds",
        "When a certificate expires.",
        labels=["worker", "name"],
    )
    for worker in workers:
        for name, value in worker["certificates"].items():
            family.add_metric([worker["id"], name], value)
    return family


def _workers(workers: list[dict[str, Any]]) -> Iterator[_Family]:
    state = _of_worker("gauge", "state", "1 for the state it is in.", "state")
    connections = _of_worker("gauge", "connections", "Open connections.")
    handshakes = _of_worker("counter", "handshakes", "Handshakes ended.", "kind")
    received = _of_worker("counter", "received_bytes", "Plaintext received.")
    sent = _of_worker("counter", "sent_bytes", "Plaintext sent.")
    ended = _of_worker("counter", "connections_ended", "Connections that ended.", "reason")
    errors = _of_worker("counter", "handler_errors", "Exceptions of the application.")
    pauses = _of_worker("counter", "accept_pauses", "Times that it stopped accepting.")
    for worker in workers:
        id_ = worker["id"]
        for name in _STATES:
            state.add_metric([id_, name], float(worker["state"] == name))
        connections.add_metric([id_], worker["connections"])
        for kind, value in worker["handshakes"].items():
            handshakes.add_metric([id_, kind], value)
        if "bytes" in worker:
            received.add_metric([id_], worker["bytes"]["received"])
            sent.add_metric([id_], worker["bytes"]["sent"])
        for reason, value in worker["ended"].items():
            ended.add_metric([id_, reason], value)
        errors.add_metric([id_], worker["handler_errors"])
        pauses.add_metric([id_], worker["accept_pauses"])
    yield from (state, connections, handshakes, received, sent, ended, errors, pauses)


def _resumption(workers: list[dict[str, Any]]) -> Iterator[_Family]:
    late = _of_worker("counter", "lookup_late_answers", "Answers after the deadline.")
    puts = _of_worker("counter", "session_puts", "Sessions sent, or dropped unsent.", "outcome")
    breaker = _of_worker("gauge", "breaker_open", "1 while it does not ask the coordinator.")
    opened = _of_worker("counter", "breaker_openings", "Times that it stopped asking.")
    lost = {
        what: _of_worker("counter", f"messages_{what}", text, "endpoint")
        for what, text in (
            ("undeliverable", "Messages not sent, the queue being full."),
            ("malformed", "Messages received and not understood."),
            ("refused", "Errors that the coordinator answered with."),
        )
    }
    for worker in workers:
        id_ = worker["id"]
        late.add_metric([id_], worker["lookups"]["late"])
        for outcome, value in worker["puts"].items():
            puts.add_metric([id_, outcome], value)
        breaker.add_metric([id_], float(worker["breaker"] == "open"))
        opened.add_metric([id_], worker["breaker_opened"])
        for endpoint, counts in worker["messages"].items():
            for what, family in lost.items():
                family.add_metric([id_, endpoint], counts[what])
    yield from (late, puts, breaker, opened, *lost.values())


def _drbgs(workers: list[dict[str, Any]]) -> Iterator[_Family]:
    requests = _of_worker("counter", "drbg_requests", "Requests to its DRBG.")
    reseeds = _of_worker("counter", "drbg_reseeds", "Reseeds of its DRBG.")
    age = _of_worker("gauge", "drbg_last_reseed_age_seconds", "Since its DRBG was seeded.")
    seed = _of_worker(
        "gauge", "drbg_last_reseed", "1 for what its last seed was.", "reason", "seeded_from"
    )
    failed = _of_worker("gauge", "drbg_failed", "1 if its DRBG gives nothing any more.")
    for worker in workers:
        id_, drbg = worker["id"], worker["drbg"]
        requests.add_metric([id_], drbg["requests"])
        reseeds.add_metric([id_], drbg["reseeds"])
        if drbg["last_reseed_age"] is not None:
            age.add_metric([id_], drbg["last_reseed_age"])
            labels = [id_, drbg["last_reseed_reason"] or "", drbg["seeded_from"] or ""]
            seed.add_metric(labels, 1.0)
        failed.add_metric([id_], float(drbg["failed"]))
    yield from (requests, reseeds, age, seed, failed)


def _lookups(workers: list[dict[str, Any]]) -> Iterator[_Family]:
    hits = _of_worker("counter", "lookup_hits", "Session lookups that found one.", "server_name")
    misses = _of_worker(
        "counter", "lookup_misses", "Session lookups that found none.", "server_name", "reason"
    )
    for worker in workers:
        for name, lookups in _by_server_name(worker["lookups"]).items():
            hits.add_metric([worker["id"], name], lookups["hits"])
            for reason, value in lookups["misses"].items():
                misses.add_metric([worker["id"], name, reason], value)
    yield from (hits, misses)


def _by_server_name(lookups: dict[str, Any]) -> dict[str, Any]:
    """A worker of an earlier version tells sums only; an empty label is as good as none."""
    return lookups["server_names"] or {"": lookups}


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
