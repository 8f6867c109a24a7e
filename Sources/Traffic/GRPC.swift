/// What a proxy has to know of gRPC over HTTP/2 (the protocol's `PROTOCOL-HTTP2` text).
package enum GRPC {
  /// Status codes; others are numbers alone.
  package enum Status: Int, Sendable, CaseIterable {
    case ok = 0
    case cancelled = 1
    case unknown = 2
    case deadlineExceeded = 4
    case permissionDenied = 7
    case resourceExhausted = 8
    case unimplemented = 12
    case `internal` = 13
    case unavailable = 14
    case unauthenticated = 16
  }

  /// True for `application/grpc`, alone or with `+format` or parameters behind it.
  package static func isContentType(_ value: UnsafeRawBufferPointer) -> Bool {
    let name: StaticString = "application/grpc"
    let count = name.utf8CodeUnitCount
    guard value.count >= count else { return false }
    for index in 0..<count {
      let octet = value[index]
      let lower = octet &- 65 < 26 ? octet | 0x20 : octet
      if lower != name.utf8Start[index] { return false }
    }
    // `application/grpc-web` is another protocol.
    return value.count == count || value[count] == 0x2B || value[count] == 0x3B
  }

  /// The nanoseconds of a `grpc-timeout`: at most eight digits and a unit; nil when it is not valid.
  package static func timeout(_ value: UnsafeRawBufferPointer) -> UInt64? {
    guard (2...9).contains(value.count), let number = number(value, value.count - 1) else { return nil }
    let unit: UInt64
    switch value[value.count - 1] {
    case UInt8(ascii: "H"): unit = 3_600_000_000_000
    case UInt8(ascii: "M"): unit = 60_000_000_000
    case UInt8(ascii: "S"): unit = 1_000_000_000
    case UInt8(ascii: "m"): unit = 1_000_000
    case UInt8(ascii: "u"): unit = 1000
    case UInt8(ascii: "n"): unit = 1
    default: return nil
    }
    let product = number.multipliedReportingOverflow(by: unit)
    return product.overflow ? .max : product.partialValue
  }

  /// The number of a `grpc-status`; nil when it is not one of at most three digits.
  package static func status(_ value: UnsafeRawBufferPointer) -> Int? {
    guard (1...3).contains(value.count) else { return nil }
    return number(value, value.count).map { Int($0) }
  }

  /// A status that HTTP would answer 500 or above for: the server's failure, not the caller's.
  package static func isFailure(_ status: Int) -> Bool {
    switch status {
    case 2, 4, 13, 14, 15: true
    default: false
    }
  }

  private static func number(_ text: UnsafeRawBufferPointer, _ count: Int) -> UInt64? {
    var number: UInt64 = 0
    for index in 0..<count {
      guard text[index] &- 48 < 10 else { return nil }
      number = number * 10 + UInt64(text[index] - 48)
    }
    return number
  }
}

extension GRPC.Status {
  /// What stands for an HTTP status (gRPC's `http-grpc-status-mapping` text).
  package init(http status: Int) {
    self =
      switch status {
      case 400: .internal
      case 401: .unauthenticated
      case 403: .permissionDenied
      case 404: .unimplemented
      case 429, 502, 503, 504: .unavailable
      default: .unknown
      }
  }
}

extension Fault {
  /// What a gRPC client is told in place of an HTTP status.
  package var grpcStatus: GRPC.Status {
    switch self {
    case .routeTimeout, .tryTimeout: .deadlineExceeded
    case .noRoute: .unimplemented
    case .badRequest, .notHTTP, .headTooLarge, .versionNotSupported, .upstreamProtocol: .internal
    case .connectRefusedByPolicy, .destinationDenied, .accessDenied, .wrongAudience, .authorizerFailed,
      .authorizerDenied:
      .permissionDenied
    case .unauthenticated: .unauthenticated
    case .rateLimited: .resourceExhausted
    case .requestTimeout, .streamIdle: .cancelled
    case .noEndpoint, .noneAvailable, .missingSecret, .overflow, .overload, .dnsFailure, .connectionRefused,
      .connectionTimeout,
      .connectionReset, .tlsCertificate, .tlsUntrusted, .tlsRefused, .tlsProtocol, .tlsUnavailable, .keysUnavailable,
      .injected:
      .unavailable
    }
  }
}
