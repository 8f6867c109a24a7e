import RegularExpressions

/// A request that nobody sends, to ask where it would go.
package struct AskedRequest: Sendable, Equatable {
  package struct Field: Sendable, Equatable {
    package var name: String
    package var value: String
    package init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }
  package var method: String
  /// With its port, if that is not the scheme's own.
  package var authority: String
  package var path: String
  /// Without `?`.
  package var query: String
  package var fields: [Field]

  /// `target` is the path with its query.
  package init(_ target: String, method: String = "GET", authority: String = "", _ fields: [Field] = []) {
    let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    path = parts.first.map(String.init) ?? ""
    query = parts.count > 1 ? String(parts[1]) : ""
    self.method = method
    self.authority = authority
    self.fields = fields
  }

  package var target: String { query.isEmpty ? path : "\(path)?\(query)" }

  /// Without its port.
  package var host: String {
    guard let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") else { return authority }
    return String(authority[..<colon])
  }

  func values(of name: String) -> [String] {
    fields.filter { $0.name.lowercased() == name.lowercased() }.map(\.value)
  }

  /// Calls `body` with the request as the table takes it.
  func with<Result>(_ body: (RouteQuery, RouteTable.Fields) -> Result) -> Result {
    let names = fields.map { Array($0.name.lowercased().utf8) }
    let values = fields.map { Array($0.value.utf8) }
    let starts = values.indices.map { index in values[..<index].reduce(0) { $0 + $1.count } }
    return values.flatMap { $0 }.withUnsafeBytes { all in
      Array(host.utf8).withUnsafeBytes { host in
        Array(path.utf8).withUnsafeBytes { path in
          Array(query.utf8).withUnsafeBytes { query in
            Array(method.utf8).withUnsafeBytes { method in
              body(RouteQuery(host: host, path: path, query: query, method: method)) { name, from in
                guard let found = names.indices.first(where: { $0 >= from && name.elementsEqual(names[$0]) }) else {
                  return nil
                }
                let value = all[starts[found]..<starts[found] + values[found].count]
                return RouteField(value: UnsafeRawBufferPointer(rebasing: value), next: found + 1)
              }
            }
          }
        }
      }
    }
  }
}

/// A rule that was looked at for a request.
package struct ExplainedRule: Sendable, Equatable {
  package enum Verdict: Sendable, Equatable {
    case matches
    /// It takes this part of such requests, by a draw.
    case sometimes(Double)
    /// The first condition that does not hold.
    case misses(condition: String, expected: String, got: String)
  }
  /// In the listener's routes.
  package var index: Int
  package var verdict: Verdict
}

extension RouteTable {
  /// The rules that such a request is compared with, in order: up to the first that always takes it. `routes` are what
  /// the table was made of.
  package func explain(_ asked: AskedRequest, _ routes: [RouteConfiguration]) -> [ExplainedRule] {
    let scratch = RouteScratch(seed: 0)
    var rules: [ExplainedRule] = []
    for (index, route) in routes.enumerated() {
      let missed = asked.with { miss(index, $0, scratch, field: $1) }
      let isUndecided = scratch.takeExceeded() > 0
      guard let missed else {
        let isAlways = route.match.fraction >= 1
        rules.append(ExplainedRule(index: index, verdict: isAlways ? .matches : .sometimes(route.match.fraction)))
        if isAlways { return rules }
        continue
      }
      var (condition, expected, got) = Self.text(missed, route.match, asked)
      if isUndecided { got = "beyond the limits of matching: \(got.prefix(100))" }
      rules.append(
        ExplainedRule(index: index, verdict: .misses(condition: condition, expected: expected, got: got)))
    }
    return rules
  }

  private static func text(
    _ condition: RouteCondition, _ match: RouteConfiguration.Match, _ asked: AskedRequest
  ) -> (condition: String, expected: String, got: String) {
    switch condition {
    case .host: return ("host", match.host ?? "", asked.host)
    case .path:
      switch match.path {
      case .any: return ("path", "", asked.path)
      case .exact(let path): return ("path", path, asked.path)
      case .prefix(let path): return ("path", "\(path)*", asked.path)
      case .regex(let expression): return ("regex", expression.pattern, asked.path)
      }
    case .method: return ("method", match.methods.joined(separator: " or "), asked.method)
    case .header(let index):
      let header = match.headers[index]
      return ("header \(header.name)", header.value.description, shown(asked.values(of: header.name)))
    case .query(let index):
      let parameter = match.query[index]
      var values: [String] = []
      var room: [UInt8] = []
      _ = Array(asked.query.utf8).withUnsafeBytes { query in
        QueryText.values(of: Array(parameter.name.utf8), in: query, &room) { value in
          values.append(String(decoding: value, as: UTF8.self))
          return true
        }
      }
      return ("query \(parameter.name)", parameter.value.description, shown(values))
    case .fraction: return ("fraction", "\(match.fraction)", "")
    }
  }

  private static func shown(_ values: [String]) -> String {
    values.isEmpty ? "absent" : values.map { "`\($0)`" }.joined(separator: ", ")
  }
}
