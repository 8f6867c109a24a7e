import Glibc

/// The waits of the agent, so that tests need not wait.
struct AgentTimings: Sendable {
  /// Between looks at local stores and delivered files.
  var watch = Duration.seconds(1)
  /// Changes closer together than this are one change.
  var debounce = Duration.milliseconds(100)
  /// Between lines that say what start waits for.
  var notice = Duration.seconds(5)
  /// The first wait after a failed action or delivery.
  var retry = Duration.seconds(1)
  /// One request to a store, from connecting to the end of the reply.
  var request = Duration.seconds(10)
  /// Between looks at a token that nothing was asked with: a revoked one is noticed within it.
  var probe = Duration.seconds(3)
  /// Replaced credentials stay good for so long, while the app follows.
  var overlap = Duration.seconds(10)
}

enum SystemTime {
  /// Seconds since 1970.
  static var now: Int64 { Int64(time(nil)) }

  private static let start = ContinuousClock.now
  /// Time on a clock that only goes forward.
  static var uptime: Duration { start.duration(to: .now) }

  /// RFC 3339 in UTC.
  static func text(_ seconds: Int64) -> String {
    var moment = time_t(seconds)
    var parts = tm()
    gmtime_r(&moment, &parts)
    var buffer = [CChar](repeating: 0, count: 32)
    let length = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
    return String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
