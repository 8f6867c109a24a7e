import Glibc
import Logging
import Logs

/// A named pipe that programs write lines into. It is held open for writing as well, so that it has no end when one of
/// them goes. Owned by the source thread.
final class FifoSource {
  let name: String
  let path: String
  /// Changes between two rounds, with the configuration.
  var shipper: LineShipper {
    didSet { stream?.shipper = shipper }
  }
  private let context: IntakeContext
  private let directory: String
  private var stream: AppStream?
  private var triedAt: Int64 = .min
  private var toldAt: Int64 = .min

  init(name: String, path: String, shipper: LineShipper, context: IntakeContext, directory: String) {
    self.name = name
    self.path = path
    self.shipper = shipper
    self.context = context
    self.directory = directory
  }

  var isWaiting: Bool { (stream?.waiting ?? 0) > 0 }

  /// Opens the pipe when it is not open; returns the descriptor to watch.
  func open() -> CInt? {
    guard stream == nil else { return nil }
    let now = Clock.monotonic()
    guard triedAt == .min || now - triedAt > 1_000_000_000 else { return nil }
    triedAt = now
    var info = stat()
    if stat(path, &info) != 0, errno == ENOENT { mkfifo(path, 0o622) }
    let descriptor = Glibc.open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
    var code = errno
    if descriptor >= 0 {
      if fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFIFO {
        stream = AppStream(descriptor, .none, shipper: shipper, directory: directory)
        if stream != nil { return descriptor }
      }
      code = EINVAL
      close(descriptor)
    }
    if toldAt == .min || now - toldAt > 60_000_000_000 {
      toldAt = now
      context.logger.error(
        "source '\(name)' cannot read the named pipe '\(path)': \(String(cString: strerror(code))); it tries again; check the path and its permissions"
      )
    }
    return nil
  }

  func step() -> AppStream.Step {
    guard let stream else { return .idle }
    let step = stream.step()
    if case .ended = step { self.stream = nil }
    return step
  }
}
