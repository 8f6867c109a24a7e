import NIOCore
import Testing

@testable import Transport

@Suite struct ReceiveBuffersTests {
  private func fill(_ buffers: inout ReceiveBuffers, _ size: Int, _ text: String) -> ByteBuffer {
    buffers.fill(size) { room in
      room.copyMemory(from: Array(text.utf8), byteCount: text.utf8.count)
      return text.utf8.count
    }
  }

  private func place(of buffer: ByteBuffer) -> UInt { buffer.withVeryUnsafeBytes { UInt(bitPattern: $0.baseAddress) } }

  @Test func aBufferThatNobodyHasIsUsedAgain() {
    var buffers = ReceiveBuffers()
    let first = place(of: fill(&buffers, 2048, "a"))
    for _ in 0..<10 { #expect(place(of: fill(&buffers, 2048, "b")) == first) }
  }

  @Test func whatIsKeptStaysAsItIs() {
    var buffers = ReceiveBuffers()
    var kept: [ByteBuffer] = []
    // More than one size is allowed to have.
    for index in 0..<600 { kept.append(fill(&buffers, 2048, "\(index)")) }
    #expect(kept.map { String(buffer: $0) } == (0..<600).map { "\($0)" })
    #expect(Set(kept.map(place)).count == 600)
    let before = Set(kept.map(place))
    kept = []
    let after = (0..<50).map { fill(&buffers, 2048, "\($0)") }
    #expect(Set(after.map(place)).count == 50)
    #expect(before.isSuperset(of: after.map(place)))
  }

  @Test func sizesAreKeptApart() {
    var buffers = ReceiveBuffers()
    var size = ReceiveBuffers.least
    while size <= ReceiveBuffers.most {
      let buffer = fill(&buffers, size, "x")
      #expect(buffer.capacity >= size && buffer.readableBytes == 1)
      size *= 2
    }
  }
}
