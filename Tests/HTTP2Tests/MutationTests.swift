import NIOCore
import Testing

@testable import HTTP2

/// Right conversations with octets changed, dropped, doubled and cut off: whatever comes of it, the engine ends the
/// stream or the connection, or goes on, and what it holds stays bounded.
@Suite struct MutationTests {
  static func client(_ random: inout Seeded) -> [UInt8] {
    var bytes = Wire.preface + Wire.settings([(3, 100), (4, 70_000)]) + Wire.settingsAck
    var id: UInt32 = 1
    for _ in 0..<Int.random(in: 1...12, using: &random) {
      let fields = Wire.post + [("x-\(id % 5)", "value \(id)"), ("cookie", "a=b"), ("cookie", "c=d")]
      var block = Wire.block(fields) + [0x40] + Wire.string(Array("y".utf8)) + Wire.string([UInt8(id & 0x3F) + 0x21])
      if id > 1 { block.append(0xBE) }
      switch Int.random(in: 0..<5, using: &random) {
      case 0: bytes += Wire.frame(1, 5, id, block)
      case 1: bytes += Wire.frame(1, 4, id, block) + Wire.data(id, "some content", end: true)
      case 2: bytes += Wire.frame(1, 0, id, Array(block.prefix(7))) + Wire.frame(9, 4, id, Array(block.dropFirst(7)))
      case 3: bytes += Wire.frame(1, 4, id, block) + Wire.data(id, "abc") + Wire.headers(id, [("t", "u")])
      default: bytes += Wire.frame(1, 4, id, block) + Wire.window(id, 10) + Wire.reset(id)
      }
      switch Int.random(in: 0..<6, using: &random) {
      case 0: bytes += Wire.window(0, 1000)
      case 1: bytes += Wire.frame(6, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8])
      case 2: bytes += Wire.frame(2, 0, id, [0, 0, 0, 0, 7])
      case 3: bytes += Wire.settings([(1, 100), (5, 20_000)])
      default: break
      }
      id += 2
    }
    return bytes
  }

  static func mutate(_ bytes: inout [UInt8], _ random: inout Seeded) {
    for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
      let at = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: bytes.remove(at: at)
      case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
      case 4: bytes.removeSubrange(at..<min(bytes.count, at + 20))
      default: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 40)], at: at)
      }
    }
  }

  @Test(arguments: 1...8)
  func serversSurvive(seed: Int) throws {
    var random = Seeded(UInt64(seed) &* 0xD6E8_FEB8_6659_FD93)
    var failures = 0
    for _ in 0..<400 {
      var bytes = Self.client(&random)
      Self.mutate(&bytes, &random)
      let server = Endpoint(.server)
      var position = 0
      while position < bytes.count {
        let count = min(bytes.count - position, Int.random(in: 1...300, using: &random))
        for seen in server.receive(Array(bytes[position..<(position + count)])) {
          guard let key = seen.key, server.isOpen(key) else { continue }
          if case .request(_, let end) = seen.event, end {
            #expect(try server.respond(key, "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", end: false))
            _ = server.send(key, [1, 2, 3], end: true)
          }
        }
        position += count
      }
      // At most one frame that is not complete; what was sent are whole frames.
      #expect(server.input.readableBytes <= 9 + 16_384)
      let frames = server.sentFrames()
      #expect(frames.last.map { $0.bytes.count } ?? 9 >= 9)
      if server.problem != nil {
        failures += 1
        #expect(frames.last?.type == 7)
      }
      #expect(server.openStreams <= 100)
    }
    // The mutations do bite, and not always.
    #expect(failures > 20 && failures < 400)
  }

  @Test(arguments: 1...4)
  func decodersSurvive(seed: Int) {
    var random = Seeded(UInt64(seed))
    var refused = 0
    for _ in 0..<2000 {
      var decoder = HPACKDecoder()
      var list = FieldList()
      for _ in 0..<4 {
        let block = (0..<Int.random(in: 0...60, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        do {
          try block.withUnsafeBytes { try decoder.decode($0, into: &list) }
        } catch { refused += 1 }
        let (size, count) = (decoder.tableSize, list.count)
        #expect(size <= 4096)
        #expect(count <= 100)
      }
    }
    #expect(refused > 1000)
  }
}
