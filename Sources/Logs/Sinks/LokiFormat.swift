import Synchronization

/// Loki's push API as JSON (Grafana Loki, "HTTP API: ingest logs"). Records with the same labels are a stream; within a
/// request a stream's records stand by time, those of the same time in the order in which they were read.
package final class LokiFormat: SinkFormat {
  private let labels: [(name: [UInt8], value: IndexName)]
  private let limit: Int
  /// Values of each label that were sent, so that their number stays bounded over the sink's life.
  private let known: Mutex<[Set<String>]>

  package init(_ options: LogSinkConfiguration.LokiOutput) {
    labels = options.labels.map { (JSONText.quoted($0.name), IndexName($0.value, times: false)) }
    limit = options.labelValues
    known = Mutex(Array(repeating: [], count: options.labels.count))
  }

  package var keepsOrder: Bool { true }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    var streams: [[UInt8]: Int] = [:]
    var members: [(labels: [UInt8], positions: [Int])] = []
    for position in chosen {
      let labels = stream(of: batch, position)
      if let index = streams[labels] {
        members[index].positions.append(position)
      } else {
        streams[labels] = members.count
        members.append((labels, [position]))
      }
    }
    let arena = ByteArena(capacity: chosen.reduce(64) { $0 + batch.items[$1].record.count + 64 })
    arena.append("{\"streams\":[")
    for (order, member) in members.enumerated() {
      if order > 0 { arena.append(0x2C as UInt8) }
      arena.append("{\"stream\":")
      arena.append(member.labels)
      arena.append(",\"values\":[")
      append(member.positions, of: batch, into: arena)
      arena.append("]}")
    }
    arena.append("]}")
    return Array(arena.bytes)
  }

  private func append(_ positions: [Int], of batch: SinkBatch, into arena: ByteArena) {
    // The position in the batch is the second key, which makes the sort stable.
    let sorted = positions.sorted { (batch.items[$0].mark.time, $0) < (batch.items[$1].mark.time, $1) }
    for (order, position) in sorted.enumerated() {
      arena.append(order > 0 ? ",[\"" : "[\"")
      arena.append(decimal: max(0, batch.items[position].mark.time))
      arena.append("\",\"")
      JSONText.escape(batch.content(position), into: arena)
      arena.append("\"]")
    }
  }

  /// The labels of a record's stream, as a JSON object. Absent and empty values are left out, as Loki has it.
  private func stream(of batch: SinkBatch, _ position: Int) -> [UInt8] {
    var object: [UInt8] = [0x7B]
    for (index, label) in labels.enumerated() {
      let value = bounded(label.value.plain(time: 0, record: batch.content(position)), index)
      if value.isEmpty { continue }
      if object.count > 1 { object.append(0x2C) }
      object += label.name + [0x3A] + JSONText.quoted(value)
    }
    if object.count == 1 {
      return Array("{\"source\":".utf8) + JSONText.quoted(batch.sources[batch.items[position].source]) + [0x7D]
    }
    return object + [0x7D]
  }

  private func bounded(_ value: String, _ index: Int) -> String {
    let value = String(decoding: value.utf8.prefix(256), as: UTF8.self)
    if value.isEmpty { return value }
    return known.withLock { known in
      if known[index].contains(value) { return value }
      guard known[index].count < limit else { return "other" }
      known[index].insert(value)
      return value
    }
  }

  /// A line that Loki has already, at the same time in the same stream, it stores once: what a refused request left
  /// behind may be sent again.
  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement { SinkStatus.judge(answer) }
}
