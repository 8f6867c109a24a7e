import CLinux
import Glibc

/// The supervisor's end of the channel to one worker: never blocks.
struct WorkerChannel {
  /// A worker that leaves so many bytes unread is broken.
  static let limit = 16 << 20

  let descriptor: CInt
  private var source: FrameSource
  private var assembler = FrameAssembler()
  private var outgoing: [(bytes: ArraySlice<UInt8>, descriptors: [CInt])] = []
  private var outgoingSize = 0

  init(descriptor: CInt) {
    self.descriptor = descriptor
    source = FrameSource(descriptor: descriptor)
  }

  /// True while bytes wait for the socket to take them.
  var wantsToWrite: Bool { !outgoing.isEmpty }

  /// No frame is half way.
  var isIdle: Bool { outgoing.isEmpty && assembler.isEmpty }

  /// Takes the frame; false when the worker does not read. `descriptors` stay the caller's: a frame holds copies.
  /// To a worker that is gone nothing is sent; its last words are still to be read.
  mutating func send(_ frame: SupervisorFrame, _ descriptors: [CInt]) -> Bool {
    let (kind, payload) = frame.encoded
    let bytes = FrameAssembler.bytes(kind: kind, payload: payload, descriptorCount: descriptors.count)
    // Mostly it goes at once, and needs no copies.
    var sent = 0
    if outgoing.isEmpty {
      sent = bytes.withUnsafeBytes {
        outrider_send(descriptor, $0.baseAddress, $0.count, descriptors, descriptors.count)
      }
      if sent == bytes.count || sent < 0 && errno != EAGAIN { return true }
    }
    let copies = sent > 0 ? [] : descriptors.map { fcntl($0, F_DUPFD_CLOEXEC, 3) }
    if copies.contains(-1) {
      for copy in copies where copy >= 0 { close(copy) }
      return false
    }
    outgoing.append((bytes.dropFirst(max(0, sent)), copies))
    outgoingSize += bytes.count - max(0, sent)
    write()
    return outgoingSize <= Self.limit
  }

  /// Writes what the socket takes.
  mutating func write() {
    while let first = outgoing.first {
      let count = first.bytes.withUnsafeBytes {
        outrider_send(descriptor, $0.baseAddress, $0.count, first.descriptors, first.descriptors.count)
      }
      if count < 0 {
        if errno != EAGAIN { dropOutgoing() }
        return
      }
      for copy in first.descriptors { close(copy) }
      outgoingSize -= count
      outgoing[0] = (first.bytes.dropFirst(count), [])
      if outgoing[0].bytes.isEmpty { outgoing.removeFirst() }
    }
  }

  /// All frames that have arrived with their descriptors, which become the caller's, and whether the channel has ended.
  mutating func read() throws(FrameError) -> (frames: [(WorkerFrame, [CInt])], ended: Bool) {
    var frames: [(WorkerFrame, [CInt])] = []
    while true {
      let result = source.read(into: &assembler)
      while let frame = try assembler.next() {
        do throws(FrameError) {
          frames.append((try WorkerFrame(kind: frame.kind, payload: frame.payload), frame.descriptors))
        } catch {
          for descriptor in frame.descriptors + frames.flatMap(\.1) { Glibc.close(descriptor) }
          throw error
        }
      }
      if result != .some { return (frames, result == .ended) }
    }
  }

  private mutating func dropOutgoing() {
    for frame in outgoing { for copy in frame.descriptors { close(copy) } }
    outgoing = []
    outgoingSize = 0
  }

  mutating func shut() {
    dropOutgoing()
    for descriptor in assembler.descriptors { close(descriptor) }
    close(descriptor)
  }
}
