import HTTP1

/// A stream of HTTP/1.1 messages, read as the proxy's connections read them.
enum MessageTargets {
  /// The limits are low, so that they are met.
  private static let limits = HeadLimits(bytes: 1024, fields: 12)

  static func request(_ input: UnsafeRawBufferPointer) -> String? {
    let splits = Splits(input)
    let whole = read(splits.stream, cuts: nil, method: nil)
    if let complaint = whole.complaint { return complaint }
    return compare(whole, read(splits.stream, cuts: splits, method: nil))
  }

  /// The first octet chooses the request's method.
  static func response(_ input: UnsafeRawBufferPointer) -> String? {
    guard input.count > 2 else { return nil }
    let method: Method = [.get, .head, .post, .connect][Int(input[0] & 3)]
    let splits = Splits(input)
    let whole = read(splits.stream, cuts: nil, method: method)
    if let complaint = whole.complaint { return complaint }
    return compare(whole, read(splits.stream, cuts: splits, method: method))
  }

  /// What a connection made of a stream.
  struct Transcript {
    struct Message: Equatable {
      var head: [UInt8]
      var framing: BodyFraming
      var content: [UInt8] = []
      var bodyCount = 0
      var isComplete = false
    }
    var messages: [Message] = []
    var error: HeadError?
    var complaint: String?
  }

  private static func compare(_ whole: Transcript, _ split: Transcript) -> String? {
    if let complaint = split.complaint { return "split: \(complaint)" }
    if whole.messages != split.messages {
      return "messages differ by how they arrive: \(whole.messages) and \(split.messages)"
    }
    if (whole.error == nil) != (split.error == nil) {
      return
        "an error depends on how octets arrive: \(String(describing: whole.error)), \(String(describing: split.error))"
    }
    // A head that is both too large and wrong further on is refused for the one or for the other.
    let isLarge = whole.error == .headTooLarge || split.error == .headTooLarge
    return whole.error == split.error || isLarge ? nil : "another error: \(whole.error!) and \(split.error!)"
  }

  /// `method` = that of the requests when responses are read; nil = requests are read.
  private static func read(_ stream: UnsafeRawBufferPointer, cuts: Splits?, method: Method?) -> Transcript {
    var cuts = cuts
    var reader = MessageReader(method: method, limits: limits)
    var arrived = 0
    while arrived < stream.count, reader.transcript.error == nil, reader.transcript.complaint == nil {
      arrived += cuts?.next(of: stream.count - arrived) ?? stream.count
      reader.take(stream.part(0..<arrived))
    }
    return reader.transcript
  }
}

/// Reads messages one after the other; is given all octets from the first each time, as far as they have come.
struct MessageReader {
  private let method: Method?
  private let limits: HeadLimits
  private var position = 0
  private var scanner = HeadScanner()
  private var body: BodyDecoder?
  private var bodyStart = 0
  private(set) var transcript = MessageTargets.Transcript()

  init(method: Method?, limits: HeadLimits) {
    self.method = method
    self.limits = limits
  }

  mutating func take(_ all: UnsafeRawBufferPointer) {
    do throws(HeadError) {
      while position < all.count, transcript.complaint == nil {
        if body == nil {
          guard try head(all) else { return }
        }
        try content(all)
        guard body?.isComplete == true else { return }
        transcript.messages[transcript.messages.count - 1].isComplete = true
        transcript.complaint = MessageChecks.body(
          all.part(bodyStart..<position), transcript.messages[transcript.messages.count - 1])
        body = nil
      }
    } catch {
      transcript.error = error
      // How much was taken of a body before it was refused depends on how it arrives; its content does not.
      if let last = transcript.messages.last, !last.isComplete {
        transcript.messages[transcript.messages.count - 1].bodyCount = 0
      }
    }
  }

  /// False when more octets are needed.
  private mutating func head(_ all: UnsafeRawBufferPointer) throws(HeadError) -> Bool {
    if method == nil, body == nil, scannerIsNew {
      position += HeadScanner.leadingBlank(all.part(position..<all.count))
      if position == all.count || position + 1 == all.count && all[position] == 13 { return false }
    }
    scannerIsNew = false
    let rest = all.part(position..<all.count)
    guard let count = try scanner.scan(rest, limits: limits) else { return false }
    let bytes = rest.part(0..<count)
    let framing: BodyFraming
    if let method {
      var head = ResponseHead()
      try head.parse(bytes)
      framing = head.framing(for: method)
      transcript.complaint = MessageChecks.response(head, bytes, limits)
    } else {
      var head = RequestHead()
      try head.parse(bytes)
      framing = head.framing
      transcript.complaint = MessageChecks.request(head, bytes, limits)
    }
    scanner = HeadScanner()
    scannerIsNew = true
    transcript.messages.append(.init(head: Array(bytes), framing: framing))
    body = BodyDecoder(framing)
    position += count
    bodyStart = position
    return true
  }
  private var scannerIsNew = true

  private mutating func content(_ all: UnsafeRawBufferPointer) throws(HeadError) {
    let rest = all.part(position..<all.count)
    var pieces: [UInt8] = []
    defer { transcript.messages[transcript.messages.count - 1].content += pieces }
    guard let taken = try body?.consume(rest, content: { pieces += rest.part($0) }) else { return }
    if taken > rest.count { transcript.complaint = "a body took \(taken) of \(rest.count) octets" }
    position += taken
    transcript.messages[transcript.messages.count - 1].bodyCount += taken
  }
}
