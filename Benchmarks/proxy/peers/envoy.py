"""Envoy: one worker thread, its statistics on, its admin interface on a Unix socket."""

import glob
import json

from server import PROXY_CORE, ROOT, Server, command, free_port

FILTERS = "type.googleapis.com/envoy.extensions.filters"
EXTENSIONS = "type.googleapis.com/envoy.extensions"


def address(number, host="127.0.0.1"):
    return {"socket_address": {"address": host, "port_value": number}}


def features(directory):
    """Routes with retries, and an access record of each request."""
    route = {"cluster": "u", "retry_policy": {"retry_on": "5xx,reset", "num_retries": 2}}
    matches = [
        {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"exact": "other.example.com"}}]},
        {"prefix": "/api/", "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|POST"}}}]},
        {"prefix": "/", "headers": [{"name": "x-canary", "string_match": {"exact": "yes"}}]},
        {"prefix": "/"}]
    record = {
        "time": "%START_TIME%", "request_id": "%REQ(X-REQUEST-ID)%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%",
        "protocol": "%PROTOCOL%", "status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%", "total_ms": "%DURATION%", "endpoint": "%UPSTREAM_HOST%",
        "cluster": "%UPSTREAM_CLUSTER%", "route": "%ROUTE_NAME%", "client": "%DOWNSTREAM_REMOTE_ADDRESS%"}
    return {
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": match, "route": route} for match in matches]}]},
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": f"{EXTENSIONS}.access_loggers.file.v3.FileAccessLog", "path": str(directory / "access.log"),
            "log_format": {"json_format": record}}}]}


def http_filter(shape, directory):
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "codec_type": "HTTP2" if shape.accepts == "http2" else "HTTP1",
        "generate_request_id": True, "use_remote_address": True,
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "u"}}]}]},
        **(features(directory) if shape.features else {}),
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": f"{FILTERS}.http.router.v3.Router"}}]}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def tcp_filter():
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": f"{FILTERS}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "bench", "cluster": "u"}}


def configuration(shape, port, upstream, directory, certificate):
    chain = {"filters": [tcp_filter() if shape.accepts == "tcp" else http_filter(shape, directory)]}
    if shape.accepts == "tls":
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{
                    "certificate_chain": {"filename": str(certificate.certificate)},
                    "private_key": {"filename": str(certificate.key)}}]}}}
    hosts = ["127.0.0.1", "127.0.0.2"] if shape.features else ["127.0.0.1"]
    cluster = {"name": "u", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
        "cluster_name": "u", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(upstream, host)}} for host in hosts]}]}}
    if shape.features:
        cluster |= {"outlier_detection": {}, "lb_policy": "LEAST_REQUEST"}
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
