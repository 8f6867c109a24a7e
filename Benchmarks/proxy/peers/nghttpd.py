"""nghttpd, the upstream of the row that speaks HTTP/2 to it: 100 bytes and the trailer field of a gRPC reply."""

from server import BODY, LOAD_CORE, Server, command, free_port


def start_upstream(directory):
    site = directory / "site"
    site.mkdir(parents=True)
    (site / "index.html").write_text(BODY)
    port = free_port()
    return Server(
        "the HTTP/2 upstream", LOAD_CORE, port,
        [command("nghttpd"), "--no-tls", "-a", "127.0.0.1", "-d", site, "--trailer", "grpc-status: 0", port],
        directory, accepts="http2")
