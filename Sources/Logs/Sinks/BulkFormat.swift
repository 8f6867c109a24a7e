/// The body of Elasticsearch's `_bulk` and what its answers mean, record by record.
package struct BulkFormat: SinkFormat {
  private let index: IndexName
  private let options: LogSinkConfiguration.ElasticsearchOutput

  package init(_ options: LogSinkConfiguration.ElasticsearchOutput) {
    self.options = options
    index = IndexName(options.index)
  }

  /// With deterministic ids the id is the source's identity and the record's offset in it, so that a record sent twice is
  /// stored once.
  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    let action: StaticString =
      options.dataStream || options.deterministicID ? "{\"create\":{\"_index\":" : "{\"index\":{\"_index\":"
    var names = Names(index)
    let fixed = action.utf8CodeUnitCount + 4 + (options.deterministicID ? 8 + 16 + 1 + 16 + 1 : 0)
    var room = 0
    for position in chosen {
      let item = batch.items[position]
      names.move(to: item)
      room += fixed + names.current.count + item.record.count
    }
    return [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
      var pen = Pen(at: UnsafeMutableRawPointer(buffer.baseAddress))
      for position in chosen {
        let item = batch.items[position]
        names.move(to: item)
        pen.put(action)
        pen.put(names.current)
        if options.deterministicID {
          pen.put(",\"_id\":\"")
          pen.put(hex: item.identity)
          pen.put("-")
          pen.put(hex: item.offset)
          pen.put("\"")
        }
        pen.put("}}\n")
        pen.put(item.record)
      }
      count = pen.count
    }
  }

  /// The names of the indices of records, each made once for as long as it stays.
  private struct Names {
    let index: IndexName
    var current: [UInt8] = []
    private var second: Int64?

    init(_ index: IndexName) { self.index = index }

    mutating func move(to item: SinkBatch.Item) {
      // The finest sequence of a name is a second.
      let second = item.mark.time / 1_000_000_000
      if second == self.second, !index.hasFields { return }
      current = JSONText.quoted(index.render(time: item.mark.time, record: item.record))
      self.second = second
    }
  }

  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement {
    guard case .reply(let status, let after, let body) = answer else { return SinkStatus.judge(answer) }
    switch BulkResponse.whole(status: status) {
    case .items:
      let verdicts = body.withUnsafeBytes {
        BulkResponse.parse($0, items: items, deterministicID: options.deterministicID)
      }
      guard let verdicts else {
        return .again("the answer is no bulk response for \(items) items; is the url that of the cluster?")
      }
      return .items(verdicts)
    case .again: return .again(SinkStatus.shown(status, body), after: after)
    case .split: return .split(SinkStatus.shown(status, body))
    }
  }
}

/// Writes into memory whose size is known to suffice.
struct Pen {
  private let start: UnsafeMutableRawPointer?
  private(set) var count = 0

  init(at start: UnsafeMutableRawPointer?) { self.start = start }

  @inline(__always)
  mutating func put(_ text: StaticString) { put(Bytes(start: text.utf8Start, count: text.utf8CodeUnitCount)) }

  @inline(__always)
  mutating func put(_ bytes: [UInt8]) { bytes.withUnsafeBytes { put($0) } }

  @inline(__always)
  mutating func put(_ bytes: Bytes) {
    guard let start, let from = bytes.baseAddress else { return }
    (start + count).copyMemory(from: from, byteCount: bytes.count)
    count &+= bytes.count
  }

  /// Lower-case hexadecimal digits without leading zeros, at most 16.
  mutating func put(hex value: UInt64) {
    guard let start else { return }
    let digits = max(1, (67 &- value.leadingZeroBitCount) >> 2)
    var rest = value
    var at = digits
    while at > 0 {
      at &-= 1
      (start + count + at).storeBytes(of: JSONText.hexDigit(of: UInt8(truncatingIfNeeded: rest & 15)), as: UInt8.self)
      rest >>= 4
    }
    count &+= digits
  }
}

extension ByteArena {
  package func append(decimal value: some BinaryInteger) { append(text: String(value)) }
}
