import CLinux
import Glibc
import Logs

/// One of the app's output pipes. Nothing leaves the pipe before it is safe: the bytes are looked at through tee(2) in a
/// pipe of our own, whole lines are appended to the spool, and only then the same number of bytes is taken out. A
/// process that dies in between leaves the pipe as it was; its successor reads the lines again.
///
/// A line's beginning stays in the pipe until its end arrives. When it grows beyond a quarter of the pipe, or is a second
/// old, it moves to the file `app.STREAM.INODE.partial`.
final class AppStream {
  enum Step { case progressed, idle, blocked, ended }

  let descriptor: CInt
  let stream: LogStream
  /// Changes between two steps, with the configuration.
  var shipper: LineShipper
  private let isPipe: Bool
  private let partialPath: String
  private let copyIn: CInt
  private let copyOut: CInt
  private let void: CInt
  private let window: Int
  private let identity = UInt64.random(in: 1...UInt64.max)
  private var offset: UInt64 = 0
  /// The partial line that has left the pipe, and behind it what was read last.
  private let buffer = ByteArena(capacity: 4096)
  private var partial = 0
  private var waitingSince: Int64 = 0
  /// Bytes that are not spooled yet because more belongs to them: look again soon.
  private(set) var waiting = 0
  private var memory = GroupMemory()

  init?(_ descriptor: CInt, _ stream: LogStream, shipper: LineShipper, directory: String) {
    var info = stat()
    guard fstat(descriptor, &info) == 0 else { return nil }
    self.descriptor = descriptor
    self.stream = stream
    self.shipper = shipper
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    let name = stream == .none ? "fifo" : stream == .stderr ? "stderr" : "stdout"
    partialPath = "\(directory)/app.\(name).\(info.st_ino).partial"
    void = open("/dev/null", O_WRONLY | O_CLOEXEC)
    var ends: [CInt] = [-1, -1]
    var capacity = outrider_pipe_capacity(descriptor)
    if capacity > 0 {
      capacity = max(capacity, outrider_set_pipe_capacity(descriptor, 256 << 10))
      if pipe(&ends) == 0 {
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        _ = outrider_set_pipe_capacity(ends[1], capacity)
      }
    }
    isPipe = capacity > 0 && ends[0] >= 0 && void >= 0
    (copyOut, copyIn) = (ends[0], ends[1])
    window = max(4096, Int(capacity))
    if let saved = StateFile.contents(partialPath) {
      saved.withUnsafeBytes { buffer.append($0) }
      partial = buffer.count
    }
  }

  deinit {
    for fd in [descriptor, copyIn, copyOut, void] where fd >= 0 { close(fd) }
  }

  /// Reads and spools once. `atEnd` treats the last line as whole even though the pipe may have writers.
  func step(atEnd: Bool = false) -> Step {
    isPipe ? stepPipe(atEnd) : stepPlain(atEnd)
  }

  private func stepPipe(_ atEnd: Bool) -> Step {
    var state = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    _ = poll(&state, 1, 0)
    let closed = state.revents & Int16(POLLHUP) != 0
    buffer.truncate(to: partial)
    let copied = outrider_tee(descriptor, copyIn, window)
    if copied < 0 {
      guard errno == EAGAIN || errno == EINTR else { return .ended }
      waiting = 0
      if atEnd, partial > 0 { return finishLine(0, then: .idle) }
      return memory.isHeld && partial > 0 ? shipHeld() : .idle
    }
    if copied == 0 {
      waiting = 0
      return partial > 0 ? finishLine(0, then: .ended) : .ended
    }
    guard fill(copied) else { return .blocked }
    let fresh = buffer.bytes.part(partial..<partial + copied)
    if let last = fresh.lastOffset(of: 0x0A) {
      return shipLines(partial + last + 1, copied, isLast: closed || atEnd)
    }
    if memory.isHeld, let last = buffer.bytes.lastOffset(of: 0x0A) {
      return shipLines(last + 1, copied, isLast: closed || atEnd)
    }
    if partial + copied > shipper.maxRecord { return shipLongLine(copied) }
    if closed || atEnd { return finishLine(copied, then: .progressed) }
    return wait(copied)
  }

  /// Reads exactly `count` bytes of our copy behind the partial line.
  private func fill(_ count: Int) -> Bool {
    let target = buffer.reserve(count)
    var done = 0
    while done < count {
      let n = read(copyOut, target + done, count - done)
      if n > 0 { done += n } else if n < 0, errno == EINTR { continue } else { break }
    }
    buffer.advance(done)
    return done == count
  }

  private func shipLines(_ length: Int, _ copied: Int, isLast: Bool) -> Step {
    let shipped = shipper.ship(
      buffer.bytes.part(0..<length), stream: stream, identity: identity, offset: offset, &memory)
    let safe = shipped.safe
    if safe == 0, !shipped.isBlocked {
      // Lines that wait for more of their kind.
      return isLast ? finishLine(copied, then: .progressed) : wait(copied)
    }
    guard safe > 0 else { return .blocked }
    waitingSince = 0
    if safe <= partial {
      // A part of what had left the pipe went; the rest of it stays in the file.
      guard StateFile.replace(partialPath, buffer.bytes.part(safe..<partial)) else { return .blocked }
      buffer.truncate(to: partial)
      buffer.removeFirst(safe)
      partial -= safe
      offset += UInt64(safe)
      return shipped.isBlocked ? .blocked : .progressed
    }
    if partial > 0 { unlink(partialPath) }
    take(safe - partial)
    offset += UInt64(safe)
    waiting = shipped.isBlocked ? 0 : buffer.count - safe
    forget()
    return shipped.isBlocked ? .blocked : .progressed
  }

  /// Lines of a group that have left the pipe, when nothing new is in it.
  private func shipHeld() -> Step {
    waiting = partial
    guard let last = buffer.bytes.lastOffset(of: 0x0A) else { return .idle }
    let shipped = shipper.ship(
      buffer.bytes.part(0..<last + 1), stream: stream, identity: identity, offset: offset, &memory)
    guard shipped.safe > 0 else { return shipped.isBlocked ? .blocked : .idle }
    if shipped.safe == partial {
      unlink(partialPath)
      forget()
      waiting = 0
    } else {
      guard StateFile.replace(partialPath, buffer.bytes.part(shipped.safe..<partial)) else { return .blocked }
      buffer.truncate(to: partial)
      buffer.removeFirst(shipped.safe)
      partial -= shipped.safe
    }
    offset += UInt64(shipped.safe)
    return .progressed
  }

  private func finishLine(_ copied: Int, then step: Step) -> Step {
    let length = partial + copied
    let shipped = shipper.ship(
      buffer.bytes.part(0..<length), stream: stream, identity: identity, offset: offset, final: true, &memory)
    guard shipped.safe == length else { return .blocked }
    if partial > 0 { unlink(partialPath) }
    take(copied)
    offset += UInt64(length)
    forget()
    waiting = 0
    return step
  }

  private func shipLongLine(_ copied: Int) -> Step {
    let safe = shipper.shipBeginning(of: buffer.bytes, stream: stream, identity: identity, offset: offset)
    guard safe > 0 else { return .blocked }
    guard StateFile.replace(partialPath, buffer.bytes.part(safe..<buffer.count)) else { return .blocked }
    take(copied)
    offset += UInt64(safe)
    buffer.removeFirst(safe)
    partial = buffer.count
    return .progressed
  }

  /// A line's beginning: left in the pipe while it is short and young.
  private func wait(_ copied: Int) -> Step {
    let now = Clock.monotonic()
    waiting = partial + copied
    guard copied > 0 else { return .idle }
    if waitingSince == 0 { waitingSince = now }
    guard copied >= window / 4 || now - waitingSince > 1_000_000_000 else { return .idle }
    let fd = open(partialPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard fd >= 0 else { return .blocked }
    defer { close(fd) }
    guard StateFile.writeAll(fd, buffer.bytes.part(partial..<partial + copied)) else {
      ftruncate(fd, off_t(partial))
      return .blocked
    }
    take(copied)
    partial += copied
    waiting = memory.isHeld ? partial : 0
    waitingSince = 0
    return .progressed
  }

  /// Takes bytes out of the app's pipe that are safe elsewhere.
  private func take(_ count: Int) {
    var left = count
    while left > 0 {
      let n = outrider_splice(descriptor, void, left)
      if n > 0 { left -= n } else if n < 0, errno == EINTR { continue } else { return }
    }
  }

  private func forget() {
    partial = 0
    buffer.removeAll()
    buffer.release(above: 512 << 10)
  }

  /// Without a pipe (a socket, a terminal) there is no looking without taking: bytes wait in memory for the spool.
  private func stepPlain(_ atEnd: Bool) -> Step {
    var ended = false
    if buffer.count < shipper.maxRecord + (256 << 10) {
      let n = read(descriptor, buffer.reserve(64 << 10), 64 << 10)
      if n > 0 { buffer.advance(n) }
      ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)
      if n < 0, !ended, !atEnd, buffer.bytes.firstOffset(of: 0x0A) == nil { return .idle }
    }
    let length = ended || atEnd ? buffer.count : (buffer.bytes.lastOffset(of: 0x0A) ?? -1) + 1
    if length > 0 {
      let shipped = shipper.ship(
        buffer.bytes.part(0..<length), stream: stream, identity: identity, offset: offset, final: ended || atEnd,
        &memory
      )
      offset += UInt64(shipped.safe)
      buffer.removeFirst(shipped.safe)
      waiting = memory.isHeld ? 1 : 0
      if shipped.isBlocked { return .blocked }
      if shipped.safe == 0 { return ended ? .ended : .idle }
    } else if buffer.count > shipper.maxRecord {
      let safe = shipper.shipBeginning(of: buffer.bytes, stream: stream, identity: identity, offset: offset)
      guard safe > 0 else { return .blocked }
      offset += UInt64(safe)
      buffer.removeFirst(safe)
    }
    return ended ? .ended : atEnd && length == 0 ? .idle : .progressed
  }
}
