import Glibc
import Logs

/// One sink's way through the spool. Owned by one thread or task.
final class SpoolReader {
  /// As much is read of a batch to see whether the sink takes it: its head and the source's name.
  private static let glance = SpoolBatchHead.size + 256

  private let spool: Spool
  private let filter: ConditionMatcher?
  private let sources: Set<String>
  private var arena = ByteArena(capacity: 64)
  private var spare: [ByteArena] = []
  private var descriptor: CInt = -1
  private var segment: UInt64 = 0
  private(set) var position: SpoolPosition
  private var damaged: UInt64 = 0

  /// Batches come without the records that `route` does not match, and empty when their source is not among `sources`;
  /// an empty set takes all.
  init(_ spool: Spool, from position: SpoolPosition, route: LogCondition?, sources: Set<String>) {
    self.spool = spool
    self.position = position
    self.sources = sources
    filter = route.map { ConditionMatcher($0) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Records that damage took since the last call.
  func takeDamaged() -> UInt64 {
    defer { damaged = 0 }
    return damaged
  }

  /// The memory of the last batch, which the reader touches no more: the batch stays valid with it.
  func takeMemory() -> ByteArena {
    defer { arena = spare.popLast() ?? ByteArena(capacity: 64) }
    return arena
  }

  /// Memory to read the next batches into.
  func giveBack(_ arenas: [ByteArena]) { spare += arenas.prefix(max(0, 32 - spare.count)) }

  /// Lets go of memory that is not used, while there is nothing to read.
  func rest() { spare = [] }

  /// The next batch, valid until the next call, and moves behind it; nil at the end.
  func next() -> SpoolBatchView? {
    while true {
      switch spool.place(position) {
      case .end: return nil
      case .dropped(let place): position = place
      case .follow(let place): pass(to: place)
      case .readable(let end):
        if open() {
          if let view = glance(until: end) ?? read() { return view }
          if let next = Spool.nextBatch(descriptor, from: position.offset + 1, to: end, arena) {
            // What is missing is known when the batch behind the damage is read.
            if case .readable = spool.place(position) { position.offset = next }
            continue
          }
        }
        // Dropped meanwhile, or damaged on disk.
        if case .readable = spool.place(position) { pass(to: spool.behindDamage(position)) }
      }
    }
  }

  private func pass(to place: SpoolPosition) {
    damaged += place.sequence - min(place.sequence, position.sequence)
    position = place
  }

  /// Passes a batch that the sink does not take without reading it.
  private func glance(until end: Int) -> SpoolBatchView? {
    guard !sources.isEmpty else { return nil }
    arena.prepare(Self.glance)
    arena.advance(max(0, pread(descriptor, arena.base, Self.glance, off_t(position.offset))))
    guard let head = SpoolBatchHead(arena.bytes), head.sequence == position.sequence,
      SpoolBatchHead.size + head.nameLength <= arena.count, position.offset + SpoolBatchHead.size + head.payload <= end,
      !sources.contains(arena.bytes.part(SpoolBatchHead.size..<SpoolBatchHead.size + head.nameLength).text)
    else { return nil }
    arena.truncate(to: SpoolBatchHead.size + head.nameLength)
    position.offset += SpoolBatchHead.size + head.payload
    position.sequence += UInt64(head.count)
    return SpoolBatchView(head: head, begin: arena.bytes)
  }

  private func read() -> SpoolBatchView? {
    guard Spool.readBatch(descriptor, position.offset, into: arena), SpoolBatchHead.isIntact(arena.bytes),
      var view = SpoolBatchView(arena.bytes)
    else { return nil }
    damaged += view.head.sequence - min(view.head.sequence, position.sequence)
    position.offset += arena.count
    position.sequence = view.head.sequence + UInt64(view.head.count)
    view.filter = filter
    // Behind damage, a batch was not looked at before.
    if !sources.isEmpty, !sources.contains(view.source.text) {
      return SpoolBatchView(
        head: view.head, begin: arena.bytes.part(0..<SpoolBatchHead.size + view.head.nameLength))
    }
    return view
  }

  private func open() -> Bool {
    if descriptor >= 0, segment == position.segment { return true }
    if descriptor >= 0 { close(descriptor) }
    segment = position.segment
    descriptor = Glibc.open(spool.path + "/" + Spool.name(segment), O_RDONLY | O_CLOEXEC)
    return descriptor >= 0
  }
}
