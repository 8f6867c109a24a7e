import HTTP1

/// The first look at a field list: every rule that concerns one field, and where the special ones are.
struct FieldScan {
  /// What kind of message the list belongs to.
  enum Kind { case request, response, trailers }

  /// Indices into the list; -1 = absent.
  var method = -1
  var scheme = -1
  var path = -1
  var authority = -1
  var `protocol` = -1
  var status = -1
  var host = -1
  var contentLengthField = -1
  var contentLength: UInt64?
  var firstCookie = -1
  var cookies = 0
  var acceptsTrailers = false
  var sensitive = SensitiveNames()
  /// Octets of all names and values.
  var octets = 0

  /// Looks at every field; returns what is wrong with the first bad one.
  mutating func scan(_ list: borrowing FieldList, _ kind: Kind) -> MessageProblem? {
    var pseudoAllowed = kind != .trailers
    var index = 0
    let count = list.count
    while index < count {
      let field = list.fields[index]
      if !field.flags.isSuperset(of: [.validName, .validValue]) { return Self.octetProblem(field) }
      octets &+= Int(field.nameCount &+ field.valueCount)
      if field.token.isPseudo {
        guard pseudoAllowed else { return .misplacedPseudoField }
        if let problem = note(pseudo: field, index, kind) { return problem }
      } else {
        pseudoAllowed = false
        if field.token != .other, let problem = note(field, index, list, kind) { return problem }
      }
      if field.flags.contains(.neverIndexed) { sensitive.insert(list.name(field)) }
      index &+= 1
    }
    return nil
  }

  private static func octetProblem(_ field: DecodedField) -> MessageProblem {
    if field.token == .unknownPseudo { return .unknownPseudoField }
    return field.flags.contains(.validName) ? .invalidValue : .invalidName
  }

  private mutating func note(pseudo field: DecodedField, _ index: Int, _ kind: Kind) -> MessageProblem? {
    if (field.token == .status) != (kind == .response) { return .misplacedPseudoField }
    func set(_ place: inout Int) -> MessageProblem? {
      if place >= 0 { return .repeatedPseudoField }
      place = index
      return nil
    }
    switch field.token {
    case .method: return set(&method)
    case .scheme: return set(&scheme)
    case .path: return set(&path)
    case .authority: return set(&authority)
    case .protocol: return set(&`protocol`)
    case .status: return set(&status)
    default: return .unknownPseudoField
    }
  }

  private mutating func note(
    _ field: DecodedField, _ index: Int, _ list: borrowing FieldList, _ kind: Kind
  ) -> MessageProblem? {
    switch field.token {
    case .connectionSpecific, .transferEncoding: return .connectionSpecificField
    case .te:
      guard kind == .request, Octets.equal(list.value(field), ignoringCase: "trailers") else { return .invalidTE }
      acceptsTrailers = true
    case .host:
      if kind == .response { return nil }
      guard kind == .request, host < 0 else { return .invalidAuthority }
      host = index
    case .cookie:
      if cookies == 0 { firstCookie = index }
      cookies += 1
    case .contentLength:
      guard kind != .trailers, let length = Self.length(list.value(field)) else { return .invalidContentLength }
      if let contentLength, contentLength != length { return .invalidContentLength }
      contentLength = length
      if contentLengthField < 0 { contentLengthField = index }
    default: break
    }
    return nil
  }

  /// RFC 9110 section 8.6: digits alone, less than 2^63.
  private static func length(_ value: UnsafeRawBufferPointer) -> UInt64? {
    guard value.count > 0, value.count <= 19 else { return nil }
    var number: UInt64 = 0
    for octet in value {
      guard octet &- 48 < 10 else { return nil }
      number = number &* 10 &+ UInt64(octet &- 48)
    }
    return number <= UInt64(Int64.max) ? number : nil
  }
}
