import Glibc

/// The program that a worker is of.
enum WorkerBinary: Equatable {
  /// A path, or a name that is looked up in the PATH.
  case command(String)
  /// An open file: what stands at its path by now does not matter.
  case descriptor(CInt)
}

/// Which programs workers are of.
struct WorkerBinaries {
  var present: WorkerBinary
  /// Before the last upgrade, while it may come back.
  var former: WorkerBinary?
  /// The one that is about to take over.
  var candidate: WorkerBinary?

  init(present: WorkerBinary) { self.present = present }

  /// Opens what is to take over. Throws a text with the way out.
  mutating func open(_ path: String) throws(SpawnProblem) -> WorkerBinary {
    forgetCandidate()
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      let text = String(cString: strerror(errno))
      throw SpawnProblem(text: " \(path): \(text); name a program that the sidecar's user can read with --binary")
    }
    let binary = WorkerBinary.descriptor(descriptor)
    candidate = binary
    return binary
  }

  /// The candidate serves.
  mutating func promote(keepsFormer: Bool) {
    guard let candidate else { return }
    if let former { Self.close(former) }
    former = keepsFormer ? present : nil
    if !keepsFormer { Self.close(present) }
    present = candidate
    self.candidate = nil
  }

  mutating func useFormer() {
    guard let former else { return }
    Self.close(present)
    (present, self.former) = (former, nil)
  }

  mutating func forgetFormer() {
    if let former { Self.close(former) }
    former = nil
  }

  mutating func forgetCandidate() {
    if let candidate { Self.close(candidate) }
    candidate = nil
  }

  private static func close(_ binary: WorkerBinary) {
    if case .descriptor(let descriptor) = binary { Glibc.close(descriptor) }
  }
}

/// Why a worker could not be started, to follow the name of what was tried.
struct SpawnProblem: Error {
  let text: String
}
