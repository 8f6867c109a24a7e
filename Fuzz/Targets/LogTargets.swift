import Logs
import Vocabulary

enum LogTargets {
  /// The three ways to look at JSON agree with each other.
  static func json(_ input: UnsafeRawBufferPointer) -> String? {
    let isValid = JSONScanner.isValid(input)
    var ends = 0
    var complaint: String?
    let inside = JSONScanner.object(input) { key, value in
      if key.lowerBound < ends || value.lowerBound < key.upperBound || value.upperBound > input.count || value.isEmpty {
        complaint = "a member at \(key), \(value) of \(input.count)"
        return
      }
      ends = value.upperBound
      if UTF8Text.isValid(input), !JSONScanner.isValid(input.part(value)) { complaint = "a member that is no value" }
    }
    if let complaint { return complaint }
    let isArray = JSONScanner.array(input) { if $0.isEmpty || $0.upperBound > input.count { complaint = "an element" } }
    if inside != nil, isArray { return "an object and an array" }
    if isValid {
      let first = input.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
      if (inside != nil) != (first == 0x7B) || isArray != (first == 0x5B) { return "valid as one and not as the other" }
    } else if UTF8Text.isValid(input), inside != nil || isArray {
      return "not valid, and yet an object or an array"
    }
    return complaint
  }

  /// What a sink's server answers: whatever it is, a request's records get one judgement each, or one for all.
  static func sinkAnswer(_ input: UnsafeRawBufferPointer) -> String? {
    guard let first = input.first else { return nil }
    let body = Array(input.dropFirst())
    let answer = SinkAnswer.reply(
      status: [200, 400, 403, 413, 429, 500, 503, 204][Int(first & 7)], retryAfter: nil, body: body)
    let items = Int(first >> 3) + 1
    let splunk = LogSinkConfiguration.SplunkOutput(urls: [], token: SecretTemplate(literal: "t"))
    let formats: [any SinkFormat] = [
      BulkFormat(.init(urls: [], index: "a")), SplunkFormat(splunk, host: "h"),
      OTLPLogsFormat(.init(urls: []), host: "h"),
      JSONLinesFormat(isArray: false),
    ]
    for format in formats {
      if case .items(let verdicts) = format.judge(answer, items: items), verdicts.count != items {
        return "\(verdicts.count) verdicts for \(items) records"
      }
    }
    if body.withUnsafeBytes({ SplunkReply.isAcknowledged($0, 7) }) == true,
      !body.withUnsafeBytes({ JSONScanner.isValid($0) })
    {
      return "an acknowledgement that is no JSON"
    }
    return nil
  }

  /// What a forward server sends: a value never takes more than is there, and more octets do not change it.
  static func forwardValue(_ input: UnsafeRawBufferPointer) -> String? {
    guard case .value(let value, let length) = ForwardValue.read(input) else { return nil }
    if length < 1 || length > input.count { return "a value of \(length) in \(input.count) octets" }
    if ForwardValue.read(input.part(0..<length)) != .value(value, length) {
      return "another value without what follows"
    }
    for count in 0..<min(length, 64) where ForwardValue.read(input.part(0..<count)) != .incomplete {
      return "\(count) octets of a value of \(length) are not incomplete"
    }
    _ = value.helo
    return value.problemOfPong(salt: [1], nonce: [2], key: [3]) == nil ? "a digest that was guessed" : nil
  }

  /// A spool segment after a crash, or after somebody wrote into it: its records never reach beyond the batch.
  static func spool(_ input: UnsafeRawBufferPointer) -> String? {
    guard let first = input.first else { return nil }
    var segment = Array(input.dropFirst())
    // Every second input gets the head that leads further in: magic, length, checksum.
    if first & 1 == 1, segment.count >= SpoolBatchHead.size {
      put(UInt64(SpoolBatchHead.magic), 4, at: 0, in: &segment)
      put(UInt64(segment.count - SpoolBatchHead.size), 4, at: 4, in: &segment)
      let sum = segment.withUnsafeBytes { Checksum.crc32c($0.part(12..<$0.count)) }
      put(UInt64(sum), 4, at: 8, in: &segment)
    }
    return segment.withUnsafeBytes { bytes in
      let isIntact = SpoolBatchHead.isIntact(bytes)
      let next = SpoolBatchHead.nextIntact(bytes, from: 0)
      if isIntact, next != 0 { return "an intact batch is not found where it begins" }
      if let next, !SpoolBatchHead.isIntact(bytes.part(next..<bytes.count)) { return "what was found is damaged" }
      guard var view = SpoolBatchView(bytes) else { return isIntact ? "intact, and cannot be viewed" : nil }
      var total = SpoolBatchHead.size + view.source.count
      while let record = view.next() {
        total += SpoolBatchBuilder.markSize + record.bytes.count
        if total > bytes.count { return "records of \(total) octets in \(bytes.count)" }
        let arena = ByteArena()
        RecordView.appendRaw(record.bytes, record.mark, into: arena)
        _ = RecordView.pretty(record.bytes, colour: false)
      }
      return nil
    }
  }

  private static func put(_ value: UInt64, _ count: Int, at offset: Int, in bytes: inout [UInt8]) {
    for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
  }
}
