import Logs
import RegularExpressions
import Vocabulary

extension ConfigurationDecoder {
  func transform(_ view: TreeView) -> [LogTransform] {
    let keys = view.entries.map(\.key)
    guard keys.count == 1, let key = keys.first else {
      if !keys.isEmpty || !view.isBrokenItself {
        view.error("`\(view.path)` holds \(keys.count) transforms", "begin a list element (`- `) for each transform")
      }
      return []
    }
    let value = view[key]
    switch key {
    case "add":
      let pairs = value.entries.compactMap { entry in entry.value.text.map { (entry.key, $0) } }
      return [.add(Dictionary(pairs) { first, _ in first })]
    case "remove": return [.remove(value.texts)]
    case "rename": return [.rename(renames(value))]
    case "keep", "drop": return filter(value, keep: key == "keep").map { [$0] } ?? []
    case "redact": return redact(value)
    case "sample": return sample(value).map { [.sample($0)] } ?? []
    case "dedupe": return [.dedupe(dedupe(value))]
    case "rate_limit": return rateLimit(value).map { [.rateLimit($0)] } ?? []
    case "route":
      return [
        .route(
          value.entries.compactMap { entry in
            condition(entry.value).map { RouteRule(sink: entry.key, condition: $0) }
          })
      ]
    default: return metric(value).map { [.metric($0)] } ?? []
    }
  }

  // MARK: conditions

  /// Reports a text that is no condition at the character that is wrong.
  func condition(_ view: TreeView) -> LogCondition? {
    guard let text = view.text else { return nil }
    do throws(LogCondition.Invalid) {
      return try LogCondition(text)
    } catch {
      var mark = view.node?.mark
      if let place = mark, view.node?.scalar?.raw == text {
        mark?.column = column(of: error.offset, in: text, from: place)
      }
      report.error(mark, "`\(view.path)`: \(error.message)", error.wayOut)
      return nil
    }
  }

  /// The column at which that character of a text stands in its line; the text's own when it has several lines.
  private func column(of offset: Int, in text: String, from mark: Mark) -> Int {
    let lines = report.files[mark.file].lines
    guard !text.contains("\n"), mark.line >= 1, mark.line <= lines.count else { return mark.column }
    let line = Array(lines[mark.line - 1])
    var index = mark.column - 1
    guard index >= 0, index < line.count else { return mark.column }
    let quote: Character? = line[index] == "\"" || line[index] == "'" ? line[index] : nil
    if quote != nil { index += 1 }
    for _ in 0..<offset where index < line.count {
      let isEscape = quote == "\"" && line[index] == "\\" || quote == "'" && line[index] == "'"
      index += isEscape ? 2 : 1
    }
    return min(index, line.count) + 1
  }

  /// An expression, or nil after its fault was reported.
  private func expression(_ view: TreeView) -> RegularExpression? {
    guard let text = view.text else { return nil }
    do throws(RegularExpression.Invalid) {
      return try RegularExpression(text)
    } catch {
      view.error("`\(view.path)`: \(error.reason) at offset \(error.offset)", "see `man pcre2pattern`")
      return nil
    }
  }

  private func filter(_ view: TreeView, keep: Bool) -> LogTransform? {
    if view.isScalar { return condition(view).map { .filter($0, keep: keep) } }
    let keys = view.entries.map(\.key)
    if keys == ["below"], !keep { return view["below"].text.map { .dropBelow(level: $0) } }
    guard !keys.isEmpty else {
      if !view.isBrokenItself {
        view.error("`\(view.path)` says nothing", "write a condition, for example `drop: 'level < info'`")
      }
      return nil
    }
    var parts: [String] = []
    if view["where"].exists {
      guard let condition = condition(view["where"]) else { return nil }
      parts.append("(\(condition.text))")
    }
    if let level = view["below"].text { parts.append("level < \(level)") }
    if view["level"].exists { parts.append("level in [\(view["level"].texts.joined(separator: ", "))]") }
    let field = view["field"].text
    if let field, field.contains("`") || field.isEmpty {
      view["field"].error("`\(view.path).field` is no field's name", "leave out backticks")
      return nil
    }
    if view["regex"].exists {
      guard let expression = expression(view["regex"]) else { return nil }
      let escaped = expression.pattern.flatMap { $0 == "\"" || $0 == "\\" ? ["\\", $0] : [$0] }
      parts.append("\(field.map { "`\($0)`" } ?? "message") =~ \"\(String(escaped))\"")
    } else if let field {
      parts.append("has `\(field)`")
    }
    do throws(LogCondition.Invalid) {
      return .filter(try LogCondition(parts.joined(separator: " && ")), keep: keep)
    } catch {
      view.error("`\(view.path)`: \(error.message)", error.wayOut)
      return nil
    }
  }

  // MARK: the others

  private func renames(_ view: TreeView) -> [RenameRule] {
    view.entries.compactMap { entry in
      guard let name = entry.value.text else { return nil }
      if [entry.key, name].contains(where: { $0 == "@timestamp" || $0 == "observed_timestamp" }) {
        report.error(entry.mark, "`\(view.path)`: a record's own time keeps its name", "rename another field")
      }
      if name.isEmpty { entry.value.error("`\(entry.value.path)` is empty", "write the new name") }
      return RenameRule(from: entry.key, to: name)
    }
  }

  private func redact(_ view: TreeView) -> [LogTransform] {
    var rules = RedactionRules()
    for element in view["patterns"].elements {
      if element.isScalar {
        if let pattern = element.choice(RedactionRules.Pattern.self), !rules.patterns.contains(pattern) {
          rules.patterns.append(pattern)
        }
      } else if let expression = expression(element["regex"]) {
        rules.expressions.append(expression)
      }
    }
    rules.fields = view["fields"].texts
    var transforms: [LogTransform] = []
    if view["secrets"].exists || rules.isEmpty { transforms.append(.redactSecrets(view["secrets"].bool ?? true)) }
    if !rules.isEmpty { transforms.append(.redact(rules)) }
    return transforms
  }

  private func sample(_ view: TreeView) -> SampleRule? {
    guard let rate = view["rate"].fraction else { return nil }
    var rule = SampleRule(rate: rate)
    rule.key = view["key"].text.map { FieldPath($0) }
    view["seed"].int.map { UInt64($0) }.assign(to: &rule.seed)
    rule.condition = condition(view["where"])
    return rule
  }

  private func dedupe(_ view: TreeView) -> DedupeRule {
    var rule = DedupeRule()
    rule.fields = view["fields"].texts.map { FieldPath($0) }
    view["window"].duration.assign(to: &rule.window)
    view["max_keys"].int.assign(to: &rule.keys)
    return rule
  }

  private func rateLimit(_ view: TreeView) -> RateLimitRule? {
    guard let records = view["records"].int else { return nil }
    var rule = RateLimitRule(records: records)
    view["per"].duration.assign(to: &rule.per)
    view["burst"].int.assign(to: &rule.burst)
    view["max_keys"].int.assign(to: &rule.keys)
    rule.key = view["key"].text.map { FieldPath($0) }
    return rule
  }

  private func metric(_ view: TreeView) -> LogMetricRule? {
    guard let name = view["name"].text else { return nil }
    func isName(_ text: String) -> Bool {
      !text.isEmpty && text.utf8.first.map { (0x30...0x39).contains($0) } == false
        && text.utf8.allSatisfy { byte in
          (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == 0x5F || byte == 0x3A
        }
    }
    if !isName(name) || name.utf8.count > 200 {
      view["name"].error(
        "`\(view.path).name`: `\(PlainText.shown(name))` is no metric's name",
        "use letters, digits, `_` and `:`, and no digit in front")
    } else if name.hasPrefix("outrider_") {
      view["name"].error("`\(view.path).name`: names that begin with `outrider_` are the sidecar's", "take another")
    }
    var rule = LogMetricRule(name: name)
    view["help"].text.assign(to: &rule.help)
    rule.help = rule.help.split(separator: "\n").joined(separator: " ")
    rule.condition = condition(view["where"])
    rule.labels = view["labels"].texts.map { FieldPath($0) }
    let labels = rule.labels.map(\.labelName)
    if labels.count > 8 || Set(labels).count != labels.count || labels.contains("le") || labels.contains("") {
      view["labels"].error(
        "`\(view.path).labels` are more than 8, twice the same, or `le`", "name each field once, at most 8 of them")
    }
    rule.histogram = view["histogram"].text.map { FieldPath($0) }
    view["max_series"].int.assign(to: &rule.series)
    if view["buckets"].exists { buckets(view["buckets"], &rule) }
    return rule
  }

  private func buckets(_ view: TreeView, _ rule: inout LogMetricRule) {
    let bounds = view.texts.compactMap { Double($0) }
    let isAscending = zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }
    guard bounds.count == view.elements.count, !bounds.isEmpty, bounds.count <= 64, isAscending,
      bounds.allSatisfy({ $0 > 0 && $0 < 1e9 })
    else {
      view.error("`\(view.path)` are no ascending numbers above 0", "write for example `buckets: [0.1, 0.5, 1]`")
      return
    }
    rule.buckets = bounds
  }

  /// Sinks that a route names must exist.
  func checkRoutes(_ view: TreeView, _ sinks: [String]) {
    for element in view.elements {
      for entry in element["route"].entries where !sinks.contains(entry.key) && !root["logs"]["sinks"][entry.key].exists
      {
        let near = Suggestion.nearest(to: entry.key, among: sinks).map { "did you mean `\($0)`? " } ?? ""
        report.error(
          entry.mark, "`\(element.path).route`: there is no sink `\(PlainText.shown(entry.key))`",
          near + "known: \(sinks.joined(separator: ", "))")
      }
    }
  }

  func test(_ view: TreeView, _ logs: LogsConfiguration) -> LogTest? {
    guard let name = view["name"].text, view["input"].exists else { return nil }
    var test = LogTest(name: name, input: view["input"].texts)
    view["source"].text.assign(to: &test.source)
    view["dropped"].bool.assign(to: &test.dropped)
    test.expect = view["expect"].entries.compactMap { entry in
      entry.value.text.map { LogTest.Expectation(field: entry.key, value: $0) }
    }
    test.absent = view["absent"].texts
    if view["sinks"].exists { test.sinks = view["sinks"].texts }
    if !logs.sources.contains(where: { $0.name == test.source }) {
      view["source"].error(
        "`\(view.path).source`: there is no source `\(PlainText.shown(test.source))`",
        "known: \(logs.sources.map(\.name).joined(separator: ", "))")
    }
    for name in view["sinks"].elements where !logs.sinks.contains(where: { $0.name == name.text }) {
      name.error("`\(name.path)`: there is no such sink", "known: \(logs.sinks.map(\.name).joined(separator: ", "))")
    }
    return test
  }
}
