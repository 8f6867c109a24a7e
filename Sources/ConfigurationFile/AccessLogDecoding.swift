import Traffic

extension KeyTable {
  static let accessLog: [Key] = [
    .key("sample", .fraction, "1", "Part of requests recorded, 0 to 1; errors always are."),
    .key(
      "format", .text, "json",
      "`json`, or a line with Envoy's operators: `%START_TIME% %REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %BLAME%`."),
    .key(
      "fields", .map(.leaf(.text)), nil, "Members added to each JSON record: a name, and a format as in `format`."),
  ]
}

extension ConfigurationDecoder {
  func takeAccessLog(_ view: TreeView, _ listener: inout ListenerConfiguration) {
    guard view.exists else { return }
    if view.isScalar {
      listener.accessLog = view.bool == false ? .off : .on
      return
    }
    listener.accessLog = view["sample"].fraction.map { .sample($0) } ?? .on
    let injected = listener.inject + listener.routes.flatMap(\.inject)
    let guarded = [listener.security] + listener.routes.map(\.security)
    let secret = Set(injected.map { $0.name.lowercased() } + guarded.flatMap(\.tokenFields))
    let format = view["format"]
    if let text = format.text, text != "json" {
      listener.accessForm.line = accessFormat(text, at: format, secret)
      if view["fields"].exists {
        view["fields"].error(
          "`\(view.path).fields` belongs to JSON records", "put the fields into `format`, or write `format: json`")
      }
      return
    }
    for entry in view["fields"].entries {
      if AccessForm.ownKeys.contains(entry.key) {
        report.error(
          entry.mark, "`\(PlainText.shown(entry.key))` is in every access record already", "choose another name")
      }
      guard let text = entry.value.text, let format = accessFormat(text, at: entry.value, secret) else { continue }
      listener.accessForm.fields.append(AccessForm.Field(name: entry.key, format: format))
    }
  }

  private func accessFormat(_ text: String, at view: TreeView, _ secret: Set<String>) -> AccessFormat? {
    do {
      let format = try AccessFormat(text, secret: secret)
      if format.segments.isEmpty || text.contains(where: \.isNewline) {
        view.error("`\(view.path)` is not one line of text", "write `json`, or operators such as `%RESPONSE_CODE%`")
        return nil
      }
      return format
    } catch {
      let (message, wayOut) = Self.words(for: error)
      view.error("`\(view.path)`: \(message)", wayOut)
      return nil
    }
  }

  private static func words(for problem: AccessFormat.Problem) -> (String, String) {
    switch problem {
    case .unknown(let name):
      let near = Suggestion.nearest(to: name, among: AccessFormat.operators).map { "did you mean `%\($0)%`? " } ?? ""
      return (
        "`%\(PlainText.shown(name))%` is not an operator",
        near + "known: " + AccessFormat.operators.joined(separator: ", ") + "; `%%` is a percent sign"
      )
    case .unfinished(let text):
      return ("`\(PlainText.shown(text))` has no closing `%`", "write `%OPERATOR%`; `%%` is a percent sign")
    case .argumentMissing(let name): return ("`%\(name)%` needs a field's name", "write `%\(name)(X-Name)%`")
    case .argumentUnwanted(let name): return ("`%\(name)%` takes no argument", "write `%\(name)%`")
    case .invalidName(let name):
      return ("`\(PlainText.shown(name))` is not a header field's name", "use letters, digits and `-`")
    case .invalidLimit(let text):
      return ("`:\(PlainText.shown(text))` is not a length", "write one from 1 to \(AccessFormat.longest)")
    case .sensitive(let name):
      return (
        "the field `\(PlainText.shown(name))` holds a secret, which no record may",
        "leave it out; credentials are never recorded"
      )
    }
  }
}
