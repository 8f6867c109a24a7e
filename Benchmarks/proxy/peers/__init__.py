"""The proxies that are compared, each with the same duties: see Benchmarks/README.md."""

from . import envoy, haproxy, nginx, outrider

# Each starts a proxy: (shape, port of the upstream, directory to make, certificate) → Server, or NotSupported.
STARTERS = {
    "outrider": outrider.start,
    "haproxy": haproxy.start,
    "nginx": nginx.start,
    "envoy": envoy.start,
}
NAMES = {"outrider": "Outrider", "haproxy": "HAProxy", "nginx": "nginx", "envoy": "Envoy"}
