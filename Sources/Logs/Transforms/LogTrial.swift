import Telemetry

extension LogSourceConfiguration {
  /// Lines are records as they stand, without a wrapping to take off.
  package var isPlain: Bool { [.auto, .json, .logfmt, .none].contains(parser) && pattern == nil }
}

/// A test of the transforms, kept in the configuration: what a line, or the last of several, is to become.
package struct LogTest: Sendable, Equatable {
  package struct Expectation: Sendable, Equatable {
    package var field: FieldPath
    package var value: String
    package init(field: String, value: String) {
      self.field = FieldPath(field)
      self.value = value
    }
  }
  package var name: String
  package var source = "app"
  package var input: [String]
  package var dropped = false
  /// Fields and what they must hold.
  package var expect: [Expectation] = []
  /// Fields that must not be there.
  package var absent: [String] = []
  /// Sinks that must take the record, and no others; nil: not looked at.
  package var sinks: [String]? = nil
  package init(name: String, input: [String]) {
    self.name = name
    self.input = input
  }
}

/// Tries transforms on lines without reading or sending anything. Each line arrives a millisecond after the one before.
package final class LogTrial {
  package struct Outcome {
    /// The record without its LF; nil when it was dropped.
    package var record: String?
    /// Names of the sinks that take it.
    package var sinks: [String]
  }

  private struct Route {
    var sink: String
    var matcher: ConditionMatcher?
  }

  private let encoder: RecordEncoder
  private let routes: [Route]
  private let redactor: Redactor?
  private let arena = ByteArena()
  private var arrival: Int64

  /// `arrival` is the first line's, in nanoseconds since 1970.
  package init(_ configuration: LogsConfiguration, source: String, redactor: Redactor? = nil, arrival: Int64) {
    let known = configuration.sources.first { $0.name == source }
    encoder = RecordEncoder(
      source: source, parser: known?.isPlain == true ? known?.parser ?? .auto : .auto,
      transforms: configuration.transforms, timestamp: known?.timestamp)
    routes = configuration.sinks.compactMap { sink in
      if !sink.from.isEmpty, !sink.from.contains(source) { return nil }
      if case .console = sink.output, sink.from.isEmpty, known?.input != .app { return nil }
      return Route(
        sink: sink.name, matcher: configuration.transforms.route(to: sink.name).map { ConditionMatcher($0) })
    }
    self.redactor = redactor
    self.arrival = arrival
  }

  package func run(_ line: Bytes) -> Outcome {
    arena.removeAll()
    arrival += 1_000_000
    defer { encoder.commit() }
    guard encoder.encode(line, stream: .stdout, arrival: arrival, redactor: redactor, into: arena) != nil else {
      return Outcome(record: nil, sinks: [])
    }
    let record = arena.bytes.part(0..<arena.count - 1)
    return Outcome(
      record: record.text, sinks: routes.filter { $0.matcher?.matches(record) ?? true }.map(\.sink))
  }

  /// What is not as the test says; empty when all is.
  package static func failures(of test: LogTest, _ configuration: LogsConfiguration) -> [String] {
    // 2026-01-31T12:00:00Z
    let trial = LogTrial(configuration, source: test.source, arrival: 1_769_860_800_000_000_000)
    var outcome = Outcome(record: nil, sinks: [])
    for line in test.input {
      var line = line
      outcome = line.withUTF8 { trial.run(Bytes($0)) }
    }
    guard let record = outcome.record else {
      return test.dropped ? [] : ["the record was dropped"]
    }
    if test.dropped { return ["the record was not dropped: \(record)"] }
    var text = record
    let fields = RecordFields()
    guard text.withUTF8({ fields.load(Bytes($0)) }) else { return ["the record is no JSON: \(record)"] }
    var failures: [String] = []
    for expectation in test.expect {
      let found = fields.value(expectation.field).map { JSONText.string($0) ?? $0.text }
      guard found != expectation.value else { continue }
      let shown = found.map { "`\($0)`" } ?? "not there"
      failures.append("`\(expectation.field.name)` is \(shown), not `\(expectation.value)`")
    }
    for name in test.absent where fields.value(FieldPath(name)) != nil { failures.append("`\(name)` is there") }
    if let sinks = test.sinks, Set(sinks) != Set(outcome.sinks) {
      failures.append(
        "it goes to [\(outcome.sinks.joined(separator: ", "))], not to [\(sinks.joined(separator: ", "))]")
    }
    return failures
  }
}
