import RegularExpressions

/// What a route is chosen by. Everything points into the received head.
package struct RouteQuery {
  /// Without port; any case.
  package var host: UnsafeRawBufferPointer
  /// Without query.
  package var path: UnsafeRawBufferPointer
  /// Behind the `?`; empty when there is none.
  package var query: UnsafeRawBufferPointer
  package var method: UnsafeRawBufferPointer

  package init(
    host: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer,
    method: UnsafeRawBufferPointer
  ) {
    self.host = host
    self.path = path
    self.query = query
    self.method = method
  }
}

/// A field that was found, and where to look for the next of its name.
package struct RouteField {
  package var value: UnsafeRawBufferPointer
  package var next: Int

  @inlinable
  package init(value: UnsafeRawBufferPointer, next: Int) {
    self.value = value
    self.next = next
  }
}

/// What a route asks for; `headers` and `query` by their place in the configuration.
package enum RouteCondition: Sendable, Equatable {
  case host, path, method
  case header(Int)
  case query(Int)
  /// Everything else matched; the draw went against it.
  case fraction
}

/// The routes of a listener, compiled once into flat bytes; the first match wins.
package struct RouteTable: Sendable {
  /// The first field of a lower-case name, beginning at that index; nil = none.
  package typealias Fields = (UnsafeRawBufferPointer, Int) -> RouteField?

  private enum Host: Sendable {
    case any
    case exact([UInt8])
    /// `*.example.com` as `.example.com`; at least one octet must stand before it.
    case suffix([UInt8])
  }
  private enum Path: Sendable {
    case any
    case exact([UInt8])
    /// With its trailing slash; the path without that slash matches too.
    case prefix([UInt8])
    case regex(RegularExpression)
  }
  private struct Matcher: Sendable {
    var host: Host
    var path: Path
    var methods: [[UInt8]]
    var headers: [CompiledMatch]
    var query: [CompiledMatch]
    /// Part of the requests that it takes; 1 = all.
    var fraction: Double
    var isCatchAll: Bool
  }

  private let matchers: ContiguousArray<Matcher>
  /// Some condition has limits, beyond which it does not match.
  package let hasLimits: Bool

  package init(_ routes: [RouteConfiguration]) {
    matchers = ContiguousArray(routes.map { Self.compile($0.match) })
    hasLimits = matchers.contains { matcher in
      if case .regex = matcher.path { return true }
      return !matcher.query.isEmpty || matcher.headers.contains(where: \.hasLimits)
    }
  }

  private static func compile(_ match: RouteConfiguration.Match) -> Matcher {
    var host = Host.any
    if let text = match.host?.lowercased(), text != "*" {
      host = text.hasPrefix("*.") ? .suffix(Array(text.utf8.dropFirst())) : .exact(Array(text.utf8))
    }
    let path: Path =
      switch match.path {
      case .any: .any
      case .exact(let text): .exact(Array(text.utf8))
      case .prefix(let text): text == "/" ? .any : .prefix(Array(text.utf8))
      case .regex(let expression): .regex(expression)
      }
    var catchAll = match.methods.isEmpty && match.headers.isEmpty && match.query.isEmpty && match.fraction >= 1
    if case .any = host {} else { catchAll = false }
    if case .any = path {} else { catchAll = false }
    return Matcher(
      host: host, path: path, methods: match.methods.map { Array($0.utf8) },
      headers: match.headers.map { CompiledMatch($0, lowercasesName: true) },
      query: match.query.map { CompiledMatch($0, lowercasesName: false) }, fraction: match.fraction,
      isCatchAll: catchAll)
  }

  /// The index of the first route that matches, or nil. `field` is asked only when a route looks at fields.
  package func match(_ query: RouteQuery, _ scratch: RouteScratch, field: Fields) -> Int? {
    for index in matchers.indices {
      if matchers[index].isCatchAll || miss(matchers[index], query, scratch, draws: true, field) == nil { return index }
    }
    return nil
  }

  /// The first condition of that route which the request does not meet; nil = it matches, if the draw of its
  /// fraction is left aside.
  package func miss(_ index: Int, _ query: RouteQuery, _ scratch: RouteScratch, field: Fields) -> RouteCondition? {
    miss(matchers[index], query, scratch, draws: false, field)
  }

  private func miss(
    _ matcher: Matcher, _ query: RouteQuery, _ scratch: RouteScratch, draws: Bool, _ field: Fields
  ) -> RouteCondition? {
    switch matcher.host {
    case .any: break
    case .exact(let host): if !equal(query.host, host) { return .host }
    case .suffix(let suffix):
      guard query.host.count > suffix.count else { return .host }
      if !equal(UnsafeRawBufferPointer(rebasing: query.host.suffix(suffix.count)), suffix) { return .host }
    }
    if !matches(matcher.path, query.path, scratch) { return .path }
    if !matcher.methods.isEmpty, !matcher.methods.contains(where: { query.method.elementsEqual($0) }) { return .method }
    for index in matcher.headers.indices where !matches(matcher.headers[index], scratch, field) {
      return .header(index)
    }
    for index in matcher.query.indices where !matches(matcher.query[index], query.query, scratch) {
      return .query(index)
    }
    if draws, matcher.fraction < 1, scratch.draw() >= matcher.fraction { return .fraction }
    return nil
  }

  private func matches(_ wanted: Path, _ path: UnsafeRawBufferPointer, _ scratch: RouteScratch) -> Bool {
    switch wanted {
    case .any: return true
    case .exact(let exact): return path.elementsEqual(exact)
    case .prefix(let prefix):
      if path.count + 1 == prefix.count { return prefix.starts(with: path) && prefix.last == 0x2F }
      return path.starts(with: prefix)
    case .regex(let expression):
      switch expression.match(path, scratch.workspace) {
      case .matched: return true
      case .missed: return false
      case .exceeded:
        scratch.noteExceeded()
        return false
      }
    }
  }

  /// One of the fields of that name decides; what is not decided does not match, negated or not.
  private func matches(_ match: CompiledMatch, _ scratch: RouteScratch, _ field: Fields) -> Bool {
    var start = 0
    while let found = match.name.withUnsafeBytes({ field($0, start) }) {
      switch match.matches(found.value, scratch) {
      case .matched: return !match.isNegated
      case .missed: start = found.next
      case .exceeded:
        scratch.noteExceeded()
        return false
      }
    }
    return match.isNegated
  }

  private func matches(_ match: CompiledMatch, _ query: UnsafeRawBufferPointer, _ scratch: RouteScratch) -> Bool {
    var outcome = RegularExpression.Outcome.missed
    // Out of the scratch for the while: the expression uses the rest of it.
    var room: [UInt8] = []
    swap(&room, &scratch.room)
    defer { swap(&room, &scratch.room) }
    let isRead = QueryText.values(of: match.name, in: query, &room) { value in
      outcome = match.matches(value, scratch)
      if case .missed = outcome { return true }
      return false
    }
    if !isRead { outcome = .exceeded }
    switch outcome {
    case .matched: return !match.isNegated
    case .missed: return match.isNegated
    case .exceeded:
      scratch.noteExceeded()
      return false
    }
  }

  /// `lowercase` is lower case; the host may be of any case.
  private func equal(_ host: UnsafeRawBufferPointer, _ lowercase: [UInt8]) -> Bool {
    guard host.count == lowercase.count else { return false }
    for index in lowercase.indices {
      let octet = host[index]
      if (octet &- 65 < 26 ? octet | 0x20 : octet) != lowercase[index] { return false }
    }
    return true
  }
}
