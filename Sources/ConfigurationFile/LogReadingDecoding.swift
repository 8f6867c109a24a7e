import Logs
import RegularExpressions
import Traffic
import Vocabulary

/// How a source's lines are joined, parsed and dated.
extension ConfigurationDecoder {
  func reading(_ view: TreeView, _ source: inout LogSourceConfiguration) {
    view["parse"].choice(LogSourceConfiguration.Parser.self).assign(to: &source.parser)
    if let expression = expression(view["parse"]["regex"], .somewhere) {
      if expression.names.isEmpty {
        view["parse"]["regex"].error(
          "`\(view.path).parse.regex` names no group, so it would find no field", "write groups as `(?<name>…)`")
      } else if expression.groups > PatternReader.mostGroups {
        view["parse"]["regex"].error(
          "`\(view.path).parse.regex` has more than \(PatternReader.mostGroups) groups",
          "write `(?:…)` where no field is meant")
      }
      source.pattern = expression
    }
    if case .listen(let input) = source.input, input.format == .syslog, source.parser == .auto, source.pattern == nil {
      source.parser = .syslog
    }
    source.multiline = multiline(view["multiline"])
    timestamp(view["timestamp"], &source)
  }

  /// False, with a complaint, when the source names another place to read from as well.
  func only(_ key: String, _ view: TreeView) -> Bool {
    guard let other = ["from", "files", "fifo", "listen", "journald"].first(where: { $0 != key && view[$0].exists })
    else {
      return true
    }
    view.error("`\(view.path)` has both `\(other)` and `\(key)`", "keep one of them")
    return false
  }

  func listen(_ view: TreeView) -> LogSourceConfiguration.ListenInput? {
    guard let text = view["listen"].text else { return nil }
    guard let address = ListenAddress(text) else {
      view["listen"].error(
        "`\(view.path).listen` is no place to listen: `\(PlainText.shown(text))`",
        "write `unix:/path`, `tcp:127.0.0.1:5140` or `udp:127.0.0.1:5140`, with a literal address")
      return nil
    }
    let format = view["format"].choice(LogSourceConfiguration.ListenFormat.self) ?? .lines
    if case .udp = address, format != .lines, format != .syslog {
      view["format"].error("`\(view.path).format` cannot be spoken over UDP", "listen on `tcp:` or `unix:`")
    }
    if format != .lines, view["multiline"].exists, view["multiline"].text != "none" {
      view["multiline"].error(
        "`\(view.path).multiline` joins lines, and `\(format.rawValue)` has records of its own",
        "remove it, or use `format: lines`")
    }
    var input = LogSourceConfiguration.ListenInput(address: address, format: format)
    input.tls = sourceTLS(view["tls"])
    if input.tls != nil, !address.isTCP {
      view["tls"].error("`\(view.path).tls` is for `listen: tcp:…` only", "remove it, or listen on `tcp:`")
    }
    return input
  }

  private func sourceTLS(_ view: TreeView) -> LogListenerTLS? {
    guard view.exists, let certificate = certificate(view, required: true) else { return nil }
    var tls: LogListenerTLS
    switch certificate {
    case .secret(let name): tls = LogListenerTLS(certificate: .secret(name))
    case .files(let certificate, let key):
      tls = LogListenerTLS(certificate: .files(certificate: certificate, key: key))
    }
    switch trust(view["client_ca"]) {
    case nil, .system: break
    case .file(let path): tls.clientCA = .file(path)
    case .secret(let name): tls.clientCA = .secret(name)
    }
    tls.isModern = view["min_version"].text == "1.3"
    return tls
  }

  func journal(_ view: TreeView) -> LogSourceConfiguration.JournalInput {
    var input = LogSourceConfiguration.JournalInput()
    let journald = view["journald"]
    input.units = journald["units"].elements.compactMap(\.text)
    for element in journald["matches"].elements {
      guard let text = element.text else { continue }
      let name = text.prefix { $0 != "=" }
      let isName =
        !name.isEmpty
        && name.utf8.allSatisfy {
          (0x41...0x5A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5F
        }
      if !isName || name.endIndex == text.endIndex {
        element.error("`\(element.path)` is no match of a field", "write `FIELD=VALUE`, such as `_TRANSPORT=kernel`")
      }
      input.matches.append(text)
    }
    input.directory = journald["directory"].filePath
    input.fromBeginning = journald["start"].text == "beginning"
    for key in ["parse", "multiline"] where view[key].exists {
      view[key].error("`\(view.path).\(key)` is for lines, and the journal has entries", "remove it")
    }
    return input
  }

  private func multiline(_ view: TreeView) -> MultilineConfiguration? {
    if let name = view.text {
      return TraceLanguages.names.first { $0.name == name }.map {
        MultilineConfiguration(joining: .traces($0.language))
      }
    }
    guard let start = expression(view["start"], .somewhere) else { return nil }
    var multiline = MultilineConfiguration(joining: .start(start))
    view["timeout"].duration.assign(to: &multiline.timeout)
    return multiline
  }

  private func timestamp(_ view: TreeView, _ source: inout LogSourceConfiguration) {
    guard view.exists else { return }
    if let text = view["zone"].text {
      if let zone = Self.zone(text) {
        source.zone = zone
      } else {
        view["zone"].error(
          "`\(view.path).zone` is no zone: `\(PlainText.shown(text))`",
          "write `local`, `UTC` or a distance such as `+02:00`")
      }
    }
    let text = view["format"].text ?? "rfc3339"
    guard let format = TimestampFormat(text, zone: source.zone) else {
      view["format"].error(
        "`\(view.path).format` is no format: `\(PlainText.shown(text))`",
        "write \(TimestampFormat.words.map { "`\($0)`" }.joined(separator: ", ")), or strftime sequences such as `%Y-%m-%d %H:%M:%S`"
      )
      return
    }
    source.timestamp = TimestampRule(field: view["field"].text, format: format)
  }

  private static func zone(_ text: String) -> TimestampFormat.Zone? {
    if text == "local" { return .local }
    if ["UTC", "utc", "Z", "GMT"].contains(text) { return .fixed(0) }
    let bytes = Array(text.utf8)
    guard bytes.count == 6, bytes[0] == 0x2B || bytes[0] == 0x2D, bytes[3] == 0x3A,
      let hours = Int(text.dropFirst().prefix(2)), let minutes = Int(text.suffix(2)), hours < 15, minutes < 60
    else { return nil }
    return .fixed((bytes[0] == 0x2B ? 1 : -1) * (hours * 3600 + minutes * 60))
  }
}
