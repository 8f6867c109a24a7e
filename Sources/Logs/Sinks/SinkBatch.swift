/// Records on their way to a sink, as the spool had them. Owned by one task.
package final class SinkBatch {
  package struct Item: Sendable {
    /// The record in the arena, with its LF.
    package var record: Range<Int>
    package var mark: RecordMark
    /// Of the source.
    package var identity: UInt64
    /// Where the record begins in the source, bytes.
    package var offset: UInt64
    /// Index in `sources`.
    package var source: Int
  }

  package let arena = ByteArena(capacity: 64 << 10)
  package private(set) var items: [Item] = []
  /// Names of the sources that the records came from.
  package private(set) var sources: [String] = []

  package init() {}

  package func removeAll() {
    items.removeAll(keepingCapacity: true)
    sources.removeAll(keepingCapacity: true)
    arena.removeAll()
    arena.release(above: 8 << 20)
  }

  package func add(_ record: SpooledRecord, source: Int, identity: UInt64) {
    let start = arena.count
    arena.append(record.bytes)
    items.append(
      Item(
        record: start..<arena.count, mark: record.mark, identity: identity, offset: record.offset, source: source))
  }

  /// The index of a source's name, to be given to `add`.
  package func index(ofSource name: Bytes) -> Int {
    if let index = sources.lastIndex(where: { name.elementsEqual($0.utf8) }) { return index }
    sources.append(name.text)
    return sources.count - 1
  }

  /// A record with its LF.
  package func record(_ position: Int) -> Bytes { arena.bytes.part(items[position].record) }

  /// A record without its LF.
  package func content(_ position: Int) -> Bytes {
    let record = record(position)
    return record.last == 0x0A ? record.part(0..<record.count - 1) : record
  }
}
