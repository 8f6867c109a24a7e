/// Records on their way to a sink, as the spool had them. Owned by one task.
package final class SinkBatch {
  /// Points into memory that the batch keeps.
  package struct Item: @unchecked Sendable {
    /// The record with its LF.
    package var record: Bytes
    package var mark: RecordMark
    /// Of the source.
    package var identity: UInt64
    /// Where the record begins in the source, bytes.
    package var offset: UInt64
    /// Index in `sources`.
    package var source: Int
  }

  package private(set) var items: [Item] = []
  /// Of all records.
  package private(set) var bytes = 0
  /// Names of the sources that the records came from.
  package private(set) var sources: [String] = []
  /// What holds the records; none of them grows or moves any more.
  private var held: [ByteArena] = []
  /// The last of `held` when it takes copies.
  private var copies: ByteArena?

  package init() {}

  /// Forgets everything, and returns the memory that `hold` was given.
  @discardableResult
  package func removeAll() -> [ByteArena] {
    items.removeAll(keepingCapacity: true)
    sources.removeAll(keepingCapacity: true)
    bytes = 0
    copies = nil
    defer { held = [] }
    return held
  }

  /// Keeps the memory that the records of the following `add` lie in.
  package func hold(_ arena: ByteArena) {
    copies = nil
    held.append(arena)
  }

  /// Adds a record that lies in memory that is held.
  @inline(__always)
  package func add(_ record: SpooledRecord, source: Int, identity: UInt64) {
    bytes += record.bytes.count
    items.append(
      Item(record: record.bytes, mark: record.mark, identity: identity, offset: record.offset, source: source))
  }

  /// Adds a record that lies anywhere.
  package func add(copyOf record: SpooledRecord, source: Int, identity: UInt64) {
    var record = record
    if copies.map({ $0.capacity - $0.count < record.bytes.count }) ?? true {
      let fresh = ByteArena(capacity: max(64 << 10, record.bytes.count))
      held.append(fresh)
      copies = fresh
    }
    guard let copies else { return }
    let start = copies.count
    copies.append(record.bytes)
    record.bytes = copies.bytes.part(start..<copies.count)
    add(record, source: source, identity: identity)
  }

  /// The index of a source's name, to be given to `add`.
  package func index(ofSource name: Bytes) -> Int {
    if let index = sources.lastIndex(where: { name.elementsEqual($0.utf8) }) { return index }
    sources.append(name.text)
    return sources.count - 1
  }

  /// A record with its LF.
  package func record(_ position: Int) -> Bytes { items[position].record }

  /// A record without its LF.
  package func content(_ position: Int) -> Bytes {
    let record = record(position)
    return record.last == 0x0A ? record.part(0..<record.count - 1) : record
  }
}
