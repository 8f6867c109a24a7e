/// One span of a trace, as OTLP has it (opentelemetry/proto/trace/v1/trace.proto, version 1).
package struct Span: Sendable {
  package enum Kind: UInt64, Sendable {
    case server = 2
    case client = 3
  }

  package enum Value: Sendable {
    case text(String)
    case number(Int64)
  }

  package var traceID: (UInt64, UInt64)
  package var id: UInt64
  /// 0 = it is the first of its trace.
  package var parent: UInt64
  package var name: String
  package var kind: Kind
  /// Nanoseconds since 1970.
  package var start: UInt64
  package var end: UInt64
  package var attributes: [(name: String, value: Value)] = []
  package var isError = false
  package var message = ""

  /// The longest text that an attribute holds, in octets.
  package static let longest = 1024

  package init(
    traceID: (UInt64, UInt64), id: UInt64, parent: UInt64, name: String, kind: Kind, start: UInt64, end: UInt64
  ) {
    self.traceID = traceID
    self.id = id
    self.parent = parent
    self.name = name
    self.kind = kind
    self.start = start
    self.end = end
  }

  /// Left out when empty.
  package mutating func add(_ name: String, _ value: String) {
    if value.isEmpty { return }
    let isLong = value.utf8.count > Self.longest
    // A character that is cut becomes U+FFFD: the field must stay UTF-8.
    attributes.append(
      (name, .text(isLong ? String(decoding: value.utf8.prefix(Self.longest), as: UTF8.self) : value)))
  }

  package mutating func add(_ name: String, _ value: Int) { attributes.append((name, .number(Int64(value)))) }

  /// The `Span` message.
  package var encoded: [UInt8] {
    var out = ProtobufWriter()
    out.octets(1, Self.octets(traceID.0) + Self.octets(traceID.1))
    out.octets(2, Self.octets(id))
    if parent != 0 { out.octets(4, Self.octets(parent)) }
    out.text(5, name)
    out.integer(6, kind.rawValue)
    out.fixed64(7, start)
    out.fixed64(8, end)
    for attribute in attributes { out.message(9) { Self.write(attribute.name, attribute.value, to: &$0) } }
    if isError {
      out.message(15) { status in
        if !message.isEmpty { status.text(2, message) }
        status.integer(3, 2)
      }
    }
    // Sampled.
    out.fixed32(16, 1)
    return out.bytes
  }

  private static func octets(_ word: UInt64) -> [UInt8] {
    stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: word >> UInt64($0)) }
  }

  fileprivate static func write(_ name: String, _ value: Value, to out: inout ProtobufWriter) {
    out.text(1, name)
    out.message(2) { any in
      switch value {
      case .text(let text): any.text(1, text)
      case .number(let number): any.integer(3, UInt64(bitPattern: number))
      }
    }
  }
}

/// `ExportTraceServiceRequest`: spans of one resource.
package enum SpanBatch {
  package static func encoded(_ spans: [[UInt8]], resource: [(name: String, value: String)], version: String) -> [UInt8]
  {
    var out = ProtobufWriter()
    out.message(1) { resourceSpans in
      resourceSpans.message(1) { message in
        for attribute in resource {
          message.message(1) { Span.write(attribute.name, .text(attribute.value), to: &$0) }
        }
      }
      resourceSpans.message(2) { scopeSpans in
        scopeSpans.message(1) { scope in
          scope.text(1, "outrider")
          scope.text(2, version)
        }
        for span in spans { scopeSpans.octets(2, span) }
      }
    }
    return out.bytes
  }
}
