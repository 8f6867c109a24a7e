/// A redirect that changes parts of the request's own address and keeps the others, the query always.
package struct RedirectEdits: Sendable, Equatable {
  /// `http` or `https`; nil = what the client speaks.
  package var scheme: String?
  /// `name` or `name:port`; nil = the request's.
  package var host: String?
  /// In place of what matched of the path.
  package var prefix: String?

  package init(scheme: String? = nil, host: String? = nil, prefix: String? = nil) {
    self.scheme = scheme
    self.host = host
    self.prefix = prefix
  }
}

/// `RedirectEdits` made ready.
package struct CompiledRedirect: Sendable {
  private let scheme: [UInt8]?
  private let host: [UInt8]?
  private let prefix: PrefixRewrite?

  /// `path` is what the route matches by.
  package init(_ edits: RedirectEdits, _ path: RouteConfiguration.Match.Path) {
    scheme = edits.scheme.map { Array($0.utf8) }
    host = edits.host.map { Array($0.utf8) }
    prefix = edits.prefix.map { PrefixRewrite(path, to: $0) }
  }

  /// The absolute location. `authority` is the request's host with its port, `target` its path of `pathCount` octets
  /// with its query. Nil = nothing names a host.
  package func location(
    isSecure: Bool, authority: UnsafeRawBufferPointer, target: UnsafeRawBufferPointer, pathCount: Int
  ) -> [UInt8]? {
    guard host?.isEmpty == false || authority.count > 0 else { return nil }
    var result = scheme ?? Array(isSecure ? "https".utf8 : "http".utf8)
    result += Array("://".utf8)
    if let host {
      result += host
    } else {
      result += scheme == nil ? authority : Self.withoutDefaultPort(authority)
    }
    if let prefix {
      result += prefix.to
      result += prefix.rest(target, pathCount: pathCount)
    } else {
      if target.first != 0x2F { result.append(0x2F) }
      result += target
    }
    return result
  }

  /// The port of one scheme means nothing in another; ports that somebody chose stay.
  private static func withoutDefaultPort(_ authority: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    for port in [":80", ":443"] where authority.count > port.utf8.count {
      let start = authority.count - port.utf8.count
      if authority[start...].elementsEqual(port.utf8) { return UnsafeRawBufferPointer(rebasing: authority[..<start]) }
    }
    return authority
  }
}
