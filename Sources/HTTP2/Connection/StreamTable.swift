/// A stream as its driver knows it: the identifier, and a small number that is unique among open streams, so that the
/// driver can keep its own state of the stream in an array. Slots are used again once a stream is closed.
package struct StreamKey: Sendable, Hashable {
  package let id: UInt32
  package let slot: Int32

  package init(id: UInt32, slot: Int32) {
    self.id = id
    self.slot = slot
  }

  /// The key of no stream.
  package static let none = StreamKey(id: 0, slot: -1)
}

/// One stream that is not idle and not closed (RFC 9113 section 5.1): neither side, or one side, has ended.
struct HTTP2Stream: Sendable {
  struct Facts: OptionSet {
    let rawValue: UInt16
    /// The peer has sent END_STREAM: half-closed (remote). Next: closed.
    static let remoteEnded = Facts(rawValue: 1)
    /// We have sent END_STREAM: half-closed (local). Next: closed.
    static let localEnded = Facts(rawValue: 2)
    /// The peer's final head is there; what follows is DATA, then trailers.
    static let headReceived = Facts(rawValue: 4)
    static let headSent = Facts(rawValue: 8)
    /// The request is HEAD: its response has no content.
    static let answersHead = Facts(rawValue: 16)
    static let isConnect = Facts(rawValue: 32)
    static let isExtendedConnect = Facts(rawValue: 64)
    /// The driver has DATA that the windows do not let go.
    static let isBlocked = Facts(rawValue: 128)
    /// A stall was reported already.
    static let isStalled = Facts(rawValue: 256)
  }

  /// 0 = the slot is free.
  var id: UInt32 = 0
  var facts: Facts = []
  /// The next free slot while this one is free.
  var nextFree: Int32 = -1
  /// What we may send; negative after the peer has shrunk its initial window (RFC 9113 section 6.9.2).
  var sendWindow = 0
  /// What the peer may send.
  var receiveWindow = 0
  /// Octets that were received and not drained yet.
  var held = 0
  /// Octets that were drained and not credited yet.
  var credit = 0
  /// Content that the peer still owes by its content-length; -1 = it named none.
  var bodyLeft: Int64 = -1
  var blockedSince: UInt64 = 0
}

/// The open streams of a connection, by slot, with an index by identifier.
struct StreamTable: Sendable {
  var slots = ContiguousArray<HTTP2Stream>()
  private(set) var count = 0
  private var firstFree: Int32 = -1
  /// Open addressing by identifier: slot + 1, 0 = empty. Twice as large as `slots` at least.
  private var index = ContiguousArray<Int32>()

  init() {}

  @inline(__always)
  private func home(_ id: UInt32) -> Int { Int(id >> 1) & (index.count &- 1) }

  /// The slot of that stream, or -1.
  @inline(__always)
  func find(_ id: UInt32) -> Int {
    if count == 0 { return -1 }
    var place = home(id)
    while true {
      let entry = index[place]
      if entry == 0 { return -1 }
      if slots[Int(entry &- 1)].id == id { return Int(entry &- 1) }
      place = (place &+ 1) & (index.count &- 1)
    }
  }

  /// `id` is not in the table.
  mutating func insert(_ id: UInt32) -> Int {
    if firstFree < 0 { grow() }
    let slot = Int(firstFree)
    firstFree = slots[slot].nextFree
    slots[slot] = HTTP2Stream()
    slots[slot].id = id
    count &+= 1
    enter(slot)
    return slot
  }

  private mutating func enter(_ slot: Int) {
    var place = home(slots[slot].id)
    while index[place] != 0 { place = (place &+ 1) & (index.count &- 1) }
    index[place] = Int32(slot &+ 1)
  }

  private mutating func grow() {
    let old = slots.count
    let larger = max(8, old * 2)
    slots.reserveCapacity(larger)
    for slot in old..<larger {
      var free = HTTP2Stream()
      free.nextFree = slot + 1 < larger ? Int32(slot + 1) : -1
      slots.append(free)
    }
    firstFree = Int32(old)
    index = ContiguousArray(repeating: 0, count: larger * 2)
    for slot in 0..<old where slots[slot].id != 0 { enter(slot) }
  }

  mutating func remove(_ slot: Int) {
    let mask = index.count &- 1
    var place = home(slots[slot].id)
    while index[place] != Int32(slot &+ 1) { place = (place &+ 1) & mask }
    // Close the gap: what was pushed past it moves back.
    var next = place
    while true {
      next = (next &+ 1) & mask
      let entry = index[next]
      if entry == 0 { break }
      let ideal = home(slots[Int(entry &- 1)].id)
      if (next &- ideal) & mask >= (next &- place) & mask {
        index[place] = entry
        place = next
      }
    }
    index[place] = 0
    slots[slot].id = 0
    slots[slot].nextFree = firstFree
    firstFree = Int32(slot)
    count &-= 1
  }
}

/// The last identifiers that something happened to, a bounded number of them.
struct RecentStreams: Sendable {
  private var ids = ContiguousArray<UInt32>()
  private var next = 0
  private let limit: Int

  init(limit: Int) { self.limit = limit }

  mutating func insert(_ id: UInt32) {
    if ids.count < limit {
      ids.append(id)
    } else {
      ids[next] = id
      next = next + 1 == limit ? 0 : next + 1
    }
  }

  func contains(_ id: UInt32) -> Bool { ids.contains(id) }
}
