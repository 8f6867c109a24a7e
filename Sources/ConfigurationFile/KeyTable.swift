/// Every key of the contract, in one place: checks, schema, explanation and documentation come from here.
enum KeyTable {
  static let root: [Key] = [
    .always("app", app, "The app: what to run, how to know that it is ready, how to stop it."),
    .key(
      "inbound", .map(.record(listener(inbound: true))), nil,
      "Listeners for traffic from the network to the app, by name."),
    .key(
      "outbound", .map(.record(listener(inbound: false))), nil, "Listeners for traffic from the app to others, by name."
    ),
    .key("clusters", .map(.record(cluster)), nil, "Groups of upstream endpoints, by name."),
    .always("logs", logs, "What is collected, how it is changed, and where it goes."),
    .always("secrets", secrets, "Where secrets come from and where they are delivered."),
    .always("telemetry", telemetry, "What the sidecar tells about itself."),
    .always("admin", admin, "The admin API: health, metrics and status."),
    .always("shutdown", shutdown, "How long a stop may take."),
    .key("threads", .word(["auto"], or: .integer(1...256)), "auto", "Event loops; `auto` is one a core, at most 4."),
    resolvers,
    .key("state", .path, nil, "The state directory: spool, store, checkpoints and control socket."),
    .key(
      "include", .oneOrList(.leaf(.path)), nil,
      "Files merged into this one; maps merge, everything else may be said once."),
  ]

  static let app: [Key] =
    [
      .key("command", .list(.leaf(.text)), nil, "The program and its arguments; `outrider run -- CMD` overrides it."),
      .key("working_directory", .path, nil, "Where the app starts; the sidecar's own directory when absent."),
      .key("user", .text, nil, "A user name or number to run as."),
      .key("group", .text, nil, "A group name or number to run as."),
      .key("env", .map(.leaf(.secretText)), nil, "Environment variables added to the app's; values may hold secrets."),
      .key("port", .integer(1...65535), nil, "The port that the app listens on."),
      .key("address", .text, "127.0.0.1", "The address that the app listens on."),
      .key(
        "ready", .record(ready), nil, "How to know that the app is ready; without it, the app is ready once started."),
      .key(
        "restart", .choice(["never", "on-failure", "always"]), "never", "When the app is started again after it ended."),
      .always(
        "stop",
        [
          .key("signal", .signal, "SIGTERM", "Asks the app to stop."),
          .key("grace", .duration, "30s", "After this the app is killed."),
        ], "How the app is stopped."),
      .key(
        "proxy_env", .boolean, "false",
        "Tells the app the forward proxy in `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`; `env` wins over them."),
    ]

  static let ready: [Key] = [
    .key("http", .urlPath, nil, "Ready when GET of this path answers 2xx or 3xx."),
    .key("tcp", .boolean, nil, "Ready when the port accepts a connection."),
    .key("exec", .list(.leaf(.text)), nil, "Ready when this command exits with 0."),
    .key("fd", .boolean, nil, "Ready when the app writes a newline to the descriptor named in `OUTRIDER_READY_FD`."),
    .key("interval", .interval, "1s", "Time between probes."),
    .key("timeout", .interval, "500ms", "Longest time for one probe."),
    .key("healthy", .integer(1...1000), "1", "Successes in a row until ready."),
    .key("unhealthy", .integer(1...1000), "3", "Failures in a row until not ready."),
    .key("deadline", .interval, "60s", "The first success must come within this time."),
  ]

  static let telemetry: [Key] =
    [
      .always("metrics", metrics, "Metrics: shown, and sent to receivers."),
      .key("tracing", .record(tracing), nil, "Traces, sent by OTLP/HTTP."), storiesKey,
      .key(
        "scrape", .oneOrList(.leaf(.url)), nil,
        "Prometheus endpoints of the app, as `http://127.0.0.1:8080/metrics`; `/metrics` shows them beside its own."),
    ]

  static let admin: [Key] = [
    .key(
      "listen", .word(["false"], or: .address), "127.0.0.1:15000",
      "Where the admin API listens; `false` switches it off."),
    .key("socket", .path, nil, "Its Unix socket; `outrider.sock` in the state directory when absent."),
  ]

  static let shutdown: [Key] = [
    .key(
      "drain_delay", .duration, "0s", "Listeners still accept for this long after readiness fails; 5s in Kubernetes."),
    .key("drain_timeout", .duration, "30s", "Requests in flight may take this long."),
    .key("deadline", .interval, "60s", "The whole stop may take this long."),
  ]
}
