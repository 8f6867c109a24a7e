extension KeyTable {
  static func listener(inbound: Bool) -> [Key] {
    [
      .key(
        "listen", .oneOrList(.leaf(.address)), nil, "One or more addresses to accept connections on.", required: true),
      .key("protocol", .choice(["auto", "http", "tcp"]), "auto", "What is spoken; `auto` looks at the first bytes."),
      .key(
        "to", .oneOrList(.leaf(.target)), inbound ? "app" : nil,
        "Where requests go that no route takes: `app`, a cluster's name, `http://host:port`, `https://host`, `tcp://host:port`, `unix:/path` or a list of these."
      ),
      .key("routes", .list(.record(route)), nil, "Rules for requests, first match wins."),
      .key("timeout", .duration, "15s", "Until the response head is complete, all tries included; 0 = none."),
      .key("idle_timeout", .interval, "5m", "A stream without progress is ended after this."),
      .key("head_timeout", .interval, "10s", "A request head must be complete within this time from its first byte."),
      .key("downstream_idle", .interval, "1h", "A connection without a request is closed after this."),
      .key("retries", .leafOr(.integer(0...100), .record(retries)), defaultRetries, retriesSummary),
      .key("headers", .record(headers), nil, "Changes to header fields."),
      .key(
        "inject", .map(.leaf(.secretText)), nil, "Request fields set just before sending; values may hold secrets.",
        sensitive: true),
      .key(
        "limits",
        .record([.key("connections", .integer(1...1_000_000), nil, "Concurrent connections."), rate]), nil,
        "Limits of this listener."),
      authorize, fault,
      .key(
        "transparent", .boolean, "false",
        "Takes connections that the kernel redirected (`outrider intercept up`); they go where they were going."),
      .key(
        "proxy_protocol", .choice(["off", "v1", "v2"]), "off",
        "The PROXY header that every connection must begin with; connections without it are refused."),
      .key("access_log", .leafOr(.boolean, .record(accessLog)), "true", "Access records."),
      .key("tls", .record(listenerTLS), nil, "Terminates TLS."),
    ] + (inbound ? [] : [forwardProxy])
  }

  private static let forwardProxy = Key.key(
    "forward_proxy",
    .leafOr(
      .boolean,
      .record([
        .key("hosts", .oneOrList(.leaf(.text)), nil, "`name`, `*.suffix`, address or range; every host when absent."),
        .key("ports", .oneOrList(.leaf(.integer(1...65535))), nil, "Every port when absent."),
      ])), "false",
    "Requests that no route takes go where they say themselves: absolute-form and CONNECT. Never to the sidecar itself."
  )

  private static let edits: [Key] = [
    .key("set", .map(.leaf(.text)), nil, "Fields set, in place of any there."),
    .key("add", .map(.leaf(.text)), nil, "Fields added."),
    .key("remove", .oneOrList(.leaf(.headerName)), nil, "Fields removed."),
  ]

  static let headers: [Key] = [
    .key("request", .record(edits), nil, "Towards the upstream."),
    .key("response", .record(edits), nil, "Towards the client."),
  ]

  static let route: [Key] =
    [
      .key("name", .text, nil, "Its name in metrics and access records; `route-N` when absent."),
      .key("match", .record(routeMatch), nil, "What it takes; everything when absent."),
      .key("to", .oneOrList(.leaf(.target)), nil, "As the listener's `to`."),
      .key(
        "split", .map(.leaf(.integer(0...1_000_000))), nil,
        "Several targets, as in `to`, each with its weight: `split: { stable: 95, next: 5 }`."),
      .key("redirect", .record(redirect), nil, "Answers with a redirect."),
      .key(
        "respond",
        .record([
          .key("status", .integer(200...599), "200", "The status."),
          .key("body", .text, "\"\"", "The body."),
          .key("headers", .map(.leaf(.text)), nil, "The fields."),
        ]), nil, "Answers itself."),
      .key("rewrite", .record(rewrite), nil, "Changes the request's target."),
      .key(
        "mirror", .leafOr(.target, .record(mirror)), nil,
        "Sends a copy of each request there; answers are read and forgotten."),
      .key("timeout", .duration, nil, "In place of the listener's."),
      .key("retries", .leafOr(.integer(0...100), .record(retries)), nil, "In place of the listener's."),
      .key("headers", .record(headers), nil, "Besides the listener's."),
      .key("inject", .map(.leaf(.secretText)), nil, "Besides the listener's.", sensitive: true),
      .key("limits", .record([rate]), nil, "Limits of this route, besides the listener's."),
      authorize, fault,
    ]

  static let cluster: [Key] =
    discovery + balancing + [
      .key(
        "protocol", .choice(["auto", "http1", "http2"]), "auto",
        "What is spoken to the endpoints; `auto` asks in TLS (ALPN), and is HTTP/1.1 in plaintext."),
      .key(
        "proxy_protocol", .choice(["off", "v1", "v2"]), "off",
        "The PROXY header that connections to the endpoints begin with, to tell them the client's address."),
      .always(
        "limits",
        [
          .key("connections", .integer(1...1_000_000), "1024", "Connections to the cluster."),
          .key("pending", .integer(1...1_000_000), "1024", "Requests waiting for a connection."),
          .key("requests", .integer(1...1_000_000), "1024", "Requests in flight."),
        ], "The circuit breaker."),
      .key("connect_timeout", .interval, "5s", "Longest time to connect."),
      .always(
        "pool",
        [
          .key(
            "idle", .duration, "4s",
            "An unused connection of HTTP/1.1 is closed after this; one of HTTP/2 after an hour."),
          .key("max_requests", .integer(1...1_000_000_000), nil, "Requests on one connection."),
        ], "Kept connections."),
      .always(
        "retry_budget",
        [
          .key("percent", .integer(0...100), "20", "Retries as a part of active requests."),
          .key("min", .integer(0...1_000_000), "3", "Concurrent retries that are always allowed."),
        ], "Bounds retries over the whole cluster."),
      .key("tls", .leafOr(.boolean, .record(clusterTLS)), nil, "Connects in TLS; `true` with every default."),
    ] + availability
}
