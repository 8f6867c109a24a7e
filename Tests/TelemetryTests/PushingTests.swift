import Telemetry
import Testing

@Suite struct PushingTests {
  /// Snappy's block format, read in the plainest way: the oracle.
  private func unpacked(_ bytes: [UInt8]) -> [UInt8]? {
    var at = 0
    func varint() -> Int {
      var value = 0
      var shift = 0
      while at < bytes.count {
        let byte = Int(bytes[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 { break }
        shift += 7
      }
      return value
    }
    let length = varint()
    var out: [UInt8] = []
    while at < bytes.count {
      let tag = Int(bytes[at])
      at += 1
      if tag & 3 == 0 {
        var count = tag >> 2
        if count >= 60 {
          let octets = count - 59
          count = (0..<octets).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) }
          at += octets
        }
        out += bytes[at..<at + count + 1]
        at += count + 1
      } else if tag & 3 == 2 {
        let offset = Int(bytes[at]) | Int(bytes[at + 1]) << 8
        at += 2
        guard offset > 0, offset <= out.count else { return nil }
        for _ in 0...(tag >> 2) { out.append(out[out.count - offset]) }
      } else {
        return nil
      }
    }
    return out.count == length ? out : nil
  }

  @Test(arguments: [0, 1, 3, 4, 59, 60, 61, 62, 255, 256, 257, 65_535, 65_536, 70_000, 300_000])
  func whatIsPackedComesOutAgain(length: Int) {
    var generator = SystemRandomNumberGenerator()
    let noise = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
    #expect(unpacked(Snappy.compressed(noise)) == noise)
    let few = (0..<length).map { _ in UInt8.random(in: 0...1, using: &generator) }
    #expect(unpacked(Snappy.compressed(few)) == few)
    let same = [UInt8](repeating: 7, count: length)
    let packed = Snappy.compressed(same)
    #expect(unpacked(packed) == same)
    if length > 1000 { #expect(packed.count < length / 10) }
  }

  @Test func requestsAreOfABoundedSize() throws {
    let text = "# TYPE many gauge\n" + (0..<4100).map { "many{n=\"\($0)\"} \($0)\n" }.joined()
    let metrics = try ScrapedMetrics(text)
    #expect(RemoteWrite.requests(metrics, labels: [], at: 1).map(\.samples) == [2000, 2000, 100])
    let origin = OTLPMetrics.Origin(resource: [], version: "1", own: [], start: 0)
    #expect(OTLPMetrics.requests(metrics, origin, at: 1).map(\.samples) == [2000, 2000, 100])
  }

  @Test func aSeriesOfRemoteWriteIsWhatTheSpecificationHas() throws {
    let metrics = try ScrapedMetrics("# TYPE a counter\na{job=\"mine\",Z=\"\\\"\"} 2\na 2 5\n")
    let requests = RemoteWrite.requests(metrics, labels: [Label("job", "x"), Label("b", "y")], at: 77)
    // What has a time of its own travels apart.
    #expect(requests.map(\.samples) == [1, 1])
    let plain = try #require(unpacked(requests[0].body))
    // TimeSeries { labels sorted by octets; the series' own `job` stays; sample 2.0 at 77 }, then its metadata.
    func text(_ field: UInt8, _ value: String) -> [UInt8] { [field, UInt8(value.utf8.count)] + Array(value.utf8) }
    func label(_ name: String, _ value: String) -> [UInt8] {
      let pair = text(0x0A, name) + text(0x12, value)
      return [0x0A, UInt8(pair.count)] + pair
    }
    let sample: [UInt8] = [0x12, 11, 0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 77]
    let series = label("Z", "\"") + label("__name__", "a") + label("b", "y") + label("job", "mine") + sample
    let metadata: [UInt8] = [0x08, 1] + text(0x12, "a")
    #expect(plain == [0x0A, UInt8(series.count)] + series + [0x1A, UInt8(metadata.count)] + metadata)
  }

  @Test func rejectedPointsAreRead() {
    #expect(OTLPMetrics.rejected([] as [UInt8]) == 0)
    #expect(OTLPMetrics.rejected([0x0A, 2, 0x08, 3] as [UInt8]) == 3)
    #expect(OTLPMetrics.rejected([0x0A, 3, 0x08, 0xAC, 0x02] as [UInt8]) == 300)
    #expect(OTLPMetrics.rejected([0x0A, 0] as [UInt8]) == 0)
    #expect(OTLPMetrics.rejected([0x0A, 12, 0x08] + [UInt8](repeating: 0xFF, count: 11)) == 0)
    #expect(OTLPMetrics.rejected(Array("{\"partialSuccess\":{}}".utf8)) == 0)
  }
}
