import Supervisor
import Telemetry
import Traffic
import Vocabulary

extension KeyTable {
  static let tracing: [Key] = [
    .key("otlp", .url, nil, "The collector, as `http://collector:4318`; `/v1/traces` is added.", required: true),
    .key(
      "sample", .fraction, "0.01",
      "Part of the requests that begin a trace; those that come with one follow its flag."),
    .key("service_name", .text, nil, "`service.name` of the spans; the app's command when absent."),
    .key(
      "headers", .map(.leaf(.secretText)), nil, "Fields of each export; values may hold secrets.", sensitive: true),
  ]

  static let metrics: [Key] = [
    .key("prometheus", .choice(["true"], planned: ["false"]), "true", "Serves `/metrics` on the admin port."),
    .key(
      "otlp", .leafOr(.url, .record(receiver("http://collector:4318", "/v1/metrics"))), nil,
      "A collector that gets what `/metrics` shows, by OTLP/HTTP: its URL, or a record."),
    .key(
      "remote_write", .leafOr(.url, .record(receiver("http://prometheus:9090", "/api/v1/write"))), nil,
      "A Prometheus (or Mimir, Thanos, VictoriaMetrics) that gets it by remote write: its URL, or a record."),
    .key("interval", .interval, "15s", "How often they get it."),
    .key(
      "service_name", .text, nil, "`service.name` there, or the label `job`; the app's command when absent."),
    .key("labels", .map(.leaf(.text)), nil, "Added to every series, or attributes of the resource."),
  ]

  private static func receiver(_ example: String, _ path: String) -> [Key] {
    [
      .key("url", .url, nil, "Its address, as `\(example)`; `\(path)` is added when it has no path.", required: true),
      .key(
        "headers", .map(.leaf(.secretText)), nil, "Fields of each request; values may hold secrets.", sensitive: true),
    ]
  }

  static let storiesKey = Key.key(
    "stories",
    .leafOr(
      .boolean,
      .record([
        .key("keep", .interval, "5m", "How long a request is remembered."),
        .key("memory", .size, "4MiB", "At most so much for all of them."),
        .key(
          "slow", .interval, "1s", "Requests that take this long are always remembered, as errors and retried ones are."
        ),
        .key("sample", .fraction, "0.01", "Part of the other requests that is remembered."),
      ])), "true", "What `outrider explain request` tells.")
}

extension ConfigurationDecoder {
  func takeTelemetry(_ view: TreeView, _ value: inout OutriderConfiguration) {
    value.traffic.stories = stories(view["stories"])
    value.scrape = scrape(view["scrape"])
    value.traffic.metricPush = metricPush(
      view["metrics"], serviceName: value.app.command.first.map(FilePath.name) ?? "outrider")
    let tracing = view["tracing"]
    guard tracing.exists, let text = tracing["otlp"].text, let endpoint = Endpoint(url: text) else { return }
    let path = "/v1/traces"
    var url = text
    while url.hasSuffix("/") { url.removeLast() }
    if endpoint.path.isEmpty || !endpoint.path.hasSuffix(path) { url += path }
    var result = TracingConfiguration(
      url: url, serviceName: value.app.command.first.map(FilePath.name) ?? "outrider")
    tracing["sample"].fraction.assign(to: &result.sample)
    tracing["service_name"].text.assign(to: &result.serviceName)
    result.headers = injected(tracing["headers"])
    value.traffic.tracing = result
  }

  private func metricPush(_ view: TreeView, serviceName: String) -> MetricPushConfiguration? {
    var push = MetricPushConfiguration(serviceName: serviceName)
    for (format, path) in [(MetricPushConfiguration.Format.otlp, "/v1/metrics"), (.remoteWrite, "/api/v1/write")] {
      let place = view[format.rawValue]
      guard let text = place.text ?? place["url"].text, let endpoint = Endpoint(url: text) else { continue }
      var url = text
      if endpoint.path.isEmpty || endpoint.path == "/" {
        while url.hasSuffix("/") { url.removeLast() }
        url += path
      }
      var receiver = MetricPushConfiguration.Receiver(format: format, url: url)
      receiver.headers = injected(place["headers"])
      push.receivers.append(receiver)
    }
    view["interval"].duration.assign(to: &push.interval)
    if push.interval < .seconds(1) {
      view["interval"].error("`\(view.path).interval` is too short", "write 1s or more")
    }
    view["service_name"].text.assign(to: &push.serviceName)
    for entry in view["labels"].entries {
      guard let text = entry.value.text else { continue }
      if !Self.isLabel(entry.key) {
        report.error(
          entry.mark, "`\(PlainText.shown(entry.key))` is no label's name",
          "use letters, digits and `_`, and neither a digit nor `__` in front")
      }
      push.labels.append(Label(entry.key, text))
    }
    return push.receivers.isEmpty ? nil : push
  }

  private static func isLabel(_ name: String) -> Bool {
    guard let first = name.utf8.first, !(0x30...0x39).contains(first), !name.hasPrefix("__") else { return false }
    return name.utf8.allSatisfy {
      (0x61...0x7A).contains($0 | 0x20) || (0x30...0x39).contains($0) || $0 == 0x5F
    }
  }

  private func scrape(_ view: TreeView) -> [String] {
    var targets: [String] = []
    for element in view.elements {
      guard let text = element.text else { continue }
      if targets.contains(text) { element.error("`\(element.path)` stands twice", "remove one of them") }
      if text.contains("\"") || text.contains("\\") {
        element.error("`\(element.path)` is no URL", "write `http://127.0.0.1:8080/metrics`")
      }
      targets.append(text)
    }
    if targets.count > 16 { view.error("`\(view.path)` has more than 16 URLs", "let Prometheus scrape some itself") }
    return targets
  }

  private func stories(_ view: TreeView) -> StoriesConfiguration {
    var stories = StoriesConfiguration()
    guard view.exists else { return stories }
    if view.isScalar {
      stories.isOn = view.bool != false
      return stories
    }
    view["keep"].duration.assign(to: &stories.keep)
    view["slow"].duration.assign(to: &stories.slow)
    view["sample"].fraction.assign(to: &stories.sample)
    view["memory"].size.assign(to: &stories.memory)
    if stories.memory < 64 << 10 || stories.memory > 1 << 30 {
      view["memory"].error("`\(view.path).memory` is out of range", "write a size from 64KiB to 1GiB")
    }
    return stories
  }
}
