import Logs
import Vocabulary

extension ConfigurationDecoder {
  /// The addresses of `url` and `urls` without a slash at their end; nil when there is none, which is then reported.
  func sinkURLs(_ view: TreeView, example: String) -> [String]? {
    var urls = (view["url"].texts + view["urls"].texts).map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
    urls = urls.reduce(into: []) { list, url in if !list.contains(url) { list.append(url) } }
    if !urls.isEmpty { return urls }
    if !view.isBroken("url"), !view.isBroken("urls") {
      view.error("`\(view.path)` needs `url`", "add `url: \"\(example)\"`")
    }
    return nil
  }

  func networkSink(_ kind: String, _ view: TreeView) -> LogSinkConfiguration.Output? {
    switch kind {
    case "splunk": splunk(view)
    case "loki": loki(view)
    case "otlp": otlp(view)
    default: http(view)
    }
  }

  private func headers(_ view: TreeView) -> [SinkHeader] {
    view["headers"].entries.sorted { $0.key < $1.key }.compactMap { entry in
      let isName = !entry.key.isEmpty && entry.key.utf8.allSatisfy { isTokenByte($0) }
      if !isName {
        entry.value.error(
          "`\(PlainText.shown(entry.key))` is no name of a field", "use letters, digits and `-`, as in `X-Team`")
      } else if ["content-length", "transfer-encoding", "content-encoding", "host"].contains(entry.key.lowercased()) {
        entry.value.error("`\(view.path).headers` sets `\(entry.key)`, which the sink sets itself", "remove it")
      }
      return declared(entry.value).map { SinkHeader(name: entry.key, value: .secret($0, prefix: "")) }
    }
  }

  /// RFC 9110 section 5.6.2.
  private func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
    }
  }

  private func http(_ view: TreeView) -> LogSinkConfiguration.Output? {
    guard let urls = sinkURLs(view, example: "https://host/logs") else { return nil }
    var output = LogSinkConfiguration.HTTPOutput(urls: urls)
    output.isArray = view["format"].text == "json"
    output.headers = headers(view)
    return .http(output)
  }

  private func splunk(_ view: TreeView) -> LogSinkConfiguration.Output? {
    guard let urls = sinkURLs(view, example: "https://splunk:8088"), let token = declared(view["token"]) else {
      return nil
    }
    var output = LogSinkConfiguration.SplunkOutput(urls: urls, token: token)
    output.index = view["index"].text
    view["sourcetype"].text.assign(to: &output.sourcetype)
    output.source = view["source"].text
    output.host = view["host"].text
    view["ack"].bool.assign(to: &output.acknowledges)
    output.isRaw = view["endpoint"].text == "raw"
    return .splunk(output)
  }

  private func loki(_ view: TreeView) -> LogSinkConfiguration.Output? {
    guard let urls = sinkURLs(view, example: "http://loki:3100") else { return nil }
    var labels = view["labels"].entries.compactMap { entry -> LogSinkConfiguration.LokiOutput.Label? in
      let bytes = Array(entry.key.utf8)
      let isName =
        bytes.first.map { $0 == 0x5F || $0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A } == true
        && bytes.allSatisfy { $0 == 0x5F || (0x30...0x39).contains($0) || (0x61...0x7A).contains($0 | 0x20) }
      if !isName {
        entry.value.error(
          "`\(PlainText.shown(entry.key))` is no name of a label", "use letters, digits and `_`, a letter first")
      }
      return entry.value.text.map { LogSinkConfiguration.LokiOutput.Label(name: entry.key, value: $0) }
    }
    if labels.count > 15 {
      view["labels"].error("`\(view["labels"].path)` has \(labels.count) labels", "Loki takes 15 at most: keep fewer")
    }
    if labels.isEmpty { labels = [LogSinkConfiguration.LokiOutput.Label(name: "source", value: "${source}")] }
    var output = LogSinkConfiguration.LokiOutput(urls: urls, labels: labels.sorted { $0.name < $1.name })
    output.tenant = view["tenant"].text
    view["label_values"].int.assign(to: &output.labelValues)
    output.headers = headers(view)
    return .loki(output)
  }

  private func otlp(_ view: TreeView) -> LogSinkConfiguration.Output? {
    guard let urls = sinkURLs(view, example: "http://collector:4318") else { return nil }
    var output = LogSinkConfiguration.OTLPOutput(urls: urls)
    output.service = view["service"].text
    output.isJSON = view["protocol"].text == "http/json"
    output.headers = headers(view)
    return .otlp(output)
  }

  func syslogSink(_ view: TreeView, hasTLS: Bool) -> LogSinkConfiguration.Output? {
    let addresses = view["address"].elements.compactMap(\.address)
    if addresses.isEmpty { return nil }
    var output = LogSinkConfiguration.SyslogOutput(addresses: addresses)
    output.usesTLS = hasTLS
    output.facility = SyslogFacility.names.firstIndex(of: view["facility"].text ?? "local0") ?? 16
    output.name = view["name"].text
    output.isText = view["format"].text == "text"
    return .syslog(output)
  }

  func forwardSink(_ view: TreeView, hasTLS: Bool) -> LogSinkConfiguration.Output? {
    let addresses = view["address"].elements.compactMap(\.address)
    if addresses.isEmpty { return nil }
    var output = LogSinkConfiguration.ForwardOutput(addresses: addresses)
    output.usesTLS = hasTLS
    view["tag"].text.assign(to: &output.tag)
    view["ack"].bool.assign(to: &output.acknowledges)
    output.sharedKey = declared(view["shared_key"])
    output.user = view["user"].text ?? ""
    output.password = declared(view["password"])
    if output.sharedKey == nil, view["user"].exists || view["password"].exists {
      view.error("`\(view.path)` has a user or a password and no `shared_key`", "add `shared_key`, or remove them")
    }
    return .forward(output)
  }

  func rotation(_ view: TreeView) -> FileRotation? {
    guard view.exists else { return nil }
    var rotation = FileRotation()
    rotation.size = view["size"].size
    rotation.every = view["every"].duration
    view["keep"].int.assign(to: &rotation.keep)
    if rotation.size == nil, rotation.every == nil, !view.isBroken("size"), !view.isBroken("every") {
      view.error("`\(view.path)` does not say when", "add `size: 100MiB` or `every: 24h`")
    }
    return rotation
  }
}
