import Glibc

/// A URL's scheme, host and port, as `to` and `url` write it.
struct Endpoint: Equatable {
  var scheme: String
  /// Without brackets.
  var host: String
  var port: Int
  /// As written after the authority; empty or beginning with `/`.
  var path: String

  init?(url: String) {
    guard let separator = url.range(of: "://") else { return nil }
    scheme = String(url[..<separator.lowerBound])
    guard ["http", "https", "tcp"].contains(scheme) else { return nil }
    let rest = url[separator.upperBound...]
    let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    path = String(rest.dropFirst(authority.count))
    guard !authority.contains("@"), path.isEmpty || path.hasPrefix("/") else { return nil }
    guard path.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
    var digits: Substring = ""
    var name = authority
    if authority.hasPrefix("[") {
      guard let close = authority.firstIndex(of: "]") else { return nil }
      name = authority[authority.index(after: authority.startIndex)..<close]
      let tail = authority[authority.index(after: close)...]
      guard tail.isEmpty || (tail.hasPrefix(":") && tail.count > 1) else { return nil }
      digits = tail.dropFirst()
      guard Self.isLiteral(String(name)) else { return nil }
    } else if let colon = authority.lastIndex(of: ":") {
      name = authority[..<colon]
      digits = authority[authority.index(after: colon)...]
      guard !digits.isEmpty else { return nil }
      guard !name.contains(":") else { return nil }
    }
    host = String(name)
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !"\"<>\\^`{|}".utf8.contains($0) }) else {
      return nil
    }
    if digits.isEmpty {
      guard scheme != "tcp" else { return nil }
      port = scheme == "https" ? 443 : 80
    } else {
      guard digits.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(digits), (1...65535).contains(number)
      else { return nil }
      port = number
    }
  }

  /// Whether a host is a literal IPv4 or IPv6 address.
  static func isLiteral(_ host: String) -> Bool {
    var four = in_addr()
    var six = in6_addr()
    return inet_pton(AF_INET, host, &four) == 1 || inet_pton(AF_INET6, host, &six) == 1
  }

  /// The Host field: the port is left out when it is the scheme's own.
  var authority: String {
    let name = host.contains(":") ? "[\(host)]" : host
    return port == (scheme == "https" ? 443 : 80) ? name : "\(name):\(port)"
  }
}

extension String {
  /// The first place of a non-empty text.
  fileprivate func range(of other: String) -> Range<String.Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(other) { return start..<index(start, offsetBy: other.count) }
      start = index(after: start)
    }
    return nil
  }
}

/// Signals by name, with or without `SIG`, or by number.
enum SignalName {
  private static let table: [(String, Int32)] = [
    ("SIGTERM", SIGTERM), ("SIGINT", SIGINT), ("SIGHUP", SIGHUP), ("SIGQUIT", SIGQUIT), ("SIGUSR1", SIGUSR1),
    ("SIGUSR2", SIGUSR2), ("SIGKILL", SIGKILL), ("SIGWINCH", SIGWINCH), ("SIGABRT", SIGABRT), ("SIGALRM", SIGALRM),
    ("SIGCONT", SIGCONT), ("SIGPWR", SIGPWR),
  ]
  static let names = table.map(\.0)

  static func number(_ text: String) -> Int32? {
    if let number = Int32(text) { return (1...64).contains(number) ? number : nil }
    return table.first { $0.0 == text || $0.0.dropFirst(3) == text }?.1
  }
}
