import HTTP1

/// What must hold of every message that was accepted.
enum MessageChecks {
  static func request(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer, _ limits: HeadLimits) -> String? {
    if let complaint = table(head.table, bytes, limits) { return complaint }
    if head.minorVersion == 1, head.table.host < 0 { return "a request without Host" }
    let target = head.target.of(bytes)
    if target.isEmpty || target.contains(where: { $0 <= 32 || $0 >= 127 || $0 == 35 }) {
      return "a target with an octet that it may not hold: \(target.shown)"
    }
    if head.path.count > 0, head.path.end != head.target.end { return "the path is not the end of the target" }
    if head.pathOnlyCount > head.path.count { return "more path than there is" }
    if head.path.of(bytes).prefix(head.pathOnlyCount).contains(63) && head.method != .connect {
      return "a query inside the path"
    }
    // Written anew as the proxy writes it, it must mean the same.
    let line = Array(head.methodText.of(bytes)) + [32] + Array(target) + Array(" HTTP/1.\(head.minorVersion)".utf8)
    let rewritten = rewrite(line, head.table, bytes)
    return rewritten.withUnsafeBytes { copy in
      var again = RequestHead()
      do throws(HeadError) {
        var scanner = HeadScanner()
        let length = try scanner.scan(copy, limits: HeadLimits())
        guard length == copy.count else { return "the rewritten head ends elsewhere: \(copy.shown)" }
        try again.parse(copy)
      } catch { return "the rewritten head is refused (\(error)): \(copy.shown)" }
      guard again.framing == head.framing, again.keepsAlive == head.keepsAlive, again.method == head.method,
        again.wantsUpgrade == head.wantsUpgrade, again.authority.of(copy).elementsEqual(head.authority.of(bytes)),
        again.path.of(copy).elementsEqual(head.path.of(bytes))
      else { return "the rewritten head means something else: \(copy.shown)" }
      return same(head.table, bytes, again.table, copy)
    }
  }

  static func response(_ head: ResponseHead, _ bytes: UnsafeRawBufferPointer, _ limits: HeadLimits) -> String? {
    if let complaint = table(head.table, bytes, limits) { return complaint }
    guard (100...999).contains(head.status) else { return "a status of \(head.status)" }
    let reason = head.reason.of(bytes)
    if reason.contains(where: { $0 < 32 && $0 != 9 || $0 == 127 }) { return "a control octet in the reason" }
    let line = Array("HTTP/1.\(head.minorVersion) \(head.status) ".utf8) + Array(reason)
    let rewritten = rewrite(line, head.table, bytes)
    return rewritten.withUnsafeBytes { copy in
      var again = ResponseHead()
      do throws(HeadError) { try again.parse(copy) } catch { return "the rewritten head is refused (\(error))" }
      guard again.framing(for: .get) == head.framing(for: .get), again.keepsAlive == head.keepsAlive,
        again.status == head.status
      else { return "the rewritten head means something else: \(copy.shown)" }
      return same(head.table, bytes, again.table, copy)
    }
  }

  private static func rewrite(_ line: [UInt8], _ table: FieldTable, _ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var out = line + [13, 10]
    for field in table.fields {
      out += field.name.of(bytes)
      out += [58, 32]
      out += field.value.of(bytes)
      out += [13, 10]
    }
    return out + [13, 10]
  }

  private static func same(
    _ table: FieldTable, _ bytes: UnsafeRawBufferPointer, _ again: FieldTable, _ copy: UnsafeRawBufferPointer
  ) -> String? {
    guard table.fields.count == again.fields.count else { return "the rewritten head has other fields" }
    for (one, other) in zip(table.fields, again.fields) {
      guard one.known == other.known, one.name.of(bytes).elementsEqual(other.name.of(copy)),
        one.value.of(bytes).elementsEqual(other.value.of(copy))
      else { return "the rewritten head has another field: \(one.name.of(bytes).shown)" }
    }
    return nil
  }

  /// Looks at each field with the plainest means there are.
  private static func table(_ table: FieldTable, _ bytes: UnsafeRawBufferPointer, _ limits: HeadLimits) -> String? {
    if table.fields.count > limits.fields { return "\(table.fields.count) fields" }
    // Nothing of a head is left out.
    if let last = table.fields.last, last.lineEnd + 2 != bytes.count { return "fields end before the head does" }
    if bytes.count > limits.bytes + 1 { return "a head of \(bytes.count) octets" }
    var lengths: Set<String> = []
    var codings: [String] = []
    for field in table.fields {
      let name = field.name.of(bytes)
      let value = field.value.of(bytes)
      if name.isEmpty || name.contains(where: { !isToken($0) }) { return "a name that is no token: \(name.shown)" }
      if value.contains(where: { $0 < 32 && $0 != 9 || $0 == 127 }) { return "a control octet in \(value.shown)" }
      if let first = value.first, first == 32 || first == 9 { return "a value that begins with white space" }
      if let last = value.last, last == 32 || last == 9 { return "a value that ends with white space" }
      let text = String(decoding: name, as: UTF8.self).lowercased()
      if (known[text] ?? .other) != field.known { return "\(text) is taken for \(field.known)" }
      if text == "content-length" { lengths.insert(String(decoding: value, as: UTF8.self)) }
      if text == "transfer-encoding" { codings.append(String(decoding: value, as: UTF8.self).lowercased()) }
    }
    if !lengths.isEmpty, !codings.isEmpty { return "both a length and a coding" }
    if !codings.isEmpty, codings != ["chunked"] { return "a coding other than one chunked: \(codings)" }
    if table.isChunked != !codings.isEmpty { return "chunked by no field" }
    let numbers = Set(lengths.map { UInt64($0) })
    if numbers.count > 1 || numbers.contains(nil) { return "lengths that are not one number: \(lengths)" }
    if table.contentLength != numbers.first.flatMap({ $0 }) { return "another length than the field's" }
    return nil
  }

  private static func isToken(_ octet: UInt8) -> Bool {
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8.contains(octet)
  }

  private static let known: [String: KnownField] = [
    "host": .host, "connection": .connection, "content-length": .contentLength,
    "transfer-encoding": .transferEncoding, "expect": .expect, "upgrade": .upgrade, "keep-alive": .keepAlive,
    "te": .te, "trailer": .trailer, "proxy-connection": .proxyConnection,
    "proxy-authorization": .proxyAuthorization, "proxy-authenticate": .proxyAuthenticate,
    "x-forwarded-for": .forwardedFor, "x-forwarded-proto": .forwardedProto, "x-forwarded-host": .forwardedHost,
    "x-request-id": .requestID, "traceparent": .traceparent, "accept": .accept, "retry-after": .retryAfter,
    "server": .server,
  ]

  /// A complete body is complete with its last octet and not before.
  static func body(_ body: UnsafeRawBufferPointer, _ message: MessageTargets.Transcript.Message) -> String? {
    if message.bodyCount != body.count { return "a body of \(message.bodyCount) octets that took \(body.count)" }
    switch message.framing {
    case .none: return body.isEmpty ? nil : "a message without a body took \(body.count) octets"
    case .length(let count):
      return UInt64(body.count) == count && message.content.count == body.count
        ? nil : "a length of \(count) took \(body.count)"
    case .untilClose: return "a body that ends with the connection is complete"
    case .chunked:
      guard let plain = PlainChunks.decode(body) else { return "an accepted chunked body is none: \(body.shown)" }
      if plain.end != body.count { return "a chunked body ends at \(plain.end), not at \(body.count)" }
      return plain.content == message.content ? nil : "another content"
    }
  }
}
