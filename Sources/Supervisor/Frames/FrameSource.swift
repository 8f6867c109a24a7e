import CLinux
import Glibc

/// Reads what a channel has into an assembler.
struct FrameSource {
  enum Result { case some, nothingNow, ended }

  let descriptor: CInt
  private var buffer = [UInt8](repeating: 0, count: 16 << 10)
  private var received = [CInt](repeating: -1, count: Int(OUTRIDER_MAX_DESCRIPTORS))

  init(descriptor: CInt) { self.descriptor = descriptor }

  /// One read; waits only when the descriptor is blocking.
  mutating func read(into assembler: inout FrameAssembler) -> Result {
    var count = 0
    let length = buffer.withUnsafeMutableBytes { bytes in
      outrider_receive(descriptor, bytes.baseAddress, bytes.count, &received, &count)
    }
    guard length > 0 else { return length < 0 && errno == EAGAIN ? .nothingNow : .ended }
    assembler.append(buffer[..<length], descriptors: Array(received[..<count]))
    return .some
  }
}
