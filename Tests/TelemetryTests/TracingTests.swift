import Testing

@testable import Telemetry

@Suite struct TracingTests {
  private func parse(_ text: String) -> TraceParent? {
    Array(text.utf8).withUnsafeBytes { TraceParent($0) }
  }

  @Test func aValidParentIsKept() throws {
    let parent = try #require(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    #expect(parent.traceID == (0x4bf9_2f35_77b3_4da6, 0xa3ce_929d_0e0e_4736))
    #expect(parent.parentID == 0x00f0_67aa_0ba9_02b7 && parent.isSampled)
    #expect(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")?.isSampled == false)
    #expect(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-what") == parent)
  }

  @Test(arguments: [
    "", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
    "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
    "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
  ])
  func anInvalidOneIsNot(_ text: String) { #expect(parse(text) == nil) }

  /// From the specification's own example of varints and strings.
  @Test func writesTheWireFormat() {
    var out = ProtobufWriter()
    out.integer(1, 150)
    out.text(2, "testing")
    out.fixed32(3, 1)
    out.fixed64(4, 0x0102_0304_0506_0708)
    out.message(17) { $0.integer(1, 0) }
    #expect(
      out.bytes == [
        0x08, 0x96, 0x01, 0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67, 0x1d, 1, 0, 0, 0, 0x21, 8, 7, 6, 5, 4,
        3, 2, 1, 0x8a, 0x01, 2, 0x08, 0,
      ])
  }

  @Test func longTextIsCutAndStaysUTF8() {
    var span = Span(traceID: (1, 2), id: 3, parent: 0, name: "n", kind: .server, start: 1, end: 2)
    span.add("long", String(repeating: "ä", count: 1000) + "x")
    span.add("empty", "")
    #expect(span.attributes.count == 1)
    guard case .text(let text) = span.attributes[0].value else { return #expect(Bool(false)) }
    #expect(text == String(repeating: "ä", count: Span.longest / 2))
  }

  @Test func aFullQueueDropsAndCounts() {
    let queue = SpanQueue()
    let span = [UInt8](repeating: 7, count: SpanQueue.room / 4)
    for _ in 0..<6 { queue.offer(span) }
    #expect(queue.dropped == 2)
    #expect(queue.take(3).count == 3)
    #expect(queue.take(3).count == 1)
    queue.offer(span)
    #expect(queue.take(9) == [span] && queue.dropped == 2)
  }
}
