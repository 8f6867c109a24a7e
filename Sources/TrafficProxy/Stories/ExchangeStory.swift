import Traffic

/// What is told of an exchange beyond its record: empty unless something went wrong on the way.
struct ExchangeStory {
  /// A try that failed.
  struct Try {
    /// Nil where none was chosen.
    var endpoint: LoopEndpoint?
    /// Nanoseconds of uptime.
    var began: UInt64
    var ended: UInt64
    var fault: Fault
    /// Of a response that was withheld for another try; 0 = there was none.
    var status = 0
    var detail: String
  }

  /// The longest list; later tries are counted, not told.
  static let longest = 16

  var tries: [Try] = []
  /// How many have failed.
  var failed = 0
  /// The error that we answered with, and what was said.
  var fault: Fault?
  var detail = ""

  mutating func note(_ failure: Try) {
    failed += 1
    if tries.count < Self.longest { tries.append(failure) }
  }
}
