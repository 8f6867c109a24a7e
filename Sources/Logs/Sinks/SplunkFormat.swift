/// Splunk's HTTP Event Collector (Splunk, "Format events for HTTP Event Collector" and "Troubleshoot HTTP Event
/// Collector: possible error codes").
package struct SplunkFormat: SinkFormat {
  /// What stands between an event's time and its record, for a source.
  private let members: @Sendable (String) -> [UInt8]
  private let isRaw: Bool

  /// `host` is the machine's name.
  package init(_ options: LogSinkConfiguration.SplunkOutput, host: String) {
    let head = JSONText.quoted(options.host ?? host)
    let tail = JSONText.quoted(options.sourcetype)
    let index = options.index.map { Array(",\"index\":".utf8) + JSONText.quoted($0) } ?? []
    let source = options.source
    isRaw = options.isRaw
    self.members = { name in
      var bytes = Array(",\"host\":".utf8) + head
      bytes += Array(",\"source\":".utf8) + JSONText.quoted(source ?? name)
      bytes += Array(",\"sourcetype\":".utf8) + tail
      return bytes + index + Array(",\"event\":".utf8)
    }
  }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    if isRaw { return raw(batch, chosen) }
    let members = batch.sources.map(self.members)
    let arena = ByteArena(capacity: chosen.reduce(64) { $0 + batch.items[$1].record.count + 128 })
    for position in chosen {
      let item = batch.items[position]
      arena.append("{\"time\":")
      Self.append(time: item.mark.time, into: arena)
      arena.append(members[item.source])
      arena.append(batch.content(position))
      arena.append("}\n")
    }
    return Array(arena.bytes)
  }

  /// Lines as the app wrote them; what they mean stands in the address.
  private func raw(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    let arena = ByteArena(capacity: chosen.reduce(64) { $0 + batch.items[$1].record.count })
    for position in chosen {
      RecordView.appendRaw(batch.content(position), batch.items[position].mark, into: arena)
      arena.append(0x0A as UInt8)
    }
    return Array(arena.bytes)
  }

  /// The path of the collector and, for lines, what they are.
  package static func path(_ options: LogSinkConfiguration.SplunkOutput, host: String, channel: String?) -> String {
    guard options.isRaw else { return "/services/collector/event" }
    var query: [(String, String)] = [("host", options.host ?? host), ("sourcetype", options.sourcetype)]
    if let source = options.source { query.append(("source", source)) }
    if let index = options.index { query.append(("index", index)) }
    if let channel { query.append(("channel", channel)) }
    return "/services/collector/raw?"
      + query.map { name, value in
        let plain = value.utf8.map { byte in
          let isPlain =
            (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == 0x2D || byte == 0x2E
            || byte == 0x5F
          return isPlain ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return name + "=" + plain.joined()
      }.joined(separator: "&")
  }

  /// Seconds since 1970 with three digits behind the point.
  static func append(time: Int64, into arena: ByteArena) {
    let milliseconds = max(0, time / 1_000_000)
    arena.append(decimal: milliseconds / 1000)
    arena.append(UInt8(ascii: "."))
    arena.append(text: LogTime.pad(Int(milliseconds % 1000), 3))
  }

  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement {
    guard case .reply(let status, let after, let body) = answer else { return SinkStatus.judge(answer) }
    guard let reply = body.withUnsafeBytes({ SplunkReply($0) }) else {
      // Success is `{"text":"Success","code":0}`; anything else did not come from a collector.
      if (200..<300).contains(status) { return .again("the answer is none of an event collector; is the url right?") }
      return SinkStatus.judge(answer)
    }
    return Self.judge(reply, status: status, after: after, items: items)
  }

  private static func judge(_ reply: SplunkReply, status: Int, after: Duration?, items: Int) -> SinkJudgement {
    let shown = "\(status) code \(reply.code): \(reply.text)"
    switch reply.code {
    case 0: return (200..<300).contains(status) ? .stored : .again(shown, after: after)
    case 1, 2, 3, 4: return .halt("\(shown); set a token that the collector knows")
    case 7: return .halt("\(shown); the token may not write to this index: set `index`, or allow it")
    case 10, 11, 14:
      return .halt("\(shown); the token has no indexer acknowledgment: set `ack: false`, or switch it on")
    case 5, 6, 12, 13, 15:
      // The events before the invalid one may or may not be in: they are sent again rather than lost.
      guard let bad = reply.invalidEvent, bad < items, items > 1 else { return .split(shown) }
      return .items((0..<items).map { $0 == bad ? .refused(shown) : .again(shown) })
    default: return status == 413 ? .split(shown) : .again(shown, after: after)
    }
  }
}

/// The answer of the collector: `{"text":"Server is busy","code":9,"invalid-event-number":0,"ackId":7}`.
package struct SplunkReply: Sendable, Equatable {
  package var code: Int
  package var text = ""
  package var invalidEvent: Int?
  package var acknowledgement: Int?

  /// Nil when the bytes are no such object.
  package init?(_ body: Bytes) {
    guard body.count <= 64 << 10, UTF8Text.isValid(body) else { return nil }
    var code: Int?
    var text = ""
    var invalid: Int?
    var ack: Int?
    let whole = JSONScanner.object(body) { key, value in
      let key = body.part(key)
      let value = body.part(value)
      if key.equals("code") { code = Int(value.text) }
      if key.equals("text") { text = String((JSONText.string(value) ?? "").prefix(300)) }
      if key.equals("invalid-event-number") { invalid = Int(value.text).flatMap { $0 >= 0 ? $0 : nil } }
      if key.equals("ackId") { ack = Int(value.text) }
    }
    guard whole != nil, let code else { return nil }
    self.code = code
    self.text = text
    invalidEvent = invalid
    acknowledgement = ack
  }

  /// Reads `{"acks":{"7":true}}`: nil when the bytes are no such object, else whether it holds `id` as true.
  package static func isAcknowledged(_ body: Bytes, _ id: Int) -> Bool? {
    guard body.count <= 64 << 10, UTF8Text.isValid(body) else { return nil }
    var list: Range<Int>?
    let whole = JSONScanner.object(body) { key, value in if body.part(key).equals("acks") { list = value } }
    guard whole != nil, let list else { return nil }
    let acks = body.part(list)
    var found = false
    let isObject = JSONScanner.object(acks) { key, value in
      if acks.part(key).elementsEqual(String(id).utf8) { found = acks.part(value).equals("true") }
    }
    return isObject == nil ? nil : found
  }
}
