import Traffic

/// What upstreams say of themselves: answers to health checks, and how long to wait.
enum HealthTargets {
  static func grpcHealth(_ input: UnsafeRawBufferPointer) -> String? {
    guard let status = GRPCHealth.status(input) else { return nil }
    // A message has one length: with an octet more or less it is none.
    if GRPCHealth.status(input.part(0..<(input.count - 1))) != nil { return "a part of a message is one" }
    let longer = Array(input) + [0]
    if longer.withUnsafeBytes({ GRPCHealth.status($0) }) != nil { return "more than a message is one" }
    // A later field wins, whatever stood before.
    if input.count + 2 > 200 { return nil }
    var again = Array(input) + [8, 1]
    again[4] += 2
    let last = again.withUnsafeBytes { GRPCHealth.status($0) }
    return last == .serving ? nil : "\(status), then SERVING, is \(String(describing: last))"
  }

  static func retryAfter(_ input: UnsafeRawBufferPointer) -> String? {
    guard let seconds = RetryAfter.seconds(input, now: 0) else { return nil }
    if seconds < 0 { return "a wait of \(seconds) s" }
    guard let date = RetryAfter.date(input) else {
      // Plain seconds do not depend on the time.
      return RetryAfter.seconds(input, now: 1 << 33) == seconds ? nil : "seconds depend on the time"
    }
    if RetryAfter.seconds(input, now: date - 7) != 7 { return "seven seconds before \(date) are not seven seconds" }
    return RetryAfter.seconds(input, now: date + 7) == 0 ? nil : "a date that has passed is waited for"
  }
}
