import Logs
import Vocabulary

/// Sends events to a collector and, with indexer acknowledgment, asks until they are on disk there (Splunk, "About HTTP
/// Event Collector Indexer Acknowledgment").
struct SplunkClient: SinkTransport {
  /// Events that are not acknowledged after this are sent again.
  static let patience = Duration.seconds(120)

  private let client: HTTPSinkClient
  private let bases: [String]
  private let channel: String?
  private let acknowledges: Bool
  private let path: String

  init(
    _ options: LogSinkConfiguration.SplunkOutput, host: String, make: (HTTPSinkClient.Plan) throws -> HTTPSinkClient
  ) throws {
    bases = options.urls.map {
      SinkAddress.trimmed(
        $0, suffixes: ["/services/collector/event", "/services/collector/raw", "/services/collector"])
    }
    acknowledges = options.acknowledges
    // Raw lines need a channel in any case.
    channel = options.acknowledges || options.isRaw ? Self.identifier() : nil
    path = SplunkFormat.path(options, host: host, channel: channel)
    var plan = HTTPSinkClient.Plan(urls: [])
    plan.headers = [SinkHeader(name: "authorization", value: .secret(options.token, prefix: "Splunk "))]
    if let channel { plan.plain = [("x-splunk-request-channel", channel)] }
    client = try make(plan)
  }

  /// A random UUID (RFC 9562, version 4).
  private static func identifier() -> String {
    var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    var text = ""
    for (index, byte) in bytes.enumerated() {
      if [4, 6, 8, 10].contains(index) { text += "-" }
      text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
    return text
  }

  func send(_ body: [UInt8], items: Int, attempt: Int) async -> SinkAnswer {
    let base = bases[attempt % bases.count]
    let answer = await client.post(body, to: base + path)
    guard acknowledges, let channel, case .reply(let status, _, let content) = answer, (200..<300).contains(status),
      let reply = content.withUnsafeBytes({ SplunkReply($0) }), reply.code == 0
    else { return answer }
    guard let id = reply.acknowledgement else {
      return .failed(
        "\(base) gave no ackId; the token has no indexer acknowledgment: set `ack: false`, or switch it on")
    }
    return await acknowledgement(id, "\(base)/services/collector/ack?channel=\(channel)")
      ? answer
      : .failed(
        "\(base) did not acknowledge the events within \(DurationText.format(Self.patience))")
  }

  private func acknowledgement(_ id: Int, _ url: String) async -> Bool {
    let end = ContinuousClock.now + Self.patience
    let question = Array("{\"acks\":[\(id)]}".utf8)
    var wait = Duration.milliseconds(50)
    while ContinuousClock.now < end, !Task.isCancelled {
      // What is no answer is asked for again: the events are there, and only the time decides.
      if case .reply(200, _, let body) = await client.post(question, to: url),
        body.withUnsafeBytes({ SplunkReply.isAcknowledged($0, id) }) == true
      {
        return true
      }
      try? await Task.sleep(for: wait)
      wait = min(wait * 2, .seconds(2))
    }
    return false
  }

  func credentials() -> [UInt8] { client.credentials() }
  func shutdown() async { await client.shutdown() }
}

enum SinkAddress {
  /// The address without slashes at its end and without one of the paths that are added to it.
  static func trimmed(_ url: String, suffixes: [String]) -> String {
    var url = url
    while url.hasSuffix("/") { url.removeLast() }
    for suffix in suffixes where url.hasSuffix(suffix) { return String(url.dropLast(suffix.count)) }
    return url
  }
}
