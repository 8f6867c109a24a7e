import Logs
import RegularExpressions
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
    source.multiline = multiline(view["multiline"])
    timestamp(view["timestamp"], &source)
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
