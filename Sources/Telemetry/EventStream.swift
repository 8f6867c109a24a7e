import Synchronization

/// The events that one part publishes and others follow: access records and lifecycle events go to the log pipeline
/// as sources and to the admin API as a feed. Publishing never waits: a follower must take the bytes at once.
package final class EventStream: Sendable {
  package enum Topic: String, Sendable, CaseIterable {
    /// Access records: JSON objects, one a line, each line ended by LF.
    case access
    /// Lifecycle and security events: JSON objects, one a line.
    case lifecycle
  }

  /// Called on the publisher's thread with whole lines; must copy what it keeps and must not block.
  package typealias Follower = @Sendable (Topic, UnsafeRawBufferPointer) -> Void

  private let followers = Mutex<[Follower]>([])
  private let followed = Atomic<Bool>(false)

  /// Those who watch single requests live.
  package let taps = TapHub()

  /// Spans on their way to the exporter.
  package let spans = SpanQueue()

  package init() {}

  /// True when somebody listens; publishers may skip the work otherwise.
  package var isFollowed: Bool { followed.load(ordering: .relaxed) }

  package func follow(_ follower: @escaping Follower) {
    followers.withLock { $0.append(follower) }
    followed.store(true, ordering: .relaxed)
  }

  package func publish(_ topic: Topic, _ lines: UnsafeRawBufferPointer) {
    for follower in followers.withLock({ $0 }) { follower(topic, lines) }
  }

  package func publish(_ topic: Topic, _ line: String) {
    var text = line
    if !text.hasSuffix("\n") { text += "\n" }
    text.withUTF8 { publish(topic, UnsafeRawBufferPointer($0)) }
  }
}
