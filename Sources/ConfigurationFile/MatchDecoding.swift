import RegularExpressions
import Traffic
import Vocabulary

/// `match` of a route.
extension ConfigurationDecoder {
  func match(_ view: TreeView) -> RouteConfiguration.Match {
    var match = RouteConfiguration.Match()
    if let host = view["host"].text {
      match.host = host.lowercased()
      let rest = host.hasPrefix("*.") ? host.dropFirst(2) : host[...]
      if rest.isEmpty || rest.contains(where: { "*/: ".contains($0) }) {
        view["host"].error(
          "`\(PlainText.shown(host))` is not a host", "write `api.example.com` or `*.example.com`, without a port")
      }
    }
    if let path = path(view) { match.path = path }
    match.methods = view["method"].elements.compactMap { element in
      guard let text = element.text else { return nil }
      if !HeaderName.isValid(text) {
        element.error("`\(PlainText.shown(text))` is not a method", "write for example `GET`")
      }
      return text.uppercased()
    }
    match.headers = view["headers"].entries.compactMap { entry in
      checkName(entry.key, entry.mark)
      return value(entry.value).map { NamedMatch(entry.key, $0) }
    }
    match.query = view["query"].entries.compactMap { entry in value(entry.value).map { NamedMatch(entry.key, $0) } }
    view["fraction"].fraction.assign(to: &match.fraction)
    return match
  }

  private func path(_ view: TreeView) -> RouteConfiguration.Match.Path? {
    if view["regex"].exists {
      if view["path"].exists {
        view["regex"].error("`\(view.path)` has both `path` and `regex`", "keep one of them")
      }
      return expression(view["regex"], .whole).map { .regex($0) }
    }
    guard let path = view["path"].text else { return nil }
    if path.hasSuffix("/*"), !path.dropLast().contains("*") { return .prefix(String(path.dropLast())) }
    if path.contains("*") {
      view["path"].error(
        "`*` may only end a path, after `/`", "write `/exact` or `/prefix/*`, or an expression under `regex`")
      return nil
    }
    return .exact(path)
  }

  /// Text for an exact value, or a map of one kind and perhaps `not`.
  private func value(_ view: TreeView) -> ValueMatch? {
    if view.isScalar { return view.text.map { ValueMatch(.exact($0)) } }
    let kinds = ["exact", "prefix", "suffix", "contains", "regex", "present"]
    let named = kinds.filter { view[$0].exists }
    guard let name = named.first, named.count == 1 else {
      if !view.isBrokenItself {
        view.error(
          named.isEmpty ? "`\(view.path)` does not say what the value is" : "`\(view.path)` has \(named.count) kinds",
          "keep one of \(kinds.map { "`\($0)`" }.joined(separator: ", "))")
      }
      return nil
    }
    let text = view[name].text ?? ""
    let isNegated = view["not"].bool ?? false
    switch name {
    case "exact": return ValueMatch(.exact(text), isNegated: isNegated)
    case "prefix": return ValueMatch(.prefix(text), isNegated: isNegated)
    case "suffix": return ValueMatch(.suffix(text), isNegated: isNegated)
    case "contains": return ValueMatch(.contains(text), isNegated: isNegated)
    case "regex": return expression(view[name], .whole).map { ValueMatch(.regex($0), isNegated: isNegated) }
    default: return ValueMatch(.present, isNegated: isNegated != (view[name].bool == false))
    }
  }

  /// Longer expressions are refused: their code is many times as large.
  static let longestExpression = 4096

  /// Compiles the expression; a mistake in it is reported at its place.
  func expression(_ view: TreeView, _ extent: RegularExpression.Extent) -> RegularExpression? {
    guard let text = view.text else { return nil }
    guard text.utf8.count <= Self.longestExpression else {
      view.error("`\(view.path)` is longer than \(Self.longestExpression) octets", "write a shorter expression")
      return nil
    }
    do throws(RegularExpression.Invalid) {
      return try RegularExpression(text, extent)
    } catch {
      let wayOut = "write a Perl-compatible expression; see `man pcre2pattern`"
      let message = "`\(view.path)` is not an expression: \(error.reason)"
      guard let node = view.node, let scalar = node.scalar, scalar.raw == text, !text.contains("\n") else {
        view.error(message, wayOut)
        return nil
      }
      var mark = node.mark
      let before = String(decoding: text.utf8.prefix(error.offset), as: UTF8.self)
      mark.column += before.count + (scalar.isQuoted ? 1 : 0)
      report.error(mark, message, wayOut)
      return nil
    }
  }
}
