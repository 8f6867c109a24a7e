/// What is remembered of single requests, for `outrider explain request`. Errors, retried requests and slow ones
/// always are; of the others a part.
package struct StoriesConfiguration: Sendable, Equatable {
  package var isOn = true
  package var keep: Duration = .seconds(300)
  /// Octets, of all event loops together.
  package var memory = 4 << 20
  /// A request is slow from here on.
  package var slow: Duration = .seconds(1)
  /// Fraction 0...1 of the requests that are nothing special.
  package var sample = 0.01
  package init() {}
}
