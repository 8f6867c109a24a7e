import CLinux
import Glibc
import Synchronization
import Threads

/// The worker's end of the channel to the supervisor.
///
/// Reading takes one thread of its own, which blocks in the kernel; sending blocks for the moment that the supervisor
/// needs to take the frame.
package final class SupervisorLink: Sendable {
  private let descriptor: CInt
  private let sending = Mutex<Void>(())

  /// Takes over the channel's descriptor (3 in a worker that the supervisor started) and keeps it from the children.
  package init(descriptor: CInt) {
    self.descriptor = descriptor
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
  }

  /// Sends a frame. When the supervisor is gone nothing is sent; `frames()` ends then.
  package func send(_ frame: WorkerFrame, descriptors: [CInt] = []) {
    let (kind, payload) = frame.encoded
    let bytes = FrameAssembler.bytes(kind: kind, payload: payload, descriptorCount: descriptors.count)
    sending.withLock { _ in
      var sent = 0
      while sent < bytes.count {
        let attached = sent == 0 ? descriptors : []
        let count = bytes[sent...].withUnsafeBytes {
          outrider_send(descriptor, $0.baseAddress, $0.count, attached, attached.count)
        }
        guard count > 0 else { return }
        sent += count
      }
    }
  }

  /// Ends `frames()`, so that this worker exits and another one takes its place.
  package func leave() { shutdown(descriptor, CInt(SHUT_RD)) }

  /// The supervisor's frames with their descriptors (close-on-exec), which the taker owns. To be called once.
  /// The stream ends when the supervisor is gone or breaks the format: the worker must exit then.
  package func frames() -> AsyncStream<(SupervisorFrame, [CInt])> {
    AsyncStream { continuation in
      let reader = LinkReader(descriptor: descriptor) { continuation.yield(($0, $1)) }
      let started = WorkThread.start {
        reader.run()
        continuation.finish()
      }
      if !started { continuation.finish() }
    }
  }
}

/// Reads the channel, on a thread of its own.
private final class LinkReader: Sendable {
  private let descriptor: CInt
  private let take: @Sendable (SupervisorFrame, [CInt]) -> Void

  init(descriptor: CInt, take: @escaping @Sendable (SupervisorFrame, [CInt]) -> Void) {
    self.descriptor = descriptor
    self.take = take
  }

  func run() {
    var assembler = FrameAssembler()
    var channel = FrameSource(descriptor: descriptor)
    while channel.read(into: &assembler) == .some {
      do throws(FrameError) {
        while let frame = try assembler.next() {
          take(try SupervisorFrame(kind: frame.kind, payload: frame.payload), frame.descriptors)
        }
      } catch {
        return
      }
    }
  }
}
