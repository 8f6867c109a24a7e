/// What a route is chosen by. Everything points into the received head.
package struct RouteQuery {
  /// Without port; any case.
  package var host: UnsafeRawBufferPointer
  /// Without query.
  package var path: UnsafeRawBufferPointer
  package var method: UnsafeRawBufferPointer

  package init(host: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, method: UnsafeRawBufferPointer) {
    self.host = host
    self.path = path
    self.method = method
  }
}

/// The routes of a listener, compiled once into flat bytes; the first match wins.
package struct RouteTable: Sendable {
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
  }
  private struct Matcher: Sendable {
    var host: Host
    var path: Path
    var methods: [[UInt8]]
    /// Lower-case names with exact values.
    var headers: [(name: [UInt8], value: [UInt8])]
    var isCatchAll: Bool
  }

  private let matchers: ContiguousArray<Matcher>

  package init(_ routes: [RouteConfiguration]) {
    matchers = ContiguousArray(routes.map { Self.compile($0.match) })
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
      }
    var catchAll = match.methods.isEmpty && match.headers.isEmpty
    if case .any = host {} else { catchAll = false }
    if case .any = path {} else { catchAll = false }
    return Matcher(
      host: host, path: path, methods: match.methods.map { Array($0.utf8) },
      headers: match.headers.map { (Array($0.name.lowercased().utf8), Array($0.value.utf8)) }, isCatchAll: catchAll)
  }

  /// The index of the first route that matches, or nil. `field` gives the value of the first field of a
  /// lower-case name; it is asked only when a route looks at fields.
  package func match(
    _ query: RouteQuery, field: (UnsafeRawBufferPointer) -> UnsafeRawBufferPointer?
  ) -> Int? {
    for index in matchers.indices {
      if matchers[index].isCatchAll || matches(matchers[index], query, field) { return index }
    }
    return nil
  }

  private func matches(
    _ matcher: Matcher, _ query: RouteQuery, _ field: (UnsafeRawBufferPointer) -> UnsafeRawBufferPointer?
  ) -> Bool {
    switch matcher.host {
    case .any: break
    case .exact(let host): if !equal(query.host, host) { return false }
    case .suffix(let suffix):
      guard query.host.count > suffix.count else { return false }
      if !equal(UnsafeRawBufferPointer(rebasing: query.host.suffix(suffix.count)), suffix) { return false }
    }
    switch matcher.path {
    case .any: break
    case .exact(let path): if !query.path.elementsEqual(path) { return false }
    case .prefix(let prefix):
      if query.path.count + 1 == prefix.count {
        guard prefix.starts(with: query.path), prefix.last == 0x2F else { return false }
      } else if !query.path.starts(with: prefix) {
        return false
      }
    }
    if !matcher.methods.isEmpty, !matcher.methods.contains(where: { query.method.elementsEqual($0) }) { return false }
    for header in matcher.headers {
      guard let value = header.name.withUnsafeBytes({ field($0) }), value.elementsEqual(header.value) else {
        return false
      }
    }
    return true
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
