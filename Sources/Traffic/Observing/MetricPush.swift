import Resilience
package import Telemetry

/// Where metrics are sent, how often, and under which name.
package struct MetricPushConfiguration: Sendable, Equatable {
  /// What a receiver speaks.
  package enum Format: String, Sendable, CaseIterable {
    /// OTLP/HTTP in protobuf.
    case otlp
    /// Prometheus remote write 1.0.
    case remoteWrite = "remote_write"
  }
  package struct Receiver: Sendable, Equatable {
    package var format: Format
    /// The whole URL.
    package var url: String
    /// Fields of each request; values may hold secrets.
    package var headers: [InjectedHeader] = []
    package init(format: Format, url: String) {
      self.format = format
      self.url = url
    }
  }
  /// One of each format at most.
  package var receivers: [Receiver] = []
  package var interval: Duration = .seconds(15)
  package var serviceName: String
  /// Added to every series, or attributes of the resource.
  package var labels: [Label] = []
  package init(serviceName: String) { self.serviceName = serviceName }
}

/// Requests on their way to one receiver, in order: the oldest gives way when there is no room.
package struct PushQueue: Sendable {
  /// Octets that may wait.
  package static let room = 8 << 20

  /// How a request went.
  package enum Outcome: Sendable, Equatable {
    /// The receiver has it, but for so many samples that it rejected.
    case taken(rejected: Int)
    /// It does not want it, now or later.
    case refused(String)
    /// Another time, perhaps one that the receiver named.
    case later(after: Duration?, String)
  }

  private var waiting: [PushRequest] = []
  private var octets = 0
  private var failures = 0
  /// What was said of the last request that was refused.
  private var refusal: String?
  private let room: Int
  private let backoff = Backoff(base: .seconds(1), cap: .seconds(30))
  /// A receiver may not make it wait for longer than that.
  private let longestWait = Duration.seconds(300)

  package init(room: Int = PushQueue.room) { self.room = room }

  /// Samples that wait.
  package var samples: Int { waiting.reduce(0) { $0 + $1.samples } }

  /// The request to send now.
  package var first: PushRequest? { waiting.first }

  /// Adds requests; returns how many samples gave way. The newest request stays, however long it is.
  package mutating func offer(_ requests: [PushRequest]) -> Int {
    waiting += requests
    octets += requests.reduce(0) { $0 + $1.body.count }
    var dropped = 0
    while octets > room, waiting.count > 1 { dropped += dropFirst().samples }
    return dropped
  }

  /// What follows from sending `request`: how long to wait before the next, and whether to say so.
  package mutating func settle(
    _ request: PushRequest, _ outcome: Outcome, using random: inout some RandomNumberGenerator
  ) -> (wait: Duration, isNews: Bool) {
    switch outcome {
    case .taken, .refused:
      failures = 0
      // It may have given way meanwhile.
      if waiting.first == request { _ = dropFirst() }
      guard case .refused(let why) = outcome, why != refusal else { return (.zero, false) }
      refusal = why
      return (.zero, true)
    case .later(let asked, _):
      let isNews = failures == 0
      // Never at once, whatever the receiver asks for.
      let own = max(.milliseconds(100), backoff.delay(attempt: failures, using: &random))
      let wait = asked.map { max(.milliseconds(100), min($0, longestWait)) } ?? own
      failures += 1
      return (wait, isNews)
    }
  }

  private mutating func dropFirst() -> PushRequest {
    let gone = waiting.removeFirst()
    octets -= gone.body.count
    return gone
  }
}
