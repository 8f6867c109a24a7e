import NIOCore
import Testing

@testable import HTTP2

func octets(_ hex: String) -> [UInt8] {
  let digits = hex.filter { $0.isHexDigit }
  return stride(from: 0, to: digits.count, by: 2).map { start in
    let from = digits.index(digits.startIndex, offsetBy: start)
    return UInt8(digits[from..<digits.index(from, offsetBy: 2)], radix: 16) ?? 0
  }
}

extension FieldList {
  /// `name: value` of each field.
  var lines: [String] {
    (0..<count).map { index in
      "\(String(decoding: name(fields[index]), as: UTF8.self)): \(String(decoding: value(fields[index]), as: UTF8.self))"
    }
  }
}

/// The examples of RFC 7541 appendix C.
@Suite struct HPACKVectorTests {
  static let requests = [
    [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
    [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
    [
      ":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com",
      "custom-key: custom-value",
    ],
  ]
  static let responses = [
    [
      ":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT",
      "location: https://www.example.com",
    ],
    [
      ":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT",
      "location: https://www.example.com",
    ],
    [
      ":status: 200", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:22 GMT",
      "location: https://www.example.com", "content-encoding: gzip",
      "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
  ]

  struct Sequence: Sendable, CustomTestStringConvertible {
    var name: String
    var table: Int
    var blocks: [String]
    var fields: [[String]]
    var sizes: [Int]
    var testDescription: String { name }
  }

  @Test(arguments: [
    Sequence(
      name: "C.3", table: 4096,
      blocks: [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
      ], fields: requests, sizes: [57, 110, 164]),
    Sequence(
      name: "C.4", table: 4096,
      blocks: [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
      ], fields: requests, sizes: [57, 110, 164]),
    Sequence(
      name: "C.5", table: 256,
      blocks: [
        """
        4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
        546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d
        """, "4803 3330 37c1 c0bf",
        """
        88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
        6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
        2076 6572 7369 6f6e 3d31
        """,
      ], fields: responses, sizes: [222, 222, 215]),
    Sequence(
      name: "C.6", table: 256,
      blocks: [
        """
        4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
        8f0b 97c8 e9ae 82ae 43d3
        """, "4883 640e ffc1 c0bf",
        """
        88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
        dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07
        """,
      ], fields: responses, sizes: [222, 222, 215]),
  ])
  func decodes(sequence: Sequence) throws {
    var decoder = HPACKDecoder(maximum: sequence.table)
    var list = FieldList()
    for (index, block) in sequence.blocks.enumerated() {
      try octets(block).withUnsafeBytes { try decoder.decode($0, into: &list) }
      #expect(list.lines == sequence.fields[index])
      #expect(decoder.tableSize == sequence.sizes[index])
    }
  }

  /// C.1 and C.2.
  @Test func decodesSingleForms() throws {
    #expect(try Self.integer([0x0A], 5) == 10)
    #expect(try Self.integer([0x1F, 0x9A, 0x0A], 5) == 1337)
    #expect(try Self.integer([0x2A], 8) == 42)
    #expect(
      try Self.decode("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572") == [
        "custom-key: custom-header"
      ])
    #expect(try Self.decode("040c 2f73 616d 706c 652f 7061 7468") == [":path: /sample/path"])
    #expect(try Self.decode("1008 7061 7373 776f 7264 0673 6563 7265 74") == ["password: secret"])
    #expect(try Self.decode("82") == [":method: GET"])
  }

  static func integer(_ bytes: [UInt8], _ prefix: Int) throws -> Int {
    var position = 0
    let value = try bytes.withUnsafeBytes { try HPACKDecoder.integer(prefix, $0, &position) }
    #expect(position == bytes.count)
    return value
  }

  static func decode(_ hex: String) throws -> [String] {
    var decoder = HPACKDecoder()
    var list = FieldList()
    try octets(hex).withUnsafeBytes { try decoder.decode($0, into: &list) }
    return list.lines
  }

  /// RFC 7541 sections 2.3.3, 4.2, 5.1, 5.2, 6.1 and 6.3: what h2spec sends, and more.
  @Test(arguments: [
    ("80", HPACKError.indexOutOfRange),
    ("be", .indexOutOfRange),
    ("ff00", .indexOutOfRange),
    ("7f0000 00", .indexOutOfRange),
    ("82 3fe11f", .sizeUpdateAfterField),
    ("3fe21f", .sizeUpdateTooLarge),
    ("ff", .truncated),
    ("ff80", .truncated),
    ("ff80808080 00", .integerTooLarge),
    ("ffffffffff0f", .integerTooLarge),
    ("ff8080808080808080808000", .integerTooLarge),
    ("40", .truncated),
    ("4001", .truncated),
    ("400161", .truncated),
    ("40016105 6162", .truncated),
    ("007fffffff07", .truncated),
    // Padding of eight bits, padding of zeros, EOS.
    ("0001 61 82 1fff", .invalidHuffman),
    ("0001 61 81 18", .invalidHuffman),
    ("0001 61 84 ffffffff", .invalidHuffman),
    ("0001 61 87 ffffffff ffffff", .invalidHuffman),
    ("0001 61 81 ff", .invalidHuffman),
  ])
  func refuses(hex: String, expected: HPACKError) {
    #expect(throws: expected) { try Self.decode(hex) }
  }

  @Test func paddingOfSevenOnesIsTaken() throws {
    // `0` has five bits: seven ones of padding would need a tenth bit; `a`, five bits, and three ones.
    #expect(try Self.decode("0001 61 81 1f") == ["a: a"])
    // An empty string may be Huffman coded.
    #expect(try Self.decode("0001 61 80") == ["a: "])
  }

  @Test func aSmallerTableHasToBeAnnounced() throws {
    var decoder = HPACKDecoder()
    var list = FieldList()
    decoder.setMaximum(100)
    #expect(throws: HPACKError.missingSizeUpdate) {
      try [UInt8(0x82)].withUnsafeBytes { try decoder.decode($0, into: &list) }
    }
    try [UInt8(0x3F), 0x45, 0x82].withUnsafeBytes { try decoder.decode($0, into: &list) }
    #expect(list.lines == [":method: GET"])
  }

  @Test func aListOverItsLimitsKeepsTheTableInStep() throws {
    var decoder = HPACKDecoder()
    var list = FieldList(limits: FieldListLimits(octets: 100, fields: 2))
    // Two fields fit; the third is entered into the table and dropped.
    let block = octets("82 84 40 01 62 01 63")
    try block.withUnsafeBytes { try decoder.decode($0, into: &list) }
    #expect(list.isOverLimit == true)
    #expect(list.count == 2)
    try [UInt8(0xBE)].withUnsafeBytes { try decoder.decode($0, into: &list) }
    #expect(list.isOverLimit == false)
    #expect(list.lines == ["b: c"])
    // By octets: 32 + 1 + 70 are more than 100.
    let long = [0x00] + Wire.string([0x61]) + Wire.string([UInt8](repeating: 0x62, count: 70))
    try long.withUnsafeBytes { try decoder.decode($0, into: &list) }
    #expect(list.isOverLimit == true)
  }

  @Test func huffmanKnowsEveryOctet() {
    let all = (0...255).map { UInt8($0) } + (0...255).reversed().map { UInt8($0) }
    all.withUnsafeBytes { bytes in
      let count = Huffman.encodedCount(bytes)
      let encoded = UnsafeMutablePointer<UInt8>.allocate(capacity: count)
      defer { encoded.deallocate() }
      var end = encoded
      Huffman.encode(bytes, to: &end)
      #expect(end - encoded == count)
      let decoded = UnsafeMutablePointer<UInt8>.allocate(capacity: Huffman.largestDecodedCount(count))
      defer { decoded.deallocate() }
      let written = Huffman.decode(UnsafeRawBufferPointer(start: encoded, count: count), into: decoded)
      #expect(Array(UnsafeBufferPointer(start: decoded, count: max(0, written))) == all)
    }
  }
}
