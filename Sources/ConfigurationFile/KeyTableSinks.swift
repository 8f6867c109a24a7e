import Logs

extension KeyTable {
  private static func urls(_ summary: String) -> [Key] {
    [
      .key("url", .oneOrList(.leaf(.url)), nil, summary),
      .key("urls", .oneOrList(.leaf(.url)), nil, "The same as `url`."),
    ]
  }

  private static let sinkHeaders = Key.key(
    "headers", .map(.leaf(.secretText)), nil, "Fields of each request; values may hold secrets.", sensitive: true)

  private static let http: [Key] =
    urls("One or more addresses to POST to; the next one after a failure.") + [
      .key("format", .choice(["ndjson", "json"]), "ndjson", "A record a line, or one JSON array."), sinkHeaders,
    ]

  private static let splunk: [Key] =
    urls("One or more `https://host:8088`; `/services/collector/event` is added.") + [
      .key("token", .secretText, nil, "The collector's token.", sensitive: true, required: true),
      .key("index", .text, nil, "The index; the token's own when absent."),
      .key("sourcetype", .text, "_json", "How Splunk reads the event."),
      .key("source", .text, nil, "The event's source; the name of the record's source when absent."),
      .key("host", .text, nil, "The event's host; the machine's name when absent."),
      .key(
        "endpoint", .choice(["event", "raw"]), "event",
        "`event`: records with their times; `raw`: lines as the app wrote them, which Splunk reads by `sourcetype`."),
      .key("ack", .boolean, "false", "Waits until the indexers have the events on disk (indexer acknowledgment)."),
    ]

  private static let loki: [Key] =
    urls("One or more `http://host:3100`; `/loki/api/v1/push` is added.") + [
      .key(
        "labels", .map(.leaf(.recordText)), nil,
        "Labels of the streams; values may hold `${field}`. `source: \"${source}\"` when absent."),
      .key("label_values", .integer(1...10_000), "100", "Different values of a label; further ones become `other`."),
      .key("tenant", .text, nil, "Sent as `X-Scope-OrgID`."), sinkHeaders,
    ]

  private static let otlp: [Key] =
    urls("One or more `http://host:4318`; `/v1/logs` is added.") + [
      .key(
        "protocol", .choice(["http", "http/protobuf", "http/json"]), "http",
        "OTLP/HTTP with protobuf (`http` and `http/protobuf`) or with JSON."),
      .key("service", .text, nil, "`service.name`; the name of the record's source when absent."), sinkHeaders,
    ]

  private static let addresses = Key.key(
    "address", .oneOrList(.leaf(.address)), nil,
    "One or more `host:port` or `unix:/path`, the next one after a failure; in TLS when the sink has `tls`.",
    required: true)

  private static let syslog: [Key] = [
    addresses,
    .key("facility", .choice(SyslogFacility.names), "local0", "The facility of the messages."),
    .key("name", .text, nil, "APP-NAME; the name of the record's source when absent."),
    .key("format", .choice(["json", "text"]), "json", "The whole record, or its message alone."),
  ]

  private static let forward: [Key] = [
    addresses,
    .key("tag", .text, "outrider", "The tag of the messages."),
    .key("ack", .boolean, "true", "Waits until the server acknowledges each chunk."),
    .key("shared_key", .secretText, nil, "Logs in with this key.", sensitive: true),
    .key("user", .text, nil, "The user, where the server asks for one."),
    .key("password", .secretText, nil, "The user's password.", sensitive: true),
  ]

  static let rotate = Key.key(
    "rotate",
    .record([
      .key("size", .size, nil, "A new file begins before the file grows beyond this."),
      .key("every", .interval, nil, "A new file begins with each such period, counted in UTC: `24h` at midnight."),
      .key("keep", .integer(1...1000), "5", "Former files that stay: `PATH.1` is the newest."),
    ]), nil, "When a new file begins; never when absent.")

  static let networkSinkKinds: [Key] = [
    .key("http", .record(http), nil, "NDJSON or JSON arrays by HTTP."),
    .key("splunk", .record(splunk), nil, "Splunk's HTTP Event Collector."),
    .key("loki", .record(loki), nil, "Grafana Loki."),
    .key("otlp", .record(otlp), nil, "An OpenTelemetry receiver."),
    .key("syslog", .record(syslog), nil, "Syslog (RFC 5424) over TCP or TLS."),
    .key("forward", .record(forward), nil, "Fluentd's forward protocol."),
  ]
}
