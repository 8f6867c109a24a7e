/// One field line of a head, as offsets into it.
package struct HeadField: Sendable {
  package var name: OctetRange
  package var value: OctetRange
  /// The offset just after the line's CR LF.
  package var lineEnd: Int
  package var known: KnownField
}

/// The fields of a head and what those that frame the message say. Reused from message to message: parsing keeps
/// the array's storage.
package struct FieldTable: Sendable {
  package private(set) var fields = ContiguousArray<HeadField>()
  package private(set) var contentLength: UInt64?
  package private(set) var isChunked = false
  package private(set) var saysClose = false
  package private(set) var saysKeepAlive = false
  package private(set) var saysUpgrade = false
  /// `Connection` names a field that is not one of the usual options: forwarding must drop those fields too.
  package private(set) var namesFields = false
  package private(set) var expectsContinue = false
  /// Index of the Host field, or -1.
  package private(set) var host = -1
  package private(set) var upgrade = -1
  package private(set) var requestID = -1
  package private(set) var traceparent = -1
  package private(set) var forwardedFor = -1
  package private(set) var accept = -1
  package private(set) var server = -1
  private var hasTransferEncoding = false

  /// Holds no storage until the first parse.
  package init() {}

  private mutating func reset() {
    fields.removeAll(keepingCapacity: true)
    contentLength = nil
    isChunked = false
    saysClose = false
    saysKeepAlive = false
    saysUpgrade = false
    namesFields = false
    expectsContinue = false
    hasTransferEncoding = false
    host = -1
    upgrade = -1
    requestID = -1
    traceparent = -1
    forwardedFor = -1
    accept = -1
    server = -1
  }

  /// Parses the field lines from `start` to the empty line. `bytes` is a whole head as `HeadScanner` found it, so
  /// that every LF is preceded by CR and an empty line comes last.
  mutating func parse(
    _ bytes: UnsafeRawBufferPointer, from start: Int, minorVersion: Int
  ) throws(HeadError) {
    reset()
    try parseLines(bytes, from: start, notes: true)
    if hasTransferEncoding {
      if contentLength != nil { throw .lengthAndTransferEncoding }
      if minorVersion == 0 { throw .transferEncodingInHTTP10 }
    }
  }

  /// Parses a trailer section (RFC 9112 section 7.1.2): `bytes` are its field lines and the empty line at its end.
  /// No field of it says anything about framing.
  package mutating func parseTrailers(_ bytes: UnsafeRawBufferPointer) throws(HeadError) {
    reset()
    guard bytes.count >= 2, bytes[bytes.count - 2] == Octets.carriageReturn, bytes[bytes.count - 1] == Octets.lineFeed
    else { throw .invalidTrailer }
    try parseLines(bytes, from: 0, notes: false)
  }

  private mutating func parseLines(
    _ bytes: UnsafeRawBufferPointer, from start: Int, notes: Bool
  ) throws(HeadError) {
    var position = start
    while bytes[position] != Octets.carriageReturn {
      let first = bytes[position]
      if first == Octets.space || first == Octets.tab { throw .foldedField }
      let end = Octets.endOfName(bytes, from: position)
      guard bytes[end] == 0x3A, end > position else {
        throw bytes[end] == Octets.space || bytes[end] == Octets.tab ? .whitespaceBeforeColon : .invalidFieldName
      }
      var valueStart = end + 1
      while bytes[valueStart] == Octets.space || bytes[valueStart] == Octets.tab { valueStart &+= 1 }
      let stop = Octets.endOfValue(bytes, from: valueStart)
      guard stop + 1 < bytes.count, bytes[stop] == Octets.carriageReturn else { throw .controlOctet }
      guard bytes[stop + 1] == Octets.lineFeed else { throw .bareCarriageReturn }
      var valueEnd = stop
      while valueEnd > valueStart, bytes[valueEnd - 1] == Octets.space || bytes[valueEnd - 1] == Octets.tab {
        valueEnd &-= 1
      }
      let name = OctetRange(position, end - position)
      let known = KnownField.find(name.of(bytes))
      let field = HeadField(
        name: name, value: OctetRange(valueStart, valueEnd - valueStart), lineEnd: stop + 2, known: known)
      fields.append(field)
      if notes, known != .other { try note(field, bytes) }
      position = stop + 2
    }
    // A CR at the start of a line is the empty line, which comes last, or stands alone.
    guard position + 2 == bytes.count else { throw .bareCarriageReturn }
  }

  private mutating func note(_ field: HeadField, _ bytes: UnsafeRawBufferPointer) throws(HeadError) {
    let index = fields.count - 1
    let value = field.value.of(bytes)
    switch field.known {
    case .host:
      guard host < 0, Self.isHost(value) else { throw .invalidHost }
      host = index
    case .contentLength:
      let length = try Self.length(value)
      if let contentLength, contentLength != length { throw .differingContentLengths }
      contentLength = length
    case .transferEncoding:
      guard !hasTransferEncoding, Octets.equal(value, ignoringCase: "chunked") else { throw .unknownTransferCoding }
      hasTransferEncoding = true
      isChunked = true
    case .connection: try noteConnection(value)
    case .expect: expectsContinue = Octets.equal(value, ignoringCase: "100-continue")
    case .upgrade: upgrade = index
    case .requestID: requestID = index
    case .traceparent: traceparent = index
    case .forwardedFor: forwardedFor = index
    case .accept: accept = index
    case .server: server = index
    default: break
    }
  }

  /// RFC 9110 section 7.6.1.
  private mutating func noteConnection(_ value: UnsafeRawBufferPointer) throws(HeadError) {
    if Octets.isKeepAlive(value) {
      saysKeepAlive = true
      return
    }
    var position = 0
    while position < value.count {
      let octet = value[position]
      if octet == 0x2C || octet == Octets.space || octet == Octets.tab {
        position += 1
        continue
      }
      let start = position
      while position < value.count, Octets.isToken(value[position]) { position += 1 }
      guard position > start else { throw .invalidConnection }
      let option = UnsafeRawBufferPointer(rebasing: value[start..<position])
      if Octets.equal(option, ignoringCase: "close") {
        saysClose = true
      } else if Octets.equal(option, ignoringCase: "keep-alive") {
        saysKeepAlive = true
      } else if Octets.equal(option, ignoringCase: "upgrade") {
        saysUpgrade = true
      } else {
        namesFields = true
      }
    }
  }

  /// True when a Connection field names this field.
  package func connectionNames(_ name: UnsafeRawBufferPointer, _ bytes: UnsafeRawBufferPointer) -> Bool {
    for field in fields where field.known == .connection {
      let value = field.value.of(bytes)
      for option in value.split(whereSeparator: { $0 == 0x2C || $0 == 0x20 || $0 == 0x09 })
      where Octets.equal(UnsafeRawBufferPointer(rebasing: option), ignoringCase: name) { return true }
    }
    return false
  }

  /// The value of the field at that index; empty for -1.
  @inlinable
  package func value(_ index: Int) -> OctetRange { index < 0 ? .empty : fields[index].value }

  /// The first field of that name (any case), or nil.
  package func first(named name: UnsafeRawBufferPointer, _ bytes: UnsafeRawBufferPointer) -> HeadField? {
    for field in fields where Octets.equal(field.name.of(bytes), ignoringCase: name) { return field }
    return nil
  }

  /// The index of the first field of that name (any case) at `start` or behind it, or nil.
  package func index(named name: UnsafeRawBufferPointer, from start: Int, _ bytes: UnsafeRawBufferPointer) -> Int? {
    var index = start
    while index < fields.count {
      if Octets.equal(fields[index].name.of(bytes), ignoringCase: name) { return index }
      index += 1
    }
    return nil
  }

  /// RFC 9110 section 8.6; a list of equal values in one field is refused, as is a sign.
  private static func length(_ value: UnsafeRawBufferPointer) throws(HeadError) -> UInt64 {
    guard value.count > 0, value.count <= 19 else { throw .invalidContentLength }
    var number: UInt64 = 0
    for octet in value {
      guard octet &- 48 < 10 else { throw .invalidContentLength }
      number = number &* 10 &+ UInt64(octet &- 48)
    }
    guard number <= UInt64(Int64.max) else { throw .invalidContentLength }
    return number
  }

  /// True when no octet of it is a control, a space, or a delimiter that no host and port can hold.
  package static func isHost(_ value: UnsafeRawBufferPointer) -> Bool {
    for octet in value {
      switch octet {
      case 0x2F, 0x3F, 0x23, 0x40, 0x5C, 0x2C, 0x3C, 0x3E, 0x22: return false  // / ? # @ \ , < > "
      case 0x21...0x7E: continue
      default: return false
      }
    }
    return true
  }
}
