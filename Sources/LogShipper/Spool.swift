import Glibc
package import Logs
import Synchronization

/// The only buffer of the log pipeline: append-only segments, one writer, a reader for each sink. A segment goes away
/// when every sink has passed it.
package final class Spool: Sendable {
  /// `pwrite`, or what stands in for it in a test: writes and returns the count, or -1 and errno.
  package typealias Write = @Sendable (CInt, UnsafeRawPointer, Int, Int) -> Int

  package enum Appended: Sendable, Equatable {
    case stored
    /// No room, and the configuration says to wait.
    case full
    /// No room, and the configuration says to drop the newest.
    case dropped
    /// The file system refused; errno.
    case failed(CInt)
  }

  struct Segment {
    var id: UInt64
    var size: Int
    var first: UInt64
    /// Where its first record may stand: behind the positions of the sources.
    var start = Spool.segmentHeader
  }

  private struct State {
    var segments: [Segment] = []
    var next: UInt64 = 0
    var descriptor: CInt = -1
    var bytes = 0
    var configuration = SpoolConfiguration()
    var positions: [String: SpoolPosition] = [:]
    /// By sink.
    var wakers: [String: @Sendable () -> Void] = [:]
    var lost: UInt64 = 0
    /// How far each source's identity was spooled, from the batches found at start.
    var reached: [UInt64: UInt64] = [:]
    /// The same of those that came in the last seconds, with the monotonic time.
    var recent: [UInt64: (end: UInt64, time: Int64)] = [:]

    var segmentLimit: Int { min(8 << 20, max(64 << 10, configuration.limit / 4)) }
  }

  static let segmentHeader = 16
  /// For so long a new segment tells how far a source has come, nanoseconds; checkpoints are written far more often.
  private static let memory: Int64 = 5_000_000_000
  private static let magic: UInt64 = 0x314C_4F4F_5053_524F

  package let path: String
  private let checkpoints: String
  private let write: Write
  private let state = Mutex(State())

  /// Opens the spool in `path` and repairs a torn end. Positions of sinks stand in `checkpoints`.
  package init(
    path: String, checkpoints: String, configuration: SpoolConfiguration,
    write: @escaping Write = { pwrite($0, $1, $2, off_t($3)) }
  ) throws {
    self.path = path
    self.checkpoints = checkpoints
    self.write = write
    try StateFile.makeDirectory(path)
    try StateFile.makeDirectory(checkpoints)
    var recovered = try Self.recover(path)
    recovered.configuration = configuration
    let first = recovered
    state.withLock { $0 = first }
  }

  /// Limit, choice when full and sync hold from the next append on; the path stays.
  package func adopt(_ configuration: SpoolConfiguration) { state.withLock { $0.configuration = configuration } }

  deinit { state.withLock { if $0.descriptor >= 0 { _ = close($0.descriptor) } } }

  static func name(_ id: UInt64) -> String {
    let hex = String(id, radix: 16)
    return String(repeating: "0", count: 16 - hex.utf8.count) + hex + ".spool"
  }

  private static func recover(_ path: String) throws -> State {
    var state = State()
    for name in StateFile.names(in: path) where name.hasSuffix(".spool") {
      guard let id = UInt64(name.dropLast(6), radix: 16) else { continue }
      let file = path + "/" + name
      let fd = open(file, O_RDWR | O_CLOEXEC)
      guard fd >= 0 else {
        throw LogStorageError("cannot open the spool segment", file, errno, "check its permissions")
      }
      defer { close(fd) }
      guard let (end, first, next) = scan(fd, &state.reached) else {
        unlink(file)
        continue
      }
      if end < StateFile.size(file) ?? 0 { ftruncate(fd, off_t(end)) }
      state.segments.append(Segment(id: id, size: end, first: first))
      state.next = max(state.next, next)
      state.bytes += end
    }
    if let last = state.segments.last {
      state.descriptor = open(path + "/" + name(last.id), O_RDWR | O_CLOEXEC)
    }
    return state
  }

  /// The end of the last intact batch, the segment's first record and the one behind its last; nil without a header.
  private static func scan(_ fd: CInt, _ reached: inout [UInt64: UInt64]) -> (Int, UInt64, UInt64)? {
    var header: (UInt64, UInt64) = (0, 0)
    guard pread(fd, &header, segmentHeader, 0) == segmentHeader, header.0 == magic else { return nil }
    var offset = segmentHeader
    var next = header.1
    let arena = ByteArena()
    let size = Int(lseek(fd, 0, SEEK_END))
    while true {
      while readBatch(fd, offset, into: arena), SpoolBatchHead.isIntact(arena.bytes),
        let head = SpoolBatchHead(arena.bytes)
      {
        offset += arena.count
        next = head.sequence + UInt64(head.count)
        reached[head.identity] = max(reached[head.identity] ?? 0, head.end)
      }
      // A torn end, or damage with batches behind it.
      guard let behind = nextBatch(fd, from: offset + 1, to: size, arena) else { return (offset, header.1, next) }
      offset = behind
    }
  }

  /// Where the next intact batch begins, nil when there is none.
  static func nextBatch(_ fd: CInt, from start: Int, to end: Int, _ arena: ByteArena) -> Int? {
    let length = min(end - start, SpoolBatchHead.maximumPayload)
    guard length > SpoolBatchHead.size else { return nil }
    arena.prepare(length)
    arena.advance(max(0, pread(fd, arena.reserve(length), length, off_t(start))))
    defer { arena.prepare(0) }
    return SpoolBatchHead.nextIntact(arena.bytes, from: 0).map { start + $0 }
  }

  /// Reads the batch at `offset` whole; false when it is not all there.
  static func readBatch(_ fd: CInt, _ offset: Int, into arena: ByteArena) -> Bool {
    arena.prepare(SpoolBatchHead.size)
    guard pread(fd, arena.base, SpoolBatchHead.size, off_t(offset)) == SpoolBatchHead.size else { return false }
    arena.advance(SpoolBatchHead.size)
    guard let head = SpoolBatchHead(arena.bytes) else { return false }
    let size = SpoolBatchHead.size + head.payload
    arena.prepare(size)
    guard pread(fd, arena.base, size, off_t(offset)) == size else { return false }
    arena.advance(size)
    return true
  }

  /// Registers a sink with its committed position; one that was never seen begins with the oldest record.
  package func register(sink: String) -> SpoolPosition {
    let saved = StateFile.contents("\(checkpoints)/sink.\(sink)").flatMap {
      SpoolPosition(text: String(decoding: $0, as: UTF8.self))
    }
    return state.withLock { state in
      let position: SpoolPosition
      if let saved, state.segments.contains(where: { $0.id == saved.segment && saved.offset <= $0.size }) {
        position = saved
      } else if let first = state.segments.first {
        position = SpoolPosition(segment: first.id, offset: Self.segmentHeader, sequence: first.first)
      } else {
        // An empty spool: numbers go on behind what was once there.
        position = SpoolPosition(
          segment: (saved?.segment ?? 0) + 1, offset: Self.segmentHeader,
          sequence: max(saved?.sequence ?? 0, state.next))
        state.next = position.sequence
      }
      state.positions[sink] = position
      return position
    }
  }

  /// Nothing is kept for the sink any more. Its checkpoint stays: a sink of that name goes on there if it comes back
  /// while the records are.
  package func unregister(sink: String) {
    state.withLock { state in
      state.positions[sink] = nil
      state.wakers[sink] = nil
      collect(&state)
    }
  }

  /// Calls `waker` after each append, on the appending thread, in place of the sink's former one.
  package func wake(sink: String, _ waker: @escaping @Sendable () -> Void) {
    state.withLock { $0.wakers[sink] = waker }
  }

  /// How far a source was spooled when the spool was opened, nil when unknown.
  package func reached(_ identity: UInt64) -> UInt64? { state.withLock { $0.reached[identity] } }

  /// Completes the batch and appends it. One thread only.
  package func append(_ batch: SpoolBatchBuilder, identity: UInt64, start: UInt64, end: UInt64, time: Int64)
    -> Appended
  {
    let (result, wakers) = state.withLock { state -> (Appended, [@Sendable () -> Void]) in
      batch.finish(sequence: state.next, identity: identity, start: start, end: end, time: time)
      let result = append(batch.arena.bytes, count: batch.count, &state)
      if result == .stored { state.recent[identity] = (end, Clock.monotonic()) }
      return (result, result == .stored ? Array(state.wakers.values) : [])
    }
    for waker in wakers { waker() }
    return result
  }

  private func append(_ bytes: Bytes, count: Int, _ state: inout State) -> Appended {
    if let last = state.segments.last, last.size > last.start,
      last.size + bytes.count > state.segmentLimit || state.bytes + bytes.count > state.configuration.limit
    {
      if let code = startSegment(&state) { return .failed(code) }
    } else if state.segments.isEmpty, let code = startSegment(&state) {
      return .failed(code)
    }
    collect(&state)
    while state.bytes + bytes.count > state.configuration.limit, state.segments.count > 1 {
      switch state.configuration.whenFull {
      case .block: return .full
      case .dropNewest: return .dropped
      case .dropOldest: dropOldest(&state)
      }
    }
    let last = state.segments.count - 1
    let offset = state.segments[last].size
    if let code = store(bytes, at: offset, in: state.descriptor) { return .failed(code) }
    if state.configuration.sync, fdatasync(state.descriptor) != 0 {
      let code = errno
      ftruncate(state.descriptor, off_t(offset))
      return .failed(code)
    }
    state.segments[last].size += bytes.count
    state.bytes += bytes.count
    state.next += UInt64(count)
    return .stored
  }

  /// nil, or errno when the bytes did not all go; what went is cut off again.
  private func store(_ bytes: Bytes, at offset: Int, in descriptor: CInt) -> CInt? {
    var done = 0
    while done < bytes.count {
      let n = write(descriptor, bytes.baseAddress! + done, bytes.count - done, offset + done)
      if n > 0 {
        done += n
      } else if n == 0 || errno != EINTR {
        let code = n == 0 ? ENOSPC : errno
        ftruncate(descriptor, off_t(offset))
        return code
      }
    }
    return nil
  }

  private func startSegment(_ state: inout State) -> CInt? {
    let newest = state.positions.values.map(\.segment).max() ?? 0
    let id = state.segments.last.map { $0.id + 1 } ?? max(newest, 1)
    let file = path + "/" + Self.name(id)
    let fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard fd >= 0 else { return errno }
    var header = (Self.magic.littleEndian, state.next.littleEndian)
    let code = withUnsafeBytes(of: &header) { store($0, at: 0, in: fd) }
    if let code {
      close(fd)
      unlink(file)
      return code
    }
    if state.descriptor >= 0 { close(state.descriptor) }
    state.descriptor = fd
    state.segments.append(Segment(id: id, size: Self.segmentHeader, first: state.next))
    state.bytes += Self.segmentHeader
    return notePositions(&state)
  }

  /// Begins a segment with how far the sources have come, in batches without records: a source writes its checkpoint now
  /// and then, and after a crash the spool, whose older segments may be gone, knows better. nil, or errno.
  private func notePositions(_ state: inout State) -> CInt? {
    let now = Clock.monotonic()
    state.recent = state.recent.filter { now - $0.value.time < Self.memory }
    let builder = SpoolBatchBuilder(source: "", capacity: SpoolBatchHead.size)
    let last = state.segments.count - 1
    for (identity, place) in state.recent {
      builder.reset()
      builder.finish(sequence: state.next, identity: identity, start: place.end, end: place.end, time: Clock.now())
      if let code = store(builder.arena.bytes, at: state.segments[last].size, in: state.descriptor) { return code }
      state.segments[last].size += builder.arena.count
      state.segments[last].start = state.segments[last].size
      state.bytes += builder.arena.count
    }
    return nil
  }

  /// Deletes what every sink has passed; the newest segment stays.
  private func collect(_ state: inout State) {
    while state.segments.count > 1 {
      let oldest = state.segments[0]
      let needed = state.positions.values.contains {
        $0.segment < oldest.id || ($0.segment == oldest.id && $0.offset < oldest.size)
      }
      if needed { return }
      remove(&state)
    }
  }

  private func dropOldest(_ state: inout State) {
    let end = state.segments[1].first
    let slowest = state.positions.values.map(\.sequence).min() ?? end
    if slowest < end { state.lost += end - max(slowest, state.segments[0].first) }
    remove(&state)
  }

  private func remove(_ state: inout State) {
    let segment = state.segments.removeFirst()
    state.bytes -= segment.size
    unlink(path + "/" + Self.name(segment.id))
  }

  /// Keeps a sink's acknowledged position, durable at once, and deletes what is not needed any more.
  package func commit(sink: String, _ position: SpoolPosition) -> Bool {
    guard StateFile.overwrite("\(checkpoints)/sink.\(sink)", position.text) else { return false }
    state.withLock { state in
      state.positions[sink] = position
      collect(&state)
    }
    return true
  }

  enum Place {
    /// Batches stand from the position on, up to this offset.
    case readable(until: Int)
    /// On in the next segment.
    case follow(SpoolPosition)
    /// The place is gone; the oldest one that is there.
    case dropped(SpoolPosition)
    case end
  }

  func place(_ position: SpoolPosition) -> Place {
    state.withLock { state in
      guard let index = state.segments.firstIndex(where: { $0.id == position.segment }) else {
        guard let first = state.segments.first else { return .end }
        return .dropped(SpoolPosition(segment: first.id, offset: Self.segmentHeader, sequence: first.first))
      }
      let size = state.segments[index].size
      if position.offset < size { return .readable(until: size) }
      guard index + 1 < state.segments.count else { return .end }
      let next = state.segments[index + 1]
      return .follow(SpoolPosition(segment: next.id, offset: Self.segmentHeader, sequence: next.first))
    }
  }

  /// Behind damage that no batch follows in its segment: the next segment, or this one's end.
  func behindDamage(_ position: SpoolPosition) -> SpoolPosition {
    state.withLock { state in
      if let next = state.segments.first(where: { $0.id > position.segment }) {
        return SpoolPosition(segment: next.id, offset: Self.segmentHeader, sequence: next.first)
      }
      let size = state.segments.first { $0.id == position.segment }?.size ?? position.offset
      return SpoolPosition(segment: position.segment, offset: size, sequence: state.next)
    }
  }

  /// Bytes on disk.
  package var bytes: Int { state.withLock { $0.bytes } }
  /// Records that `drop_oldest` took from a sink.
  package var lost: UInt64 { state.withLock { $0.lost } }
  /// The number that the next record will have.
  package var end: UInt64 { state.withLock { $0.next } }
  /// Records a sink has yet to acknowledge; with `end`, of those before that number.
  package func lag(sink: String, before end: UInt64 = .max) -> Int {
    state.withLock { state in
      guard let position = state.positions[sink] else { return 0 }
      let end = min(state.next, end)
      return Int(end - min(end, position.sequence))
    }
  }
}
