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
    let arena = ByteArena(capacity: chosen.reduce(64) { $0 + batch.items[$1].record.count + 96 })
    let creates = options.dataStream || options.deterministicID
    // The finest sequence of a name is a second.
    var named: (second: Int64, name: [UInt8]) = (.min, [])
    for position in chosen {
      let item = batch.items[position]
      let second = item.mark.time / 1_000_000_000
      if index.hasFields || second != named.second {
        let name = index.render(time: item.mark.time, record: batch.record(position))
        named = (second, JSONText.quoted(name))
      }
      arena.append(creates ? "{\"create\":{\"_index\":" : "{\"index\":{\"_index\":")
      arena.append(named.name)
      if options.deterministicID {
        arena.append(",\"_id\":\"")
        arena.append(hex: item.identity)
        arena.append(UInt8(ascii: "-"))
        arena.append(hex: item.offset)
        arena.append(0x22 as UInt8)
      }
      arena.append("}}\n")
      arena.append(batch.record(position))
    }
    return Array(arena.bytes)
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

extension ByteArena {
  /// Lower-case hexadecimal digits without leading zeros.
  package func append(hex value: UInt64) {
    var started = false
    for shift in stride(from: UInt64(60), through: 0, by: -4) {
      let digit = Int(value >> shift & 15)
      if digit != 0 || started || shift == 0 {
        append(JSONText.hexDigits[digit])
        started = true
      }
    }
  }

  package func append(decimal value: some BinaryInteger) { append(text: String(value)) }
}
