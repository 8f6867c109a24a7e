"""Medians, ratios within rotations, and the Markdown tables."""

import statistics


def middle(bursts, key):
    return statistics.median(burst[key] for burst in bursts)


def ratio(results, name, bases, key):
    """The median of the ratios within each rotation to the best of `bases`, or None without one of them."""
    if name not in results or any(base not in results for base in bases):
        return None
    rotations = zip(results[name], *(results[base] for base in bases))
    ratios = [own[key] / best for own, *others in rotations if (best := min(other[key] for other in others))]
    return statistics.median(ratios) if ratios else None


def table(columns, results):
    """`columns` maps a heading to (all results of a load, proxy, its bursts) → text.

    `results` is {load: {proxy: bursts}}.
    """
    lines = ["| " + " | ".join(["Proxy", "Load", *columns]) + " |", "|" + " --- |" * (len(columns) + 2)]
    for load, rows in results.items():
        for name, bursts in rows.items():
            cells = [cell(rows, name, bursts) for cell in columns.values()]
            lines.append("| " + " | ".join([name, load, *cells]) + " |")
    return "\n".join(lines)


def shown(value):
    return "–" if value is None else f"{value:.2f}"


def number(key, form=",.0f"):
    return lambda rows, name, bursts: format(middle(bursts, key), form)


def against(peer, key):
    return lambda rows, name, bursts: shown(ratio(rows, name, (peer,), key))


def processor(rows, name, bursts):
    return f"{middle(bursts, 'cpu'):.1f} ({middle(bursts, 'user'):.1f}+{middle(bursts, 'system'):.1f})"


REQUESTS = {
    "requests/s": number("rate"), "CPU µs/request (user+sys)": processor,
    "× HAProxy": against("HAProxy", "cpu"), "× nginx": against("nginx", "cpu"), "× Envoy": against("Envoy", "cpu"),
    "p50 µs": number("p50"), "p99 µs": number("p99"), "p50 × HAProxy": against("HAProxy", "p50"),
    "RSS MiB idle → loaded": lambda rows, name, bursts:
        f"{middle(bursts, 'rss 0'):.1f} → {middle(bursts, 'rss'):.1f}",
}
HANDSHAKES = {
    "handshakes/s": number("rate"), "CPU µs each (user+sys)": processor,
    "× HAProxy": against("HAProxy", "cpu"), "× nginx": against("nginx", "cpu"), "× Envoy": against("Envoy", "cpu"),
}
MEMORY = {
    "RSS MiB, 0 → idle connections": lambda rows, name, bursts:
        f"{middle(bursts, 'rss 0'):.1f} → {middle(bursts, 'rss'):.1f}",
    "private MiB, 0 → idle connections": lambda rows, name, bursts:
        f"{middle(bursts, 'private 0'):.1f} → {middle(bursts, 'private'):.1f}",
    "private KiB a connection": number("each", ".1f"), "× HAProxy": against("HAProxy", "each"),
    "× Envoy": against("Envoy", "each"),
}
HALF_LOAD = {
    "requests/s": number("rate"), "p50 µs": number("p50"), "p99 µs": number("p99"), "p99.9 µs": number("p999"),
    "p99 × HAProxy": against("HAProxy", "p99"), "p99 × nginx": against("nginx", "p99"),
    "CPU µs/request (user+sys)": processor,
}
