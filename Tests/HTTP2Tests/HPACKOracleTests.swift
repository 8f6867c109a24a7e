import NIOCore
import NIOHPACK
import Testing

@testable import HTTP2

/// Seeded random field lists against NIOHPACK, in both directions, over connections that live for many blocks.
@Suite struct HPACKOracleTests {
  typealias Field = (name: String, value: String, sensitive: Bool)

  static let names = [
    ":method", ":path", ":status", ":authority", "accept", "user-agent", "content-type", "cache-control", "x-a", "x-b",
    "x-longer-name-of-a-field", "authorization", "cookie", "date", "etag", "te", "grpc-timeout",
  ]

  static func fields(_ random: inout Seeded) -> [Field] {
    (0..<Int.random(in: 0...20, using: &random)).map { _ in
      let name = names[Int.random(in: 0..<names.count, using: &random)]
      let value: String =
        switch Int.random(in: 0..<6, using: &random) {
        case 0: ["GET", "/", "200", "404", "gzip, deflate", ""][Int.random(in: 0..<6, using: &random)]
        case 1, 2: "value-\(Int.random(in: 0..<20, using: &random))"
        case 3: String(repeating: "v", count: Int.random(in: 0...1500, using: &random))
        default:
          String(
            decoding: (0..<Int.random(in: 0...40, using: &random)).map { _ in
              UInt8.random(in: 0x20...0x7E, using: &random)
            }, as: UTF8.self)
        }
      return (name, value, Int.random(in: 0..<8, using: &random) == 0)
    }
  }

  @Test(arguments: [UInt64(1), 2, 3, 4])
  func decodesWhatNIOHPACKEncodes(seed: UInt64) throws {
    var random = Seeded(seed)
    var encoder = OracleEncoder(allocator: ByteBufferAllocator(), useHuffmanEncoding: seed % 2 == 0)
    var decoder = HTTP2.HPACKDecoder()
    var list = FieldList(limits: FieldListLimits(octets: 1 << 20, fields: 1000))
    for round in 0..<400 {
      if round % 50 == 49 {
        try encoder.setDynamicTableSize([0, 100, 1000, 4096][Int.random(in: 0..<4, using: &random)])
      }
      let fields = Self.fields(&random)
      var headers = HPACKHeaders()
      for field in fields {
        headers.add(name: field.name, value: field.value, indexing: field.sensitive ? .neverIndexed : .indexable)
      }
      var block = ByteBuffer()
      try encoder.encode(headers: headers, to: &block)
      try block.withUnsafeReadableBytes { try decoder.decode($0, into: &list) }
      #expect(list.lines == fields.map { "\($0.name): \($0.value)" })
      for index in 0..<list.count where fields[index].sensitive {
        #expect(list.fields[index].flags.contains(.neverIndexed))
      }
    }
  }

  @Test(arguments: [UInt64(5), 6, 7, 8])
  func encodesWhatNIOHPACKDecodes(seed: UInt64) throws {
    var random = Seeded(seed)
    var encoder = HTTP2.HPACKEncoder()
    var decoder = OracleDecoder(allocator: ByteBufferAllocator(), maxDynamicTableSize: 4096, maxHeaderListSize: 1 << 20)
    var ours = HTTP2.HPACKDecoder()
    var list = FieldList(limits: FieldListLimits(octets: 1 << 20, fields: 1000))
    for round in 0..<400 {
      if round % 50 == 49 {
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          encoder.setPeerMaximum([0, 64, 100, 1000, 4096, 8192][Int.random(in: 0..<6, using: &random)])
        }
      }
      let fields = Self.fields(&random)
      let block = Self.encode(fields, &encoder)
      var copy = ByteBuffer(bytes: block)
      let decoded = try decoder.decodeHeaders(from: &copy)
      #expect(decoded.map { "\($0.name): \($0.value)" } == fields.map { "\($0.name): \($0.value)" })
      try block.withUnsafeBytes { try ours.decode($0, into: &list) }
      for index in 0..<list.count where fields[index].sensitive || fields[index].name == "authorization" {
        #expect(list.fields[index].flags.contains(.neverIndexed))
      }
    }
    #expect(encoder.tableSize <= 4096)
  }

  static func encode(_ fields: [Field], _ encoder: inout HTTP2.HPACKEncoder) -> [UInt8] {
    let bound = fields.reduce(64) { $0 + $1.name.utf8.count + $1.value.utf8.count + HTTP2.HPACKEncoder.overhead }
    let room = UnsafeMutablePointer<UInt8>.allocate(capacity: bound)
    defer { room.deallocate() }
    var end = room
    encoder.begin(&end)
    for field in fields {
      var sensitive = SensitiveNames()
      Array(field.name.utf8).withUnsafeBytes { name in
        if field.sensitive { sensitive.insert(name) }
        Array(field.value.utf8).withUnsafeBytes { encoder.field(name, $0, sensitive: sensitive, to: &end) }
      }
    }
    #expect(end - room <= bound)
    return Array(UnsafeBufferPointer(start: room, count: end - room))
  }

  @Test func aRepeatedFieldTakesOneOctetTheThirdTime() {
    var encoder = HTTP2.HPACKEncoder()
    let field: Field = ("x-custom", "the same value", false)
    #expect(Self.encode([field], &encoder).count > 20)
    #expect(Self.encode([field], &encoder).first == 0x40)
    #expect(Self.encode([field], &encoder) == [0xBE])
  }

  @Test func credentialsAreNeverEntered() {
    var encoder = HTTP2.HPACKEncoder()
    for name in ["authorization", "cookie", "proxy-authorization", "set-cookie"] {
      for _ in 0..<3 { #expect((Self.encode([(name, "secret", false)], &encoder).first ?? 0) & 0xF0 == 0x10) }
    }
    #expect(encoder.entryCount == 0)
  }
}

typealias OracleEncoder = NIOHPACK.HPACKEncoder
typealias OracleDecoder = NIOHPACK.HPACKDecoder
