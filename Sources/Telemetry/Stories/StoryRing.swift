/// The stories of requests that one event loop remembers: octets in a ring of a fixed size, which grows to it only as
/// stories come. The oldest makes room for the newest.
package struct StoryRing: Sendable {
  private struct Entry {
    var position: Int
    /// Octets of the id, which come first, and of the story behind it.
    var idCount: Int
    var count: Int
    /// Nanoseconds of uptime.
    var time: UInt64
    var isFailure: Bool
    var end: Int { position + idCount + count }
  }

  package struct Story: Sendable, Equatable {
    /// Nanoseconds of uptime when it ended.
    package var time: UInt64
    package var text: [UInt8]
  }

  /// Octets that it may hold.
  package private(set) var limit: Int
  /// How long a story is told, in nanoseconds.
  package private(set) var keep: UInt64
  private var bytes: [UInt8] = []
  private var entries: [Entry] = []
  /// Entries before this one are gone.
  private var first = 0
  private var head = 0

  package init(limit: Int = 0, keep: UInt64 = 0) {
    self.limit = limit
    self.keep = keep
  }

  package var count: Int { entries.count - first }

  /// Changes its size; the newest stories that fit stay.
  package mutating func resize(limit: Int, keep: UInt64) {
    self.keep = keep
    guard limit != self.limit else { return }
    var fresh = StoryRing(limit: limit, keep: keep)
    for entry in entries[first...] {
      let start = entry.position + entry.idCount
      fresh.add(
        id: bytes[entry.position..<start], time: entry.time, isFailure: entry.isFailure,
        text: bytes[start..<entry.end])
    }
    self = fresh
  }

  /// Remembers a story; one that is larger than the ring is not kept.
  package mutating func add(
    id: some Collection<UInt8>, time: UInt64, isFailure: Bool, text: some Collection<UInt8>
  ) {
    let entry = Entry(position: head, idCount: id.count, count: text.count, time: time, isFailure: isFailure)
    let size = entry.idCount + entry.count
    guard size <= limit else { return }
    let placed = take(entry, size)
    write(id, at: placed.position)
    write(text, at: placed.position + placed.idCount)
  }

  /// Makes room, and notes the entry there.
  private mutating func take(_ entry: Entry, _ size: Int) -> Entry {
    var placed = entry
    if head + size > limit {
      // The rest of the ring stays unused for this turn, and what is there is the oldest.
      while first < entries.count, entries[first].position >= head { first += 1 }
      head = 0
    }
    placed.position = head
    while first < entries.count, entries[first].position < head + size, entries[first].end > head { first += 1 }
    if bytes.count < head + size { bytes.append(contentsOf: repeatElement(0, count: head + size - bytes.count)) }
    head += size
    if first > 64, first * 2 > entries.count {
      entries.removeFirst(first)
      first = 0
    }
    entries.append(placed)
    return placed
  }

  private mutating func write(_ source: some Collection<UInt8>, at position: Int) {
    bytes.replaceSubrange(position..<(position + source.count), with: source)
  }

  /// Stories of that id, newest first.
  package func stories(of id: [UInt8], now: UInt64) -> [Story] {
    select(limit: .max, now) { entry in
      entry.idCount == id.count && bytes[entry.position..<(entry.position + entry.idCount)].elementsEqual(id)
    }
  }

  /// The newest stories of requests that failed, newest first.
  package func failures(limit: Int, now: UInt64) -> [Story] { select(limit: limit, now) { $0.isFailure } }

  private func select(limit: Int, _ now: UInt64, _ takes: (Entry) -> Bool) -> [Story] {
    var found: [Story] = []
    for entry in entries[first...].reversed() {
      if found.count == limit || now > entry.time && now - entry.time > keep { break }
      if takes(entry) {
        found.append(Story(time: entry.time, text: Array(bytes[(entry.position + entry.idCount)..<entry.end])))
      }
    }
    return found
  }
}
