"""Envoy: one worker thread, its statistics on, its admin interface on a Unix socket."""

import glob
import json

from server import PROXY_CORE, ROOT, Server, command, free_port

FILTERS = "type.googleapis.com/envoy.extensions.filters"
EXTENSIONS = "type.googleapis.com/envoy.extensions"


def address(number):
    return {"socket_address": {"address": "127.0.0.1", "port_value": number}}


def http_filter(shape):
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "codec_type": "HTTP2" if shape.accepts == "http2" else "HTTP1",
        "generate_request_id": True, "use_remote_address": True,
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "u"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": f"{FILTERS}.http.router.v3.Router"}}]}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def tcp_filter():
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": f"{FILTERS}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "bench", "cluster": "u"}}


def configuration(shape, port, upstream, directory, certificate):
    chain = {"filters": [tcp_filter() if shape.accepts == "tcp" else http_filter(shape)]}
    if shape.accepts == "tls":
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{
                    "certificate_chain": {"filename": str(certificate.certificate)},
                    "private_key": {"filename": str(certificate.key)}}]}}}
    cluster = {"name": "u", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
        "cluster_name": "u", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]}}
    if shape.speaks == "http2":
        cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}
    return {
        "admin": {"address": {"pipe": {"path": str(directory / "admin")}}},
        "static_resources": {
            "listeners": [{"name": "l", "address": address(port), "filter_chains": [chain]}], "clusters": [cluster]}}


def start(shape, upstream, directory, certificate=None):
    directory.mkdir(parents=True)
    port = free_port()
    (directory / "envoy.yaml").write_text(json.dumps(configuration(shape, port, upstream, directory, certificate)))
    found = glob.glob(str(ROOT / ".venv/lib/python*/site-packages/envoy/_bin/envoy"))
    envoy = found[0] if found else command("envoy")
    return Server(
        "Envoy", PROXY_CORE, port,
        [envoy, "-c", directory / "envoy.yaml", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"],
        directory, accepts=shape.accepts)
