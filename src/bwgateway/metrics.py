"""Prometheus metrics. Counters count this process's work since its start; money is in units."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()
requests = Histogram(
    "bwgateway_request_seconds",
    "Time to answer, by route and status",
    ["route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=registry,
)
issued = Counter("bwgateway_issued_units", "Units that left as tickets", ["region"], registry=registry)
opened = Counter("bwgateway_opened_tickets", "Tickets shown, by verdict", ["verdict"], registry=registry)
redeemed = Counter("bwgateway_redeemed_items", "Meter readings, by verdict", ["verdict"], registry=registry)
refunded = Counter("bwgateway_refunded_units", "Units that were issued anew", ["region"], registry=registry)
limited = Counter("bwgateway_limited_requests", "Requests refused as too many, by kind", ["by"], registry=registry)
roots = Counter(
    "bwgateway_roots", "Settlement roots by step (closed, posted, claimed)", ["region", "step"], registry=registry
)
posted_wei = Gauge("bwgateway_posted_wei", "Sum of the newest posted root", ["region"], registry=registry)
chain_block = Gauge("bwgateway_chain_block", "Newest block seen", registry=registry)
chain_faults = Counter(
    "bwgateway_chain_faults", "What endpoints got wrong, by kind", ["endpoint", "kind"], registry=registry
)
chain_errors = Counter("bwgateway_chain_errors", "Failed calls to the chain, by kind", ["kind"], registry=registry)
