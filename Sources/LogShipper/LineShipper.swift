import Glibc
import Logging
import Logs
import NIOCore
import Synchronization
import Telemetry
import Vocabulary

/// What all sources share: the spool, the secrets to redact, and a voice that does not repeat itself.
final class IntakeContext: Sendable {
  let spool: Spool
  let redactor = Mutex<Redactor?>(nil)
  let logger: Logger
  /// For connections in TLS.
  let group: any EventLoopGroup
  private let secrets: LogPipeline.SecretResolver
  private let complained = Mutex<Int64>(.min)
  private let drops = Mutex(Drops())

  private struct Drops {
    var newest: UInt64 = 0
    /// Of the newest and the oldest together, how many a line has told of.
    var told: UInt64 = 0
    var last: Int64 = .min
  }

  init(spool: Spool, logger: Logger, group: any EventLoopGroup, secrets: @escaping LogPipeline.SecretResolver) {
    self.spool = spool
    self.logger = logger
    self.group = group
    self.secrets = secrets
  }

  func tls(_ source: String, _ configuration: LogListenerTLS) -> ListenTLS {
    ListenTLS(source, configuration, secrets: secrets, logger: logger)
  }

  /// Says that the spool cannot take records, once per minute.
  func complain(_ result: Spool.Appended) {
    let now = Clock.monotonic()
    let due = complained.withLock { last in
      guard last == .min || now - last > 60_000_000_000 else { return false }
      last = now
      return true
    }
    guard due else { return }
    switch result {
    case .full:
      logger.warning(
        "the log spool '\(spool.path)' is full: sources wait; see why a sink is behind in `outrider status`, or raise logs.spool.limit"
      )
    case .failed(let code):
      logger.error(
        "cannot write the log spool '\(spool.path)': \(String(cString: strerror(code))); sources wait, nothing is lost; free space or set logs.spool.path"
      )
    case .stored, .dropped: break
    }
  }

  /// Says that a full spool drops records, once per minute; `newest` were dropped just now instead of stored.
  func countDrops(newest: Int = 0) {
    let now = Clock.monotonic()
    let oldest = spool.lost
    let fresh = drops.withLock { drops -> UInt64 in
      drops.newest += UInt64(newest)
      let fresh = drops.newest + oldest - drops.told
      guard fresh > 0, drops.last == .min || now - drops.last > 60_000_000_000 else { return 0 }
      drops.told += fresh
      drops.last = now
      return fresh
    }
    guard fresh > 0 else { return }
    let which = newest > 0 ? "newest" : "oldest"
    logger.warning(
      "the log spool '\(spool.path)' is full: dropped the \(which) records, \(fresh) since the last such line; see why a sink is behind in `outrider status`, raise logs.spool.limit, or set logs.spool.when_full to block"
    )
  }
}

/// How far the spool took what a source showed it.
struct Shipped {
  /// Bytes from the start of what was shown that are safe.
  var safe: Int
  /// The spool cannot take more now.
  var isBlocked: Bool
}

/// Makes records of a source's lines and puts them in the spool. Owned by the source thread.
final class LineShipper {
  static let batchLimit = 512 << 10
  let maxRecord: Int
  private let context: IntakeContext
  private let encoder: RecordEncoder
  private let builder: SpoolBatchBuilder
  private let records: Counter
  private let bytes: Counter
  private let overflow: Counter
  private let filtered: Counter
  private let split: Counter
  private let foreign: Counter
  private let joined: Counter
  private let groups: LineGroups?
  private let pattern: PatternReader?
  private let zone: TimestampFormat.Zone
  private let isSyslog: Bool
  private let fields = ByteArena()
  /// Of the batch that is filled now.
  private var pendingJoined: UInt64 = 0
  private var pendingForeign: UInt64 = 0

  init(
    _ source: LogSourceConfiguration, _ transforms: [LogTransform], _ context: IntakeContext, _ metrics: MetricRegistry
  ) {
    self.context = context
    maxRecord = max(1024, source.maxRecord)
    let isPlain = [.auto, .json, .logfmt, .none].contains(source.parser) && source.pattern == nil
    encoder = RecordEncoder(
      source: source.name, parser: isPlain ? source.parser : .auto, transforms: transforms, timestamp: source.timestamp,
      metrics: metrics)
    groups = LineGroups(
      envelope: source.parser == .cri ? .cri : source.parser == .docker ? .docker : .none, multiline: source.multiline,
      limit: maxRecord)
    pattern = source.pattern.map { PatternReader($0) }
    isSyslog = source.parser == .syslog && source.pattern == nil
    zone = source.zone
    builder = SpoolBatchBuilder(source: source.name)
    let label = Label("source", source.name)
    records = metrics.counter("outrider_log_records_total", "Records put in the spool.", [label])
    bytes = metrics.counter("outrider_log_bytes_total", "Bytes read from the source and put in the spool.", [label])
    let dropped = "outrider_log_dropped_total"
    let help = "Records dropped, by reason."
    overflow = metrics.counter(dropped, help, [label, Label("reason", "spool_full")])
    filtered = metrics.counter(dropped, help, [label, Label("reason", "transform")])
    split = metrics.counter("outrider_log_split_total", "Parts of lines above max_record.", [label])
    foreign = metrics.counter(
      "outrider_log_unparsed_total", "Lines that did not have the form that `parse` names; kept as text.", [label])
    joined = metrics.counter("outrider_log_joined_total", "Records made of several lines.", [label])
  }

  /// Spools whole lines: `region` ends in LF, or at the end of the source's last line when `final`. `memory` is the
  /// stream's own. What is not safe must be shown again: the spool could not take it, or lines wait for others that
  /// belong to them.
  func ship(
    _ region: Bytes, stream: LogStream, identity: UInt64, offset: UInt64, final: Bool = false,
    _ memory: inout GroupMemory
  ) -> Shipped {
    if let groups { return ship(region, groups, stream, identity, offset, final, &memory) }
    let safe = shipLines(region, stream, identity, offset)
    return Shipped(safe: safe, isBlocked: safe < region.count)
  }

  private func shipLines(_ region: Bytes, _ stream: LogStream, _ identity: UInt64, _ offset: UInt64) -> Int {
    let redactor = context.redactor.withLock { $0 }
    let arrival = Clock.now()
    var safe = 0
    var at = 0
    builder.reset()
    while at < region.count {
      let end = region.firstOffset(of: 0x0A, from: at) ?? region.count
      if end - at > maxRecord {
        let cut = at + self.cut(region.part(at..<end), redactor)
        add(region.part(at..<cut), at - safe, stream, arrival, truncated: true, redactor)
        at = cut
      } else {
        add(region.part(at..<end), at - safe, stream, arrival, truncated: false, redactor)
        at = min(end + 1, region.count)
      }
      if builder.arena.count >= Self.batchLimit {
        guard flush(identity, offset, safe, at, arrival) else { return safe }
        safe = at
      }
    }
    guard safe < at else { return safe }
    return flush(identity, offset, safe, at, arrival) ? at : safe
  }

  /// The same for lines that a runtime wrapped, or that are joined.
  private func ship(
    _ region: Bytes, _ groups: LineGroups, _ stream: LogStream, _ identity: UInt64, _ offset: UInt64, _ final: Bool,
    _ memory: inout GroupMemory
  ) -> Shipped {
    let redactor = context.redactor.withLock { $0 }
    let arrival = Clock.now()
    groups.scan(region, at: offset, now: Clock.monotonic(), final: final, &memory)
    var safe = 0
    var isBlocked = false
    builder.reset()
    for index in groups.groups.indices where groups.groups[index].isWhole {
      let group = groups.groups[index]
      let text = groups.text(index, of: region)
      if text.firstOffset(of: 0x0A) != nil { pendingJoined += 1 }
      if group.isForeign { pendingForeign += 1 }
      addGroup(text, group, group.start - safe, group.stream ?? stream, arrival, redactor)
      groups.ship(index)
      if builder.arena.count >= Self.batchLimit {
        let reach = groups.reach(region.count)
        guard flush(identity, offset, safe, reach, arrival) else {
          isBlocked = true
          break
        }
        groups.store()
        safe = reach
      }
    }
    if !isBlocked {
      let reach = groups.reach(region.count)
      if flush(identity, offset, safe, reach, arrival) {
        groups.store()
        safe = reach
      } else {
        isBlocked = true
      }
    }
    groups.finish(safe, at: offset, &memory)
    return Shipped(safe: safe, isBlocked: isBlocked)
  }

  /// A record of its own, whatever it holds.
  struct Frame {
    var text: Range<Int>
    /// Behind it in the source.
    var end: Int
    /// The rest of it is in the next one.
    var isPart = false
    /// That came with it, nanoseconds since 1970.
    var time: Int64?

    func moved(by count: Int) -> Frame {
      Frame(
        text: text.lowerBound - count..<text.upperBound - count, end: end - count, isPart: isPart, time: time)
    }
  }

  /// Spools records that stand in `region`, in order.
  func ship(_ frames: [Frame], of region: Bytes, identity: UInt64, offset: UInt64) -> Shipped {
    let redactor = context.redactor.withLock { $0 }
    let arrival = Clock.now()
    var safe = 0
    var at = 0
    builder.reset()
    for frame in frames {
      var start = frame.text.lowerBound
      while frame.text.upperBound - start > maxRecord {
        let length = cut(region.part(start..<frame.text.upperBound), redactor)
        add(
          region.part(start..<start + length), start - safe, .none, arrival, truncated: true, redactor, time: frame.time
        )
        start += length
      }
      add(
        region.part(start..<frame.text.upperBound), start - safe, .none, arrival, truncated: frame.isPart, redactor,
        time: frame.time)
      at = frame.end
      if builder.arena.count >= Self.batchLimit {
        guard flush(identity, offset, safe, at, arrival) else { return Shipped(safe: safe, isBlocked: true) }
        safe = at
      }
    }
    guard flush(identity, offset, safe, at, arrival) else { return Shipped(safe: safe, isBlocked: true) }
    return Shipped(safe: at, isBlocked: false)
  }

  private func addGroup(
    _ text: Bytes, _ group: LineGroups.Group, _ delta: Int, _ stream: LogStream, _ arrival: Int64, _ redactor: Redactor?
  ) {
    var at = 0
    while text.count - at > maxRecord {
      let length = cut(text.part(at..<text.count), redactor)
      add(text.part(at..<at + length), delta + at, stream, arrival, truncated: true, redactor, time: group.time)
      at += length
    }
    add(
      text.part(at..<text.count), delta + at, stream, arrival, truncated: group.isCut, redactor, time: group.time)
  }

  /// Spools the beginning of a line that is longer than `maxRecord`; returns the length that is safe, 0 when none.
  func shipBeginning(of line: Bytes, stream: LogStream, identity: UInt64, offset: UInt64) -> Int {
    let redactor = context.redactor.withLock { $0 }
    let arrival = Clock.now()
    builder.reset()
    let length = cut(line, redactor)
    add(line.part(0..<length), 0, stream, arrival, truncated: true, redactor)
    return flush(identity, offset, 0, length, arrival) ? length : 0
  }

  /// Where to part a long line: at most `maxRecord` bytes, not within a character nor a secret.
  private func cut(_ line: Bytes, _ redactor: Redactor?) -> Int {
    var cut = UTF8Text.boundary(line, before: min(maxRecord, line.count))
    if let redactor { cut = redactor.safeCut(line.part(0..<min(line.count, cut + redactor.longest)), at: cut) }
    return max(1, cut)
  }

  private func add(
    _ line: Bytes, _ delta: Int, _ stream: LogStream, _ arrival: Int64, truncated: Bool, _ redactor: Redactor?,
    time: Int64? = nil
  ) {
    if truncated { split.add() }
    let (line, time) = truncated ? (line, time) : read(line, arrival, time)
    let kept = builder.add(delta: delta) {
      encoder.encode(
        line, stream: stream, arrival: arrival, truncated: truncated, time: time, redactor: redactor, into: $0)
    }
    if !kept { filtered.add() }
  }

  /// What the encoder is shown in the line's place, valid until the next call, and the time that is known.
  private func read(_ line: Bytes, _ arrival: Int64, _ time: Int64?) -> (Bytes, Int64?) {
    if pattern == nil, !isSyslog, groups == nil { return (line, time) }
    fields.removeAll()
    fields.release(above: 2 << 20)
    if let pattern {
      if pattern.write(line, into: fields) { return (fields.bytes, time) }
      fields.removeAll()
      pendingForeign += 1
    } else if isSyslog {
      let text = line.last == 0x0D ? line.part(0..<line.count - 1) : line
      if let found = SyslogMessage.write(text, arrival: arrival, zone: zone, into: fields) {
        return (fields.bytes, found.time ?? time)
      }
      fields.removeAll()
      pendingForeign += 1
    } else if line.first == 0x7B, line.firstOffset(of: 0x0A) != nil, JSONScanner.isValid(line) {
      // JSON over several lines: outside of strings a line's end is only space.
      for byte in line { fields.append(byte == 0x0A || byte == 0x0D ? 0x20 : byte) }
      return (fields.bytes, time)
    }
    return (line, time)
  }

  private func flush(_ identity: UInt64, _ offset: UInt64, _ start: Int, _ end: Int, _ time: Int64) -> Bool {
    defer {
      builder.reset()
      (pendingJoined, pendingForeign) = (0, 0)
    }
    if builder.isEmpty {
      encoder.commit()
      return true
    }
    let result = context.spool.append(
      builder, identity: identity, start: offset + UInt64(start), end: offset + UInt64(end), time: time)
    switch result {
    case .stored, .dropped: encoder.commit()
    case .full, .failed: encoder.rollBack()
    }
    switch result {
    case .stored:
      records.add(UInt64(builder.count))
      bytes.add(UInt64(end - start))
      joined.add(pendingJoined)
      foreign.add(pendingForeign)
      context.countDrops()
      return true
    case .dropped:
      overflow.add(UInt64(builder.count))
      context.countDrops(newest: builder.count)
      return true
    case .full, .failed:
      context.complain(result)
      return false
    }
  }
}
