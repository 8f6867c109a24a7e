import Glibc
import Logs

/// One connection of somebody who sends records.
final class ForwardingConnection {
  enum Step {
    case more, idle, blocked, ended
    /// What came is not in the source's format.
    case broken(String)
  }

  let descriptor: CInt
  private let format: LogSourceConfiguration.ListenFormat
  let buffer = ByteArena(capacity: 4096)
  private(set) var memory = GroupMemory()
  /// More can be read, as far as is known.
  var isReady = true
  private let identity = UInt64.random(in: 1...UInt64.max)
  private var offset: UInt64 = 0
  private var framing = FrameReader()
  private var isAtEnd = false
  private var isBlocked = false
  private var out: [UInt8] = []
  private let events = ByteArena(capacity: 64)

  init(_ descriptor: CInt, _ format: LogSourceConfiguration.ListenFormat) {
    self.descriptor = descriptor
    self.format = format
  }

  /// Something is to be done without new bytes.
  var isPending: Bool { isBlocked || isAtEnd || memory.isHeld || !out.isEmpty }

  /// Reads and spools once; `isCrowded`: too much memory is used, so what is unfinished must go.
  func step(_ shipper: LineShipper, isCrowded: Bool) -> Step {
    guard flushAnswers() else { return .ended }
    let room = format == .forward ? ForwardMessage.longest + (1 << 20) : shipper.maxRecord + (64 << 10)
    var isMore = false
    if !isBlocked, !isAtEnd, isReady, buffer.count < room {
      let n = recv(descriptor, buffer.reserve(64 << 10), 64 << 10, 0)
      if n > 0 {
        buffer.advance(n)
        isMore = true
      } else if n == 0 {
        isAtEnd = true
      } else if errno == EAGAIN {
        isReady = false
      } else if errno != EINTR {
        isAtEnd = true
      }
    }
    isBlocked = false
    let step: Step
    switch format {
    case .lines: step = lines(shipper, final: isAtEnd, isCrowded)
    case .syslog: step = messages(shipper, final: isAtEnd || isCrowded)
    default: step = forwarded(shipper, isCrowded)
    }
    switch step {
    case .blocked:
      isBlocked = true
      return .blocked
    case .broken: return step
    default:
      if isAtEnd, out.isEmpty { return .ended }
      return isMore ? .more : .idle
    }
  }

  /// Spools what is left, whole or not.
  func finish(_ shipper: LineShipper) {
    switch format {
    case .lines: _ = lines(shipper, final: true, false)
    case .syslog: _ = messages(shipper, final: true)
    default: _ = forwarded(shipper, false)
    }
    _ = flushAnswers()
  }

  private func passed(_ shipped: Shipped) -> Step {
    offset += UInt64(shipped.safe)
    buffer.removeFirst(shipped.safe)
    if buffer.count == 0 { buffer.release(above: 64 << 10) }
    return shipped.isBlocked ? .blocked : .idle
  }

  private func lines(_ shipper: LineShipper, final: Bool, _ isCrowded: Bool) -> Step {
    let length = final ? buffer.count : (buffer.bytes.lastOffset(of: 0x0A) ?? -1) + 1
    if length > 0 {
      return passed(
        shipper.ship(
          buffer.bytes.part(0..<length), stream: .none, identity: identity, offset: offset, final: final || isCrowded,
          &memory))
    }
    guard buffer.count > shipper.maxRecord || (isCrowded && buffer.count > 4096) else { return .idle }
    let safe = shipper.shipBeginning(of: buffer.bytes, stream: .none, identity: identity, offset: offset)
    return passed(Shipped(safe: safe, isBlocked: safe == 0))
  }

  private func messages(_ shipper: LineShipper, final: Bool) -> Step {
    var frames: [LineShipper.Frame] = []
    var reader = framing
    var after = framing
    var at = 0
    var isBroken = false
    loop: while true {
      switch reader.next(buffer.bytes, from: at, limit: shipper.maxRecord, final: final) {
      case .frame(let text, let end, let isPart):
        at = end
        after = reader
        if !text.isEmpty { frames.append(LineShipper.Frame(text: text, end: end, isPart: isPart)) }
      case .more: break loop
      case .broken:
        isBroken = true
        break loop
      }
    }
    if at > 0 {
      let shipped = shipper.ship(frames, of: buffer.bytes, identity: identity, offset: offset)
      // A position between two parts of a counted message needs the count as well: all or nothing then.
      let isAll = !shipped.isBlocked
      if isAll { framing = after } else { replay(to: shipped.safe, shipper.maxRecord, final) }
      let step = passed(Shipped(safe: isAll ? at : shipped.safe, isBlocked: shipped.isBlocked))
      if !isAll { return step }
    }
    return isBroken ? .broken("a frame begins with neither `<` nor an octet count") : .idle
  }

  /// Goes over the frames again that the spool took, so that the reader stands behind them.
  private func replay(to safe: Int, _ limit: Int, _ final: Bool) {
    var at = 0
    while at < safe, case .frame(_, let end, _) = framing.next(buffer.bytes, from: at, limit: limit, final: final) {
      at = end
    }
  }

  private func forwarded(_ shipper: LineShipper, _ isCrowded: Bool) -> Step {
    while buffer.count > 0 {
      events.removeAll()
      switch ForwardMessage.read(buffer.bytes, from: 0, into: events) {
      case .incomplete:
        events.release(above: 64 << 10)
        return isCrowded ? .broken("the messages of all connections take more than 64 MiB") : .idle
      case .invalid: return .broken("a message is not of the Fluent forward protocol, or longer than 16 MiB")
      case .message(let found, let chunk, let end):
        let frames = found.map { LineShipper.Frame(text: $0.range, end: $0.range.upperBound, time: $0.time) }
        // All of a message or nothing: its sender sends it again as a whole. Positions count events' octets.
        let shipped = shipper.ship(frames, of: events.bytes, identity: identity, offset: offset)
        if shipped.isBlocked {
          // What went already comes again with the message, under the same positions.
          return .blocked
        }
        offset += UInt64(events.count)
        buffer.removeFirst(end)
        if let chunk { out += ForwardMessage.acknowledgement(chunk) }
        guard flushAnswers() else { return .idle }
      }
    }
    buffer.release(above: 64 << 10)
    return .idle
  }

  /// False when the other side takes no answers any more.
  private func flushAnswers() -> Bool {
    while !out.isEmpty {
      let n = out.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
      if n > 0 {
        out.removeFirst(n)
      } else if errno == EAGAIN {
        // A sender that does not read its answers.
        return out.count < 1 << 20
      } else if errno != EINTR {
        return false
      }
    }
    return true
  }
}
