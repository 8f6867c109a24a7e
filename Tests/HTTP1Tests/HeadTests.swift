import Testing

@testable import HTTP1

func withBytes<R>(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
  try Array(text.utf8).withUnsafeBytes { try body($0) }
}

func scanAndParse(_ text: String, limits: HeadLimits = HeadLimits()) throws -> RequestHead? {
  try withBytes(text) { bytes in
    var scanner = HeadScanner()
    guard let length = try scanner.scan(bytes, limits: limits) else { return nil }
    var head = RequestHead()
    try head.parse(UnsafeRawBufferPointer(rebasing: bytes[..<length]))
    return head
  }
}

@Suite struct RequestHeadTests {
  @Test(arguments: [
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError.bareLineFeed),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", .bareLineFeed),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", .bareLineFeed),
    ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", .bareCarriageReturn),
    ("GET / HTTP/1.1\r\nHost: a\r\n\rX: a\r\n\r\n", .bareCarriageReturn),
    ("GET / HTTP/1.1\r\nHost: a\r\n\rTransfer-Encoding: chunked\r\nX: a\r\n\r\n", .bareCarriageReturn),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\u{0}b\r\n\r\n", .controlOctet),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: abcdefgh\u{7f}ijklmnop\r\n\r\n", .controlOctet),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", .whitespaceBeforeColon),
    ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", .foldedField),
    ("GET / HTTP/1.1\r\n\tX: a\r\n\r\n", .foldedField),
    ("GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", .invalidFieldName),
    ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", .whitespaceBeforeColon),
    ("GET / HTTP/1.1\r\nHost: a\r\nX(y): a\r\n\r\n", .invalidFieldName),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", .invalidMethod),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", .invalidMethod),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", .invalidTarget),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", .invalidVersion),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", .invalidTarget),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", .invalidTarget),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", .invalidTarget),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", .unsupportedVersion),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", .unsupportedVersion),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", .invalidVersion),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", .invalidVersion),
    ("GET /\r\nHost: a\r\n\r\n", .invalidTarget),
    ("GET / HTTP/1.1\r\nX: a\r\n\r\n", .missingHost),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", .invalidHost),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", .invalidHost),
    (
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      .lengthAndTransferEncoding
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", .differingContentLengths),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", .invalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", .invalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", .invalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", .invalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", .invalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .unknownTransferCoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", .unknownTransferCoding),
    (
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
      .unknownTransferCoding
    ),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", .transferEncodingInHTTP10),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: a@b\r\n\r\n", .invalidConnection),
  ])
  func refuses(text: String, expected: HeadError) {
    #expect(throws: expected) { try scanAndParse(text) }
  }

  @Test func readsARequest() throws {
    let text =
      "POST /a/b?c=d HTTP/1.1\r\nHost: Shop.test:80\r\nX-Y:\t v w \t\r\ncontent-length: 12\r\n"
      + "Connection: close, X-Y\r\nExpect: 100-Continue\r\nUTF: \u{e9}\r\n\r\nrest"
    let head = try #require(try scanAndParse(text))
    withBytes(text) { bytes in
      func string(_ range: OctetRange) -> String { String(decoding: range.of(bytes), as: UTF8.self) }
      #expect(head.method == .post)
      #expect(string(head.target) == "/a/b?c=d")
      #expect(head.pathOnlyCount == 4)
      #expect(head.table.fields.count == 6)
      #expect(string(head.table.fields[1].value) == "v w")
      #expect(string(head.table.fields[head.table.host].value) == "Shop.test:80")
      #expect(head.framing == .length(12))
      #expect(head.table.expectsContinue)
      #expect(!head.keepsAlive)
      #expect(head.table.namesFields)
      withBytes("x-y") { #expect(head.table.connectionNames($0, bytes)) }
      withBytes("host") { #expect(!head.table.connectionNames($0, bytes)) }
    }
  }

  @Test func readsAbsoluteAuthorityAndAsteriskTargets() throws {
    let absolute = try #require(try scanAndParse("GET http://u.test:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n"))
    #expect(absolute.authority == OctetRange(11, 9))
    #expect(absolute.path == OctetRange(20, 4))
    #expect(absolute.pathOnlyCount == 2)
    let bare = try #require(try scanAndParse("GET http://u.test HTTP/1.1\r\nHost: a\r\n\r\n"))
    #expect(bare.path.count == 0)
    let connect = try #require(try scanAndParse("CONNECT u.test:443 HTTP/1.1\r\nHost: a\r\n\r\n"))
    #expect(connect.authority.count == 10)
    #expect(try #require(try scanAndParse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")).method == .options)
  }

  @Test func keepsConnectionsByVersion() throws {
    #expect(try #require(try scanAndParse("GET / HTTP/1.1\r\nHost: a\r\n\r\n")).keepsAlive)
    #expect(try !#require(try scanAndParse("GET / HTTP/1.0\r\n\r\n")).keepsAlive)
    #expect(try #require(try scanAndParse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")).keepsAlive)
  }

  @Test func limitsSizeAndFieldCount() {
    let big = "GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "a", count: 1 << 20)
    #expect(throws: HeadError.headTooLarge) { try scanAndParse(big) }
    let many = "GET / HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 101)
    #expect(throws: HeadError.tooManyFields) { try scanAndParse(many) }
    let hundred = "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "A: b\r\n", count: 99) + "\r\n"
    #expect((try? scanAndParse(hundred))??.table.fields.count == 100)
    #expect(HeadError.headTooLarge.status == 431 && HeadError.tooManyFields.status == 431)
  }

  @Test func anySplitGivesTheSameHead() throws {
    let text = "GET /x HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"
    try withBytes(text) { bytes in
      for split in 0..<bytes.count {
        var scanner = HeadScanner()
        let early = try scanner.scan(UnsafeRawBufferPointer(rebasing: bytes[..<split]), limits: HeadLimits())
        #expect(early == nil)
        let whole = try scanner.scan(bytes, limits: HeadLimits())
        #expect(whole == bytes.count)
      }
      var slow = HeadScanner()
      for end in 1...bytes.count {
        let found = try slow.scan(UnsafeRawBufferPointer(rebasing: bytes[..<end]), limits: HeadLimits())
        #expect(found == (end == bytes.count ? bytes.count : nil))
      }
    }
  }

  @Test func mutationsNeverTrapAndNeverPassControls() {
    var random = Xorshift(state: 0x5eed)
    let seed = Array(
      "POST /a?b HTTP/1.1\r\nHost: a.b\r\nContent-Length: 5\r\nConnection: x, close\r\nX: 12345678\r\n\r\n".utf8)
    for _ in 0..<20_000 {
      var bytes = seed
      for _ in 0...Int(random.next() % 4) {
        let at = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 3 {
        case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.remove(at: at)
        default: bytes.insert([0, 9, 10, 13, 32, 58, 255][Int(random.next() % 7)], at: at)
        }
      }
      bytes.withUnsafeBytes { raw in
        var scanner = HeadScanner()
        guard let length = try? scanner.scan(raw, limits: HeadLimits()) else { return }
        var head = RequestHead()
        let exact = UnsafeRawBufferPointer(rebasing: raw[..<length])
        guard (try? head.parse(exact)) != nil else { return }
        for field in head.table.fields {
          #expect(field.value.of(exact).allSatisfy { $0 >= 32 && $0 != 127 || $0 == 9 })
        }
      }
    }
  }
}

struct Xorshift {
  var state: UInt64
  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }
}

@Suite struct ResponseHeadTests {
  func parse(_ text: String) throws -> ResponseHead {
    try withBytes(text) { bytes in
      var head = ResponseHead()
      try head.parse(bytes)
      return head
    }
  }

  @Test(arguments: [
    ("HTTP/1.1 200 OK\r\n\r\n", Method.get, BodyFraming.untilClose),
    ("HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n", .get, .length(3)),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", .head, .none),
    ("HTTP/1.1 204 No\r\n\r\n", .get, .none),
    ("HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", .get, .none),
    ("HTTP/1.1 103 Early\r\n\r\n", .get, .none),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", .post, .none),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .get, .chunked),
  ])
  func frames(text: String, method: Method, framing: BodyFraming) throws {
    #expect(try parse(text).framing(for: method) == framing)
  }

  @Test(arguments: [
    ("HTTP/1.1 20 OK\r\n\r\n", HeadError.invalidStatus), ("HTTP/1.1 099 OK\r\n\r\n", .invalidStatus),
    ("HTTP/1.1 2000\r\n\r\n", .invalidStatus), ("HTTQ/1.1 200 OK\r\n\r\n", .invalidVersion),
    ("HTTP/1.1 200 O\u{1}K\r\n\r\n", .invalidStatus),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", .lengthAndTransferEncoding),
  ])
  func refuses(text: String, expected: HeadError) {
    #expect(throws: expected) { try parse(text) }
  }
}

@Suite struct ChunkedDecoderTests {
  /// The trailer section is found whole, wherever the reads divide it.
  @Test(arguments: [
    ("1\r\na\r\n0\r\nT: v\r\nU:\r\n\r\nNEXT", "T: v\r\nU:\r\n\r\n"), ("0\r\n\r\nGET", "\r\n"),
  ])
  func tellsWhereTrailersLie(text: String, lines: String) throws {
    for cut in 0...text.utf8.count {
      var decoder = ChunkedDecoder()
      var found: [UInt8] = []
      for part in [Array(text.utf8)[..<cut], Array(text.utf8)[cut...]] {
        _ = try Array(part).withUnsafeBytes { bytes in
          try decoder.consume(bytes) { _ in
          } trailer: {
            found += bytes[$0]
          }
        }
      }
      #expect(String(decoding: found, as: UTF8.self) == lines && decoder.isComplete, "cut at \(cut)")
    }
  }

  func decode(_ text: String) throws -> (taken: Int, content: String, complete: Bool) {
    try withBytes(text) { bytes in
      var decoder = ChunkedDecoder()
      var content: [UInt8] = []
      let taken = try decoder.consume(bytes) {
        content += bytes[$0]
      } trailer: { _ in
      }
      return (taken, String(decoding: content, as: UTF8.self), decoder.isComplete)
    }
  }

  @Test(arguments: [
    ("5\r\nhello\r\n0\r\n\r\nNEXT", "hello", 15), ("A;x=y\r\n0123456789\r\n0;z\r\n\r\n", "0123456789", 26),
    ("000\r\n\r\n", "", 7), ("1\r\na\r\n0\r\nT: v\r\nU:\r\n\r\n", "a", 21),
  ])
  func reads(text: String, content: String, taken: Int) throws {
    let result = try decode(text)
    #expect(result.complete && result.content == content && result.taken == taken)
  }

  @Test(arguments: [
    ("\r\n", HeadError.invalidChunkSize), ("g\r\n", .invalidChunkSize), ("-1\r\n", .invalidChunkSize),
    ("0x5\r\n", .invalidChunkSize), ("5 \r\n", .invalidChunkSize), ("5\nhello", .invalidChunkSize),
    ("5\r\nhelloX", .invalidChunkEnd), ("5\r\nhello\n", .invalidChunkEnd),
    ("FFFFFFFFFFFFFFFFF\r\n", .chunkTooLarge), ("10000000000000000\r\n", .chunkTooLarge),
    ("5;a\u{0}b\r\n", .invalidChunkExtension), ("5;a\n", .invalidChunkExtension),
    ("0\r\n fold\r\n", .invalidTrailer), ("0\r\nbad name: x\r\n", .invalidTrailer),
    ("0\r\nA: b\n", .invalidTrailer), ("0\r\nA: b\rc", .invalidTrailer),
  ])
  func refuses(text: String, expected: HeadError) {
    #expect(throws: expected) { try decode(text) }
  }

  @Test func boundsExtensionsTrailersAndZeros() {
    #expect(throws: HeadError.chunkExtensionTooLong) { try decode("5;" + String(repeating: "a", count: 17 << 10)) }
    #expect(throws: HeadError.trailerTooLarge) { try decode("0\r\nA:" + String(repeating: "a", count: 17 << 10)) }
    #expect(throws: HeadError.invalidChunkSize) { try decode(String(repeating: "0", count: 5000)) }
  }

  @Test func everySplitIsTheSame() throws {
    let text = "3;e\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n"
    try withBytes(text) { bytes in
      for split in 0...bytes.count {
        var decoder = BodyDecoder(.chunked)
        let first = try decoder.consume(UnsafeRawBufferPointer(rebasing: bytes[..<split]))
        let second = try decoder.consume(UnsafeRawBufferPointer(rebasing: bytes[split...]))
        #expect(first + second == bytes.count)
        #expect(decoder.isComplete)
      }
    }
  }

  @Test func countsLengths() throws {
    try withBytes("helloNEXT") { bytes in
      var decoder = BodyDecoder(.length(5))
      let first = try decoder.consume(bytes)
      #expect(first == 5 && decoder.isComplete)
      let second = try decoder.consume(bytes)
      #expect(second == 0)
      #expect(BodyDecoder(.none).isComplete)
    }
  }
}
