import CLinux
import Glibc
import Vocabulary

/// systemd's side of a run: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3) and the descriptor store, each by
/// its documented protocol. Without systemd everything here does nothing.
struct ServiceManager {
  /// The first descriptor that systemd hands over (`SD_LISTEN_FDS_START`).
  static let firstDescriptor: CInt = 3
  /// More than any unit has.
  static let mostDescriptors = 1024
  /// What we stored ourselves is told from a socket unit's by its name.
  static let namePrefix = "outrider-"

  /// Connected to `NOTIFY_SOCKET`; -1 = nobody listens.
  private let socket: CInt
  /// How often the manager wants to hear from us: a third of `WATCHDOG_USEC`. nil = never.
  private let beat: Duration?
  private var nextBeat = Duration.zero
  private let keepsDescriptors: Bool
  /// What was handed over by a socket unit or from the descriptor store.
  private(set) var handedOver: [HandedOverSockets.Socket] = []

  /// Reads what systemd set, and forgets the part that is meant for this very process image.
  init(environment: (String) -> String? = { name in getenv(name).map { String(cString: $0) } }) {
    socket = environment("NOTIFY_SOCKET").map(Self.connect) ?? -1
    let isMine = environment("WATCHDOG_PID").map { $0 == String(getpid()) } ?? true
    let microseconds = isMine ? environment("WATCHDOG_USEC").flatMap(Int64.init) ?? 0 : 0
    beat = microseconds > 0 && socket >= 0 ? .microseconds(max(microseconds / 3, 1000)) : nil
    keepsDescriptors = socket >= 0 && (environment("FDSTORE").flatMap(Int.init) ?? 0) > 0
    if environment("LISTEN_PID") == String(getpid()), let text = environment("LISTEN_FDS"), let count = Int(text),
      (1...Self.mostDescriptors).contains(count)
    {
      let names = environment("LISTEN_FDNAMES").map { $0.split(separator: ":", omittingEmptySubsequences: false) } ?? []
      handedOver = (0..<count).map { index in
        let descriptor = Self.firstDescriptor + CInt(index)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        return .init(
          descriptor: descriptor, isStored: index < names.count && names[index].hasPrefix(Self.namePrefix))
      }
    }
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { unsetenv(name) }
  }

  // MARK: Telling

  /// The state of the run, for `systemctl status`; the first `ready` ends the unit's start.
  func tell(_ state: LifecycleState) {
    switch state {
    case .ready, .degraded: send("READY=1\nSTATUS=\(state.rawValue)")
    case .draining: send("STOPPING=1\nSTATUS=\(state.rawValue)")
    default: send("STATUS=\(state.rawValue)")
    }
  }

  /// What the run waits for, for `systemctl status`.
  func tell(line: String) { send("STATUS=\(line)") }

  /// Says that this loop turns, when that is due; gives the time of the next beat.
  mutating func keepAlive(at now: Duration) -> Duration? {
    guard let beat else { return nil }
    if nextBeat <= now {
      send("WATCHDOG=1")
      nextBeat = now + beat
    }
    return nextBeat
  }

  /// Keeps a copy of a bound socket with systemd, which hands it to the next start of the unit.
  func store(_ descriptor: CInt, for address: Address) {
    guard keepsDescriptors, let name = Self.name(of: address) else { return }
    send("FDSTORE=1\nFDNAME=\(name)", [descriptor])
  }

  func forget(_ address: Address) {
    guard keepsDescriptors, let name = Self.name(of: address) else { return }
    send("FDSTOREREMOVE=1\nFDNAME=\(name)")
  }

  /// A name that systemd takes: printable ASCII without `:`. nil for a path, whose file would not come back with its
  /// socket.
  static func name(of address: Address) -> String? {
    guard case .tcp = address else { return nil }
    let letters = address.description.utf8.map { byte -> String in
      switch byte {
      case 48...57, 65...90, 97...122, 45, 46: String(Unicode.Scalar(byte))
      default: "_\(String(byte, radix: 16))"
      }
    }
    return namePrefix + letters.joined()
  }

  private func send(_ text: String, _ descriptors: [CInt] = []) {
    guard socket >= 0 else { return }
    let bytes = Array(text.utf8)
    // A manager that does not read must not stop the run: what does not fit is lost, the next message comes soon.
    _ = outrider_send(socket, bytes, bytes.count, descriptors, descriptors.count)
  }

  private static func connect(_ path: String) -> CInt {
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(path.utf8)
    guard let first = bytes.first, first == UInt8(ascii: "/") || first == UInt8(ascii: "@"),
      bytes.count < MemoryLayout.size(ofValue: name.sun_path)
    else { return -1 }
    if first == UInt8(ascii: "@") { bytes[0] = 0 }
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
    let kind = CInt(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = Glibc.socket(AF_UNIX, kind, 0)
    guard descriptor >= 0 else { return -1 }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    let result = withUnsafePointer(to: name) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, length) }
    }
    if result == 0 { return descriptor }
    close(descriptor)
    return -1
  }
}
