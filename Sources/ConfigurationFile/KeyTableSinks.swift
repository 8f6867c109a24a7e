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
      .key("protocol", .choice(["http"]), "http", "OTLP/HTTP with protobuf."),
      .key("service", .text, nil, "`service.name`; the name of the record's source when absent."), sinkHeaders,
    ]

  static let networkSinkKinds: [Key] = [
    .key("http", .record(http), nil, "NDJSON or JSON arrays by HTTP."),
    .key("splunk", .record(splunk), nil, "Splunk's HTTP Event Collector."),
    .key("loki", .record(loki), nil, "Grafana Loki."),
    .key("otlp", .record(otlp), nil, "An OpenTelemetry receiver."),
  ]
}
