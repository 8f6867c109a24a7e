/// Splunk's HTTP Event Collector (Splunk, "Format events for HTTP Event Collector" and "Troubleshoot HTTP Event
/// Collector: possible error codes").
package struct SplunkFormat: SinkFormat {
  /// What stands between an event's time and its record, for a source.
  private let members: @Sendable (String) -> [UInt8]

  /// `host` is the machine's name.
  package init(_ options: LogSinkConfiguration.SplunkOutput, host: String) {
    let head = JSONText.quoted(options.host ?? host)
    let tail = JSONText.quoted(options.sourcetype)
    let index = options.index.map { Array(",\"index\":".utf8) + JSONText.quoted($0) } ?? []
    let source = options.source
    self.members = { name in
      var bytes = Array(",\"host\":".utf8) + head
      bytes += Array(",\"source\":".utf8) + JSONText.quoted(source ?? name)
      bytes += Array(",\"sourcetype\":".utf8) + tail
      return bytes + index + Array(",\"event\":".utf8)
    }
  }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
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
