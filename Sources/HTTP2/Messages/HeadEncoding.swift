import HTTP1

/// What a request on its way to an HTTP/2 server needs that its head does not say.
package struct RequestOptions: Sendable {
  /// `:scheme` is https, else http.
  package var isHTTPS: Bool
  /// Ask for the Upgrade to WebSocket by extended CONNECT (RFC 8441). The head is an Upgrade request.
  package var extendedConnect = false
  /// Send `te: trailers` even where the head has lost it on its way.
  package var acceptsTrailers = false
  /// Names to keep never-indexed, as the facts of a received head give them.
  package var sensitive = SensitiveNames()
  package init(isHTTPS: Bool) { self.isHTTPS = isHTTPS }
}

/// Heads of HTTP/1.1 form to field blocks: names in lower case, fields of one hop dropped (RFC 9113 section 8.2.2).
extension HPACKEncoder {
  /// Octets that a block of this head takes at most.
  static func bound(_ head: Int, fields: Int) -> Int { head + fields * overhead + startOverhead + 256 }

  /// Encodes a request head; `bytes` is what `head` was parsed from.
  mutating func request(
    _ head: RequestHead, _ bytes: UnsafeRawBufferPointer, _ options: RequestOptions,
    to output: inout UnsafeMutablePointer<UInt8>
  ) {
    begin(&output)
    let isConnect = head.method == .connect
    if options.extendedConnect {
      pseudo(":method", "CONNECT", to: &output)
      pseudo(":protocol", "websocket", to: &output)
    } else {
      pseudo(":method", head.methodText.of(bytes), to: &output)
    }
    if !isConnect {
      pseudo(":scheme", options.isHTTPS ? "https" : "http", to: &output)
      let path = head.path.of(bytes)
      if path.count == 0 {
        pseudo(":path", head.method == .options ? "*" : "/", to: &output)
      } else if path[0] == 0x3F {
        // An absolute target with a query but no path (RFC 9113 section 8.3.1).
        let rooted = [0x2F] + Array(path)
        rooted.withUnsafeBytes { pseudo(":path", $0, to: &output) }
      } else {
        pseudo(":path", path, to: &output)
      }
    }
    let authority =
      head.authority.count > 0
      ? head.authority.of(bytes)
      : head.table.host >= 0
        ? head.table.fields[head.table.host].value.of(bytes) : UnsafeRawBufferPointer(rebasing: bytes[..<0])
    if authority.count > 0 { pseudo(":authority", authority, to: &output) }
    let form: HeadForm = options.extendedConnect ? .extendedConnect : .request
    fields(head.table, bytes, form, addTrailers: options.acceptsTrailers, options.sensitive, to: &output)
  }

  /// Encodes a response head with this status; `bytes` is what `head` was parsed from.
  mutating func response(
    _ head: ResponseHead, _ bytes: UnsafeRawBufferPointer, status: Int, _ sensitive: SensitiveNames,
    to output: inout UnsafeMutablePointer<UInt8>
  ) {
    begin(&output)
    let digits = UInt32(status / 100 + 48) | UInt32(status / 10 % 10 + 48) << 8 | UInt32(status % 10 + 48) << 16
    withUnsafeBytes(of: digits.littleEndian) {
      pseudo(":status", UnsafeRawBufferPointer(rebasing: $0[..<3]), to: &output)
    }
    let form: HeadForm =
      head.status == 101 ? .upgraded : status < 200 || status == 204 ? .bodylessResponse : .response
    fields(head.table, bytes, form, addTrailers: false, sensitive, to: &output)
  }

  /// Encodes a trailer section; `bytes` is what `table` was parsed from.
  mutating func trailers(
    _ table: FieldTable, _ bytes: UnsafeRawBufferPointer, _ sensitive: SensitiveNames,
    to output: inout UnsafeMutablePointer<UInt8>
  ) {
    begin(&output)
    fields(table, bytes, .trailers, addTrailers: false, sensitive, to: &output)
  }

  @inline(__always)
  mutating func pseudo(
    _ name: StaticString, _ value: UnsafeRawBufferPointer, to output: inout UnsafeMutablePointer<UInt8>
  ) {
    field(UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), value, to: &output)
  }

  @inline(__always)
  mutating func pseudo(_ name: StaticString, _ value: StaticString, to output: inout UnsafeMutablePointer<UInt8>) {
    pseudo(name, UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount), to: &output)
  }

  private mutating func fields(
    _ table: FieldTable, _ bytes: UnsafeRawBufferPointer, _ form: HeadForm, addTrailers: Bool,
    _ sensitive: SensitiveNames, to output: inout UnsafeMutablePointer<UInt8>
  ) {
    var longest = 2
    for field in table.fields where field.name.count > longest { longest = field.name.count }
    var hasLength = false
    var hasTrailers = !addTrailers
    withUnsafeTemporaryAllocation(byteCount: longest, alignment: 1) { lowered in
      for field in table.fields {
        if field.known != .other {
          guard form.passes(field, bytes) else { continue }
          if field.known == .contentLength {
            // A repeated equal length is sent once.
            if hasLength { continue }
            hasLength = true
          }
          if field.known == .te { hasTrailers = true }
        }
        if table.namesFields, field.known != .te, table.connectionNames(field.name.of(bytes), bytes) { continue }
        let name = Self.lower(field.name.of(bytes), lowered)
        if field.known == .other, form.drops(name) { continue }
        self.field(name, field.value.of(bytes), sensitive: sensitive, to: &output)
      }
    }
    if !hasTrailers { pseudo("te", "trailers", to: &output) }
  }

  @inline(__always)
  private static func lower(
    _ name: UnsafeRawBufferPointer, _ room: UnsafeMutableRawBufferPointer
  ) -> UnsafeRawBufferPointer {
    var index = 0
    while index < name.count {
      room[index] = Octets.lowercased(name[index])
      index &+= 1
    }
    return UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<name.count])
  }
}

/// What kind of head is encoded, which decides about the fields that frame a message or concern one hop.
enum HeadForm {
  case request, extendedConnect, response, bodylessResponse, upgraded, trailers

  /// Whether a field of a known name goes on.
  func passes(_ field: HeadField, _ bytes: UnsafeRawBufferPointer) -> Bool {
    switch field.known {
    case .host, .transferEncoding: return false
    case .contentLength: return self == .request || self == .response
    case .te: return self == .request && Octets.equal(field.value.of(bytes), ignoringCase: "trailers")
    case .expect: return self == .request
    default: return !field.known.isHopByHop
    }
  }

  /// Whether a field of another name stays behind. `name` is lower case.
  func drops(_ name: UnsafeRawBufferPointer) -> Bool {
    if name.count == 14 { return Octets.equal(name, ignoringCase: "http2-settings") }
    // WebSocket over HTTP/2 has no use for them (RFC 8441 section 5).
    if self == .extendedConnect { return Octets.equal(name, ignoringCase: "sec-websocket-key") }
    return self == .upgraded && Octets.equal(name, ignoringCase: "sec-websocket-accept")
  }
}
