import Vocabulary

/// What is remembered of one source stream (a file, a pipe, a connection) between two looks at it: which of the lines
/// behind its position are in the spool already, and since when the last groups have not grown.
package struct GroupMemory: Sendable {
  fileprivate struct Waiting: Sendable {
    var start: UInt64 = .max
    var bytes = 0
    var since: Int64 = 0
  }
  /// Where lines begin in the source, ascending.
  fileprivate var done: [UInt64] = []
  fileprivate var waiting = [Waiting(), Waiting(), Waiting()]
  /// Lines wait for their group's end: look again soon.
  package fileprivate(set) var isHeld = false
  package init() {}
}

/// Makes records of lines: opens what a container runtime wrapped, joins the parts of a long line and the lines of a
/// stack trace. Owned by one thread.
///
/// A source shows the same bytes again until its position has passed them, and the position never passes a group that is
/// not whole: a process that dies loses no half of a trace. Streams that are mixed in one file are told apart, so a group
/// may be whole before one that began earlier; its lines are remembered and not taken twice.
package final class LineGroups {
  /// A record's text, in the region or in `arena`.
  package struct Group {
    enum Progress: Sendable { case open, whole, shipped, safe }
    /// Of its first line in the region.
    package var start: Int
    /// nil: the source's own.
    package var stream: LogStream?
    /// From the envelope, nanoseconds since 1970.
    package var time: Int64?
    /// The group was cut at the record limit; the rest is in the next one.
    package var isCut = false
    /// Its first line does not have the envelope's form.
    package var isForeign = false
    fileprivate var first: Piece
    fileprivate var more: [Piece] = []
    fileprivate var bytes: Int
    fileprivate var isPartial: Bool
    fileprivate var state: GroupState
    fileprivate var progress = Progress.open
    package var isWhole: Bool { progress == .whole }
  }

  fileprivate struct Piece {
    var range: Range<Int>
    var inArena: Bool
    /// Stands behind the piece before it without a line's end.
    var glued: Bool
  }

  /// A part of a long line waits at least this long for the rest, nanoseconds.
  static let partialWait: Int64 = 5_000_000_000

  package private(set) var groups: [Group] = []
  private var lines: [(start: Int, group: Int)] = []
  private var current: [Int?] = [nil, nil, nil]
  private let envelope: Envelope
  private let rule: MultilineRule?
  private let timeout: Int64
  private let limit: Int
  private let opened = ByteArena()
  private let assembled = ByteArena()

  /// `limit` bounds a record's bytes. nil when every line is a record by itself.
  package init?(envelope: Envelope, multiline: MultilineConfiguration?, limit: Int) {
    guard envelope != .none || multiline != nil else { return nil }
    self.envelope = envelope
    rule = multiline.map { MultilineRule($0.joining) }
    timeout = multiline?.timeout.inNanoseconds ?? Self.partialWait
    self.limit = limit
  }

  /// Groups the lines of `region`, whose first byte is `offset` in the source; its last line may lack its end. `now` is
  /// in nanoseconds of any clock that does not jump. With `final`, everything is whole.
  package func scan(_ region: Bytes, at offset: UInt64, now: Int64, final: Bool, _ memory: inout GroupMemory) {
    groups.removeAll(keepingCapacity: true)
    lines.removeAll(keepingCapacity: true)
    current = [nil, nil, nil]
    opened.removeAll()
    opened.release(above: 1 << 20)
    var at = 0
    var passed = 0
    let done = memory.done
    while passed < done.count, done[passed] < offset { passed += 1 }
    while at < region.count {
      let end = region.firstOffset(of: 0x0A, from: at) ?? region.count
      if passed < done.count, done[passed] == offset + UInt64(at) {
        passed += 1
      } else {
        take(region, at..<end)
      }
      at = min(end + 1, region.count)
    }
    for slot in current.indices { settle(slot, offset, now, final, &memory) }
    memory.isHeld = current.contains { $0 != nil }
  }

  private func take(_ region: Bytes, _ line: Range<Int>) {
    var text = region.part(line)
    if text.last == 0x0D { text = text.part(0..<text.count - 1) }
    guard envelope != .none else {
      let piece = Piece(range: line.lowerBound..<line.lowerBound + text.count, inArena: false, glued: false)
      add(line.lowerBound, piece, text)
      return
    }
    let before = opened.count
    guard let content = envelope.open(text, opened) else {
      opened.truncate(to: before)
      let piece = Piece(range: line.lowerBound..<line.lowerBound + text.count, inArena: false, glued: false)
      add(line.lowerBound, piece, text, isForeign: true)
      return
    }
    let inArena = envelope == .docker
    let from = inArena ? before : line.lowerBound + (text.count - content.text.count)
    let piece = Piece(range: from..<from + content.text.count, inArena: inArena, glued: false)
    add(
      line.lowerBound, piece, content.text, stream: content.stream, time: content.time, isPartial: content.isPartial)
  }

  private func add(
    _ start: Int, _ piece: Piece, _ text: Bytes, stream: LogStream? = nil, time: Int64? = nil, isPartial: Bool = false,
    isForeign: Bool = false
  ) {
    let slot = Int((stream ?? .none).rawValue)
    var begin: GroupState?
    if let index = current[slot] {
      let glued = groups[index].isPartial
      let state = glued ? groups[index].state : rule?.next(groups[index].state, text)
      if let state {
        if groups[index].bytes + text.count + 1 <= limit {
          extend(index, Piece(range: piece.range, inArena: piece.inArena, glued: glued))
          groups[index].state = state
          groups[index].isPartial = isPartial
          lines.append((start, index))
          if !isPartial, state == .closed { close(slot) }
          return
        }
        groups[index].isCut = true
        begin = state
      }
      close(slot)
    }
    let state = begin ?? rule?.begin(text) ?? .closed
    groups.append(
      Group(
        start: start, stream: stream, time: time, isForeign: isForeign, first: piece, bytes: text.count,
        isPartial: isPartial, state: state))
    lines.append((start, groups.count - 1))
    current[slot] = groups.count - 1
    if !isPartial, state == .closed { close(slot) }
  }

  private func extend(_ index: Int, _ piece: Piece) {
    groups[index].bytes += piece.range.count + (piece.glued ? 0 : 1)
    let last = groups[index].more.last ?? groups[index].first
    guard !piece.inArena, !last.inArena, !piece.glued, last.range.upperBound + 1 == piece.range.lowerBound else {
      groups[index].more.append(piece)
      return
    }
    // The next line of the region: its LF is the one between them.
    if groups[index].more.isEmpty {
      groups[index].first.range = last.range.lowerBound..<piece.range.upperBound
    } else {
      groups[index].more[groups[index].more.count - 1].range = last.range.lowerBound..<piece.range.upperBound
    }
  }

  private func close(_ slot: Int) {
    if let index = current[slot] { groups[index].progress = .whole }
    current[slot] = nil
  }

  /// Closes the last group of a stream when it has waited long enough.
  private func settle(_ slot: Int, _ offset: UInt64, _ now: Int64, _ final: Bool, _ memory: inout GroupMemory) {
    guard let index = current[slot] else {
      memory.waiting[slot] = GroupMemory.Waiting()
      return
    }
    let start = offset + UInt64(groups[index].start)
    let known = memory.waiting[slot]
    if known.start != start || known.bytes != groups[index].bytes {
      memory.waiting[slot] = GroupMemory.Waiting(start: start, bytes: groups[index].bytes, since: now)
    }
    let patience = groups[index].isPartial ? max(timeout, Self.partialWait) : timeout
    if final || now - memory.waiting[slot].since >= patience { close(slot) }
  }

  /// The text of a group, valid until the next call.
  package func text(_ index: Int, of region: Bytes) -> Bytes {
    let group = groups[index]
    if group.more.isEmpty { return bytes(group.first, region) }
    assembled.removeAll()
    assembled.release(above: 2 << 20)
    assembled.append(bytes(group.first, region))
    for piece in group.more {
      if !piece.glued { assembled.append(0x0A as UInt8) }
      assembled.append(bytes(piece, region))
    }
    return assembled.bytes
  }

  private func bytes(_ piece: Piece, _ region: Bytes) -> Bytes {
    piece.inArena ? opened.bytes.part(piece.range) : region.part(piece.range)
  }

  /// The group is in the batch that is filled now.
  package func ship(_ index: Int) { groups[index].progress = .shipped }

  /// Where the first group begins that is not in a batch; the region's length when all are.
  package func reach(_ length: Int) -> Int {
    groups.first { $0.progress == .open || $0.progress == .whole }?.start ?? length
  }

  /// The batch is in the spool.
  package func store() {
    for index in groups.indices where groups[index].progress == .shipped { groups[index].progress = .safe }
  }

  /// The source's position moves to `safe` in the region; what lies behind it and is in the spool is remembered.
  package func finish(_ safe: Int, at offset: UInt64, _ memory: inout GroupMemory) {
    let position = offset + UInt64(safe)
    var done = memory.done.filter { $0 >= position }
    for line in lines where line.start >= safe && groups[line.group].progress == .safe {
      done.append(offset + UInt64(line.start))
    }
    if done.count > 1 { done.sort() }
    memory.done = done
  }
}
