"""nginx: one worker, 128 kept upstream connections; also the upstream of every row that speaks HTTP/1.1 to it."""

import os

from server import BODY, LOAD_CORE, PROXY_CORE, NotSupported, Server, command, free_port

STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
TEMPORARY = "".join(
    f"{kind}_temp_path {{directory}}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
# As root, nginx would run its worker as another user, whom the counting tools of steady.py cannot reach.
USER = "user root; " if os.geteuid() == 0 else ""
MAIN = (
    USER + "daemon off; worker_processes 1; pid {directory}/pid; error_log stderr crit;\n"
    "events {{ worker_connections 4096; }}\n")
HTTP = MAIN + "http {{ access_log off; keepalive_requests 1000000000; " + TEMPORARY
UPSTREAM = HTTP + (
    "server {{ listen 127.0.0.1:{port}; listen 127.0.0.2:{port}; location / {{ default_type text/plain; return 200 '{body}'; }} }} }}\n")
PROXY = HTTP + (
    "upstream u {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}\n"
    "server {{ listen unix:{directory}/status; location / {{ stub_status; }} }}\n"
    "server {{ listen 127.0.0.1:{port}{listen}; {tls}\n"
    "location / {{ proxy_pass http://u; proxy_http_version 1.1;\n"
    'proxy_set_header Connection ""; proxy_set_header Host $host;\n'
    "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; }} }} }}\n")
STREAM = "load_module " + STREAM_MODULE + ";\n" + MAIN + (
    "stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{upstream}; }} }}\n")


def launch(name, core, text, directory, accepts, **values):
    directory.mkdir(parents=True)
    port = free_port()
    (directory / "nginx.conf").write_text(text.format(directory=directory, port=port, **values))
    return Server(
        name, core, port, [command("nginx"), "-c", directory / "nginx.conf", "-p", directory], directory,
        accepts=accepts)


def start(shape, upstream, directory, certificate=None):
    if shape.features:
        raise NotSupported("nginx has no outlier detection of this kind")
    if shape.speaks == "http2":
        raise NotSupported("nginx speaks HTTP/2 to clients only")
    if shape.accepts == "tcp":
        if not os.path.exists(STREAM_MODULE):
            raise NotSupported(f"there is no {STREAM_MODULE}: run dev/setup.sh bench")
        return launch("nginx", PROXY_CORE, STREAM, directory, "tcp", upstream=upstream)
    tls = ""
    if shape.accepts == "tls":
        tls = (f"ssl_protocols TLSv1.3; ssl_certificate {certificate.certificate}; "
               f"ssl_certificate_key {certificate.key};")
    return launch(
        "nginx", PROXY_CORE, PROXY, directory, shape.accepts, upstream=upstream, tls=tls,
        listen={"tls": " ssl", "http2": " http2"}.get(shape.accepts, ""))


def start_upstream(directory):
    """The server behind the proxies: 100 bytes for every request."""
    return launch("the upstream", LOAD_CORE, UPSTREAM, directory, "http1", body=BODY)
