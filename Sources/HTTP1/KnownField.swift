/// The field names that the engine treats specially; everything else passes as `other`.
package enum KnownField: UInt8, Sendable {
  case other
  case host, connection, contentLength, transferEncoding, expect, upgrade, keepAlive, te, trailer
  case proxyConnection, proxyAuthorization, proxyAuthenticate
  case forwardedFor, forwardedProto, forwardedHost, requestID, traceparent, tracestate, accept, retryAfter, server

  /// Fields that concern one hop only and are never forwarded (RFC 9110 section 7.6.1).
  @inlinable
  package var isHopByHop: Bool {
    switch self {
    case .connection, .keepAlive, .te, .upgrade, .proxyConnection, .proxyAuthorization, .proxyAuthenticate: true
    default: false
    }
  }

  @inline(__always)
  static func find(_ name: UnsafeRawBufferPointer) -> KnownField {
    switch name.count {
    case 2: return Octets.isName(name, "te") ? .te : .other
    case 4: return Octets.isName(name, "host") ? .host : .other
    case 6:
      if Octets.isName(name, "accept") { return .accept }
      if Octets.isName(name, "expect") { return .expect }
      return Octets.isName(name, "server") ? .server : .other
    case 7:
      if Octets.isName(name, "upgrade") { return .upgrade }
      return Octets.isName(name, "trailer") ? .trailer : .other
    case 10:
      if Octets.isName(name, "connection") { return .connection }
      if Octets.isName(name, "tracestate") { return .tracestate }
      return Octets.isName(name, "keep-alive") ? .keepAlive : .other
    case 11:
      if Octets.isName(name, "traceparent") { return .traceparent }
      return Octets.isName(name, "retry-after") ? .retryAfter : .other
    case 12: return Octets.isName(name, "x-request-id") ? .requestID : .other
    case 14: return Octets.isName(name, "content-length") ? .contentLength : .other
    case 15: return Octets.isName(name, "x-forwarded-for") ? .forwardedFor : .other
    case 16:
      if Octets.isName(name, "x-forwarded-host") { return .forwardedHost }
      return Octets.isName(name, "proxy-connection") ? .proxyConnection : .other
    case 17:
      if Octets.isName(name, "transfer-encoding") { return .transferEncoding }
      return Octets.isName(name, "x-forwarded-proto") ? .forwardedProto : .other
    case 18: return Octets.isName(name, "proxy-authenticate") ? .proxyAuthenticate : .other
    case 19: return Octets.isName(name, "proxy-authorization") ? .proxyAuthorization : .other
    default: return .other
    }
  }
}

/// The request methods whose properties matter here.
package enum Method: UInt8, Sendable {
  case get, head, post, put, delete, options, trace, patch, connect, other

  /// Idempotent by definition (RFC 9110 section 9.2.2): sending it twice means the same as once.
  package var isIdempotent: Bool {
    switch self {
    case .get, .head, .put, .delete, .options, .trace: true
    case .post, .patch, .connect, .other: false
    }
  }

  @inline(__always)
  static func find(_ text: UnsafeRawBufferPointer) -> Method {
    switch text.count {
    case 3: return matches(text, "GET") ? .get : matches(text, "PUT") ? .put : .other
    case 4: return matches(text, "POST") ? .post : matches(text, "HEAD") ? .head : .other
    case 5: return matches(text, "PATCH") ? .patch : matches(text, "TRACE") ? .trace : .other
    case 6: return matches(text, "DELETE") ? .delete : .other
    case 7: return matches(text, "OPTIONS") ? .options : matches(text, "CONNECT") ? .connect : .other
    default: return .other
    }
  }

  @inline(__always)
  private static func matches(_ text: UnsafeRawBufferPointer, _ name: StaticString) -> Bool {
    var index = 0
    while index < text.count {
      if text[index] != name.utf8Start[index] { return false }
      index &+= 1
    }
    return true
  }
}
