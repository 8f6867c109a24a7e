import HTTP1

/// What a field's name is, for the names that HTTP/2 gives a meaning of their own.
enum FieldToken: UInt8, Sendable {
  case other
  case authority, method, path, scheme, status, `protocol`
  /// A name with a colon in front that RFC 9113 and RFC 8441 do not define.
  case unknownPseudo
  case contentLength, cookie, host, te
  /// Connection, Proxy-Connection, Keep-Alive, Upgrade: of one hop only (RFC 9113 section 8.2.2).
  case connectionSpecific
  case transferEncoding

  @inline(__always)
  var isPseudo: Bool { rawValue >= 1 && rawValue <= 7 }

  static func find(_ name: UnsafeRawBufferPointer) -> FieldToken {
    guard name.count > 0 else { return .other }
    if name[0] == 0x3A {
      switch name.count {
      case 5: return Octets.equal(name, ignoringCase: ":path") ? .path : .unknownPseudo
      case 7:
        if Octets.equal(name, ignoringCase: ":method") { return .method }
        if Octets.equal(name, ignoringCase: ":scheme") { return .scheme }
        return Octets.equal(name, ignoringCase: ":status") ? .status : .unknownPseudo
      case 9: return Octets.equal(name, ignoringCase: ":protocol") ? .protocol : .unknownPseudo
      case 10: return Octets.equal(name, ignoringCase: ":authority") ? .authority : .unknownPseudo
      default: return .unknownPseudo
      }
    }
    switch name.count {
    case 2: return Octets.equal(name, ignoringCase: "te") ? .te : .other
    case 4: return Octets.equal(name, ignoringCase: "host") ? .host : .other
    case 6: return Octets.equal(name, ignoringCase: "cookie") ? .cookie : .other
    case 7: return Octets.equal(name, ignoringCase: "upgrade") ? .connectionSpecific : .other
    case 10:
      let isSpecific =
        Octets.equal(name, ignoringCase: "connection") || Octets.equal(name, ignoringCase: "keep-alive")
      return isSpecific ? .connectionSpecific : .other
    case 14: return Octets.equal(name, ignoringCase: "content-length") ? .contentLength : .other
    case 16: return Octets.equal(name, ignoringCase: "proxy-connection") ? .connectionSpecific : .other
    case 17: return Octets.equal(name, ignoringCase: "transfer-encoding") ? .transferEncoding : .other
    default: return .other
    }
  }
}

/// What is known of one field beyond its octets.
struct FieldFlags: OptionSet, Sendable {
  let rawValue: UInt8
  /// The name is a pseudo-field's or a token in lower case (RFC 9113 section 8.2.1).
  static let validName = FieldFlags(rawValue: 1)
  /// The value holds no control octet but HTAB, and no white space at either end.
  static let validValue = FieldFlags(rawValue: 2)
  /// A never-indexed literal (RFC 7541 section 6.2.3).
  static let neverIndexed = FieldFlags(rawValue: 4)
}

/// The octet rules of RFC 9113 section 8.2.1.
enum FieldRules {
  static func isName(_ name: UnsafeRawBufferPointer, _ token: FieldToken) -> Bool {
    if name.count == 0 { return false }
    var position = 0
    if token.isPseudo {
      if token == .unknownPseudo { return false }
      position = 1
    }
    while position < name.count {
      let octet = name[position]
      guard Octets.isToken(octet), octet &- 65 >= 26 else { return false }
      position &+= 1
    }
    return true
  }

  static func isValue(_ value: UnsafeRawBufferPointer) -> Bool {
    if value.count == 0 { return true }
    let first = value[0]
    let last = value[value.count - 1]
    if first == Octets.space || first == Octets.tab || last == Octets.space || last == Octets.tab { return false }
    return Octets.endOfValue(value, from: 0) == value.count
  }
}
