/// A format string of access records (`%START_TIME% %REQ(:METHOD)% …`), flat: made once, read for each record.
package struct AccessFormat: Sendable, Equatable {
  package enum RequestPart: Sendable, Equatable {
    case method, path, authority, scheme
    /// A field by its name in lower case.
    case field([UInt8])
  }

  package enum Value: Sendable, Equatable {
    case simple(AccessOperator)
    /// The request's beginning in UTC; nil = RFC 3339 with milliseconds, else a format of strftime(3), NUL-terminated.
    case startTime([UInt8]?)
    /// The second is used where the first is absent.
    case request(RequestPart, or: RequestPart?)
    /// A response field by its name in lower case.
    case response([UInt8])
  }

  package enum Segment: Sendable, Equatable {
    case literal([UInt8])
    /// `limit`: at most so many octets of it.
    case value(Value, limit: Int)
  }

  package enum Problem: Error, Sendable, Equatable {
    case unfinished(String)
    case unknown(String)
    case argumentMissing(String)
    case argumentUnwanted(String)
    case invalidName(String)
    case invalidLimit(String)
    /// A field whose value is never written.
    case sensitive(String)
  }

  package private(set) var segments: [Segment] = []

  /// Every operator that a format may hold.
  package static let operators = ["START_TIME", "REQ", "RESP"] + AccessOperator.allCases.map(\.rawValue)

  /// Fields whose values are credentials.
  package static let sensitiveFields: Set<String> = [
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-vault-token",
    "x-amz-security-token",
  ]

  /// The longest value without a limit of its own.
  package static let longest = 8192

  /// Response fields that it names.
  package var responseFields: [[UInt8]] {
    segments.compactMap { if case .value(.response(let name), _) = $0 { name } else { nil } }
  }

  /// The format is one number and nothing else.
  package var isNumber: Bool {
    guard segments.count == 1, case .value(.simple(let named), _) = segments[0] else { return false }
    return named.isNumber
  }

  /// Compiles a format; `secret` names further fields, in lower case, that may not be written.
  package init(_ text: String, secret: Set<String> = []) throws(Problem) {
    let bytes = Array(text.utf8)
    var literal: [UInt8] = []
    var index = 0
    while index < bytes.count {
      guard bytes[index] == 0x25 else {
        literal.append(bytes[index])
        index += 1
        continue
      }
      if index + 1 < bytes.count, bytes[index + 1] == 0x25 {
        literal.append(0x25)
        index += 2
        continue
      }
      let operation = try Operation(bytes, from: index + 1)
      index = operation.end
      if !literal.isEmpty { segments.append(.literal(literal)) }
      literal = []
      segments.append(.value(try Self.value(operation, secret), limit: operation.limit))
    }
    if !literal.isEmpty { segments.append(.literal(literal)) }
  }

  /// `NAME`, `NAME(ARGUMENT)`, either with `:LIMIT`, up to its closing `%`.
  private struct Operation {
    var name: String
    var argument: String?
    var limit = AccessFormat.longest
    /// Behind the closing `%`.
    var end: Int

    init(_ bytes: [UInt8], from start: Int) throws(Problem) {
      let shown = String(decoding: bytes[(start - 1)..<min(bytes.count, start + 40)], as: UTF8.self)
      var index = start
      while index < bytes.count,
        bytes[index] == 0x5F || (0x41...0x5A).contains(bytes[index] & 0xDF)
          || (0x30...0x39).contains(bytes[index])
      {
        index += 1
      }
      name = String(decoding: bytes[start..<index], as: UTF8.self)
      if index < bytes.count, bytes[index] == 0x28 {
        guard let close = bytes[index...].firstIndex(of: 0x29) else { throw .unfinished(shown) }
        argument = String(decoding: bytes[(index + 1)..<close], as: UTF8.self)
        index = close + 1
      }
      if index < bytes.count, bytes[index] == 0x3A {
        let digits = bytes[(index + 1)...].prefix { $0 != 0x25 }
        let text = String(decoding: digits, as: UTF8.self)
        guard let number = Int(text), (1...AccessFormat.longest).contains(number) else { throw .invalidLimit(text) }
        limit = number
        index += 1 + digits.count
      }
      guard index < bytes.count, bytes[index] == 0x25 else { throw .unfinished(shown) }
      end = index + 1
    }
  }

  private static func value(_ operation: Operation, _ secret: Set<String>) throws(Problem) -> Value {
    switch operation.name {
    case "START_TIME":
      return .startTime(operation.argument.flatMap { $0.isEmpty ? nil : Array($0.utf8) + [0] })
    case "REQ":
      guard let argument = operation.argument, !argument.isEmpty else { throw .argumentMissing("REQ") }
      let names = argument.split(separator: "?", omittingEmptySubsequences: false).map(String.init)
      guard names.count <= 2 else { throw .invalidName(argument) }
      let parts = try names.map { name throws(Problem) in try part(name, secret) }
      return .request(parts[0], or: parts.count == 2 ? parts[1] : nil)
    case "RESP":
      guard let argument = operation.argument, !argument.isEmpty else { throw .argumentMissing("RESP") }
      return .response(try field(argument, secret))
    default:
      guard let known = AccessOperator(rawValue: operation.name) else { throw .unknown(operation.name) }
      if operation.argument != nil { throw .argumentUnwanted(operation.name) }
      return .simple(known)
    }
  }

  private static func part(_ name: String, _ secret: Set<String>) throws(Problem) -> RequestPart {
    switch name.lowercased() {
    case ":method": .method
    case ":path": .path
    case ":authority", "host": .authority
    case ":scheme": .scheme
    default: .field(try field(name, secret))
    }
  }

  private static func field(_ name: String, _ secret: Set<String>) throws(Problem) -> [UInt8] {
    let lower = name.lowercased()
    let isToken =
      !lower.isEmpty
      && lower.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) || "!#$%&'*+-.^_`|~".utf8.contains($0)
      }
    guard isToken else { throw .invalidName(name) }
    if sensitiveFields.contains(lower) || secret.contains(lower) { throw .sensitive(name) }
    return Array(lower.utf8)
  }
}
