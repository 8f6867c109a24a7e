import Logs

extension KeyTable {
  static let logs: [Key] = [
    .key(
      "sources", .map(.record(source)), nil,
      "What is read, by name; `app` and, with listeners, `access` exist by default."),
    .key("transforms", .list(.record(transform)), nil, "Changes to every record, in order; each element holds one."),
    .always(
      "spool",
      [
        .key("path", .path, nil, "Its directory; `spool` in the state directory when absent."),
        .key("limit", .size, "1GiB", "Bytes kept for sinks that are behind."),
        .key(
          "when_full", .choice(["block", "drop_oldest", "drop_newest"]), "block", "What gives way when it is full."),
        .key("sync", .choice(["none", "batch"]), "none", "`batch`: on disk before the next batch is read."),
      ], "Where records wait for their sinks."),
    .key(
      "sinks", .variants(common: sink, kinds: sinkKinds), nil,
      "Where records go, by name; `store` exists by default, and `console` when no sink is named."),
    .key("tests", .list(.record(logTests)), nil, "What `outrider validate --test` checks of the transforms."),
  ]

  static let source: [Key] =
    [
      .key("from", .choice(["app", "access"]), nil, "The app's output or the sidecar's access records."),
      .key("files", .oneOrList(.leaf(.path)), nil, "Files to follow; `*` and `?` match within one directory."),
      .key("fifo", .path, nil, "A named pipe to read lines from; made when it is not there."),
      .key("listen", .text, nil, "Where records are sent to: `unix:/path`, `tcp:host:port` or `udp:host:port`."),
      .key(
        "format", .choice(LogSourceConfiguration.ListenFormat.allCases.map(\.rawValue)), "lines",
        "What is spoken there: lines, syslog, Fluent forward, NDJSON over HTTP, or OTLP/HTTP logs."
      ).only(with: "listen"),
      .key("tls", .record(listenTLS), nil, "Senders come in TLS; for `listen: tcp:…`."),
      .key("journald", .record(journald), nil, "systemd's journal, read through `journalctl`."),
      .key("exclude", .oneOrList(.leaf(.path)), nil, "Files to leave out."),
      .key("start", .choice(["end", "beginning"]), "end", "Where a file seen for the first time is read from.")
        .only(with: "files"),
      .key("rotate_wait", .duration, "5s", "A rotated file is still read for this long.").only(with: "files"),
      .key("fingerprint", .size, "1KiB", "So many bytes of a file's beginning tell which file it is.").only(
        with: "files"),
      .key(
        "parse", .leafOr(.choice(["auto", "json", "logfmt", "cri", "docker", "syslog", "none"]), .record(parsing)),
        "auto", "How a line becomes a record."),
      .key(
        "multiline", .leafOr(.choice(["none"] + TraceLanguages.names.map(\.name)), .record(multiline)), "none",
        "How lines are joined: stack traces of a language, `auto` for all of them, or what begins a record."),
      .key("timestamp", .record(timestamp), nil, "Which time of a record is its time, and how it is written."),
      .key("max_record", .size, "1MiB", "A longer line is cut into records of this size."),
    ]

  private static let listenTLS: [Key] =
    listenerTLS.filter { ["from", "certificate", "key", "min_version"].contains($0.name) } + [
      .key(
        "client_ca", .pathOrSecret, nil,
        "A PEM bundle, or `secrets.NAME`: senders must show a certificate that these have signed.")
    ]

  private static let journald: [Key] = [
    .key("units", .oneOrList(.leaf(.text)), nil, "Units whose entries are read; all when absent."),
    .key(
      "matches", .oneOrList(.leaf(.text)), nil,
      "`FIELD=VALUE`: entries that have these fields; several values of one field are alternatives."),
    .key("directory", .path, nil, "Where journal files are, such as a host's mounted `/var/log/journal`."),
    .key("start", .choice(["end", "beginning"]), "end", "Where it is read from the first time."),
  ]

  private static let parsing: [Key] = [
    .key(
      "regex", .text, nil, "A Perl-compatible expression; its named groups become fields, `message` is the line.",
      required: true)
  ]

  private static let multiline: [Key] = [
    .key("start", .text, nil, "A Perl-compatible expression: a line that it matches begins a record.", required: true),
    .key("timeout", .interval, "1s", "A record that got no line for this long is whole."),
  ]

  private static let timestamp: [Key] = [
    .key(
      "field", .text, nil,
      "The field; `@timestamp`, `timestamp`, `time`, `ts` and the beginning of a text line when absent."),
    .key(
      "format", .text, "rfc3339",
      "`rfc3339`, `epoch`, `epoch_ms`, `epoch_us`, `epoch_ns`, or strftime sequences, with `%f` for a second's digits."),
    .key("zone", .text, "local", "`local`, `UTC` or `+02:00`: where times are from that do not say it."),
  ]

  static let clientTLS: [Key] = [
    .key("ca", .path, nil, "A PEM bundle; the system's when absent."),
    .key("certificate", .path, nil, "A PEM client certificate."),
    .key("key", .path, nil, "Its PEM key."),
    .key("verify", .boolean, "true", "Checks the server's certificate."),
  ]

  static let sink: [Key] = [
    .always(
      "batch",
      [
        .key("bytes", .size, "5MiB", "A batch is sent at this size."),
        .key("records", .integer(1...10_000_000), "10000", "A batch is sent at this count."),
        .key("age", .interval, "1s", "A batch is sent at this age."),
      ], "When a batch is sent."),
    .key("compress", .choice(["gzip", "none"]), "gzip", "The request body's coding."),
    .always(
      "retry",
      [
        .key("initial", .interval, "1s", "First wait after a failure."),
        .key("max", .interval, "60s", "Longest wait."),
        .key("give_up", .word(["never"], or: .duration), "never", "A batch this old goes to the dead letter file."),
      ], "What follows a failure."),
    .key("dead_letter", .path, nil, "Refused records; `dead-letter/NAME.ndjson` in the state directory when absent."),
    .key("tls", .record(clientTLS), nil, "How the server is checked."),
    .key("concurrency", .integer(1...64), "1", "Batches in flight."),
    .key("from", .oneOrList(.leaf(.text)), nil, "Names of sources; all when absent."),
  ]

  private static let elasticsearch: [Key] = [
    .key("url", .oneOrList(.leaf(.url)), nil, "One or more `http://host:port` or `https://host:port`."),
    .key("urls", .oneOrList(.leaf(.url)), nil, "The same as `url`."),
    .key("index", .recordText, nil, "May hold strftime sequences (`shop-%Y.%m.%d`) and `${field}`.", required: true),
    .key("data_stream", .boolean, "false", "The index is a data stream."),
    .key("id", .choice(["deterministic", "none"]), "deterministic", "A record sent twice is stored once, or not."),
    .key("pipeline", .text, nil, "An ingest pipeline."),
    .key(
      "auth",
      .record([
        .key(
          "basic",
          .record([
            .key("user", .text, nil, "The user.", required: true),
            .key("password", .secretText, nil, "The password.", sensitive: true, required: true),
          ]), nil, "User and password."),
        .key("api_key", .secretText, nil, "An API key.", sensitive: true),
      ]), nil, "How the sink shows itself."),
  ]

  static let sinkKinds: [Key] =
    [
      .key("elasticsearch", .record(elasticsearch), nil, "Elasticsearch, with the bulk API."),
      .key("opensearch", .record(elasticsearch), nil, "OpenSearch, with the bulk API."),
      .key(
        "store",
        .record([
          .key("path", .path, nil, "Its directory; `store` in the state directory when absent."),
          .key("keep", .size, "256MiB", "Oldest records go beyond this size."),
        ]), nil, "The local store, read by `outrider logs`."),
      .key(
        "console", .record([.key("pretty", .boolean, "false", "Adds time, level and colour.")]), nil,
        "The sidecar's own output."),
      .key(
        "file", .record([.key("path", .path, nil, "The file.", required: true), rotate]), nil,
        "NDJSON in a file."),
    ] + networkSinkKinds
}
