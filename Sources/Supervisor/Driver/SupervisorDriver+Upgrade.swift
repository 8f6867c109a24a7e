import CLinux
import Glibc

/// A worker beside the present one, with its channel.
struct UpgradeSeat {
  let pid: Int32
  var channel: WorkerChannel?
  /// It has what the former worker handed over, and hears of the app.
  var isTakingOver = false
}

/// Carries out what the machine decides about upgrades.
extension SupervisorDriver {
  /// Where a worker finds its own program when it was opened and not named.
  private static let binaryPlace = 5

  func performUpgrade(_ action: LifecycleMachine.Action) {
    switch action {
    case .spawnCandidate(let path): spawnCandidate(path)
    case .sendCandidate(let frame): sendCandidate(frame)
    case .killCandidate: if let pid = candidate?.pid { kill(pid, SIGKILL) }
    case .handOver(let state, let restarts, let workers): handOver(state, restarts, workers)
    case .promote(let keepsBinary):
      if let pid = workerPID { former = UpgradeSeat(pid: pid, channel: channel) } else { closeChannel() }
      (workerPID, channel) = (candidate?.pid, candidate?.channel)
      candidate = nil
      binaries.promote(keepsFormer: keepsBinary)
    case .sendFormer(let frame):
      _ = former?.channel?.send(frame, [])
      if let channel = former?.channel { poll.watch(channel.descriptor, writing: channel.wantsToWrite) }
    case .killFormer: if let pid = former?.pid { kill(pid, SIGKILL) }
    case .useFormerBinary: binaries.useFormer()
    case .forgetFormerBinary: binaries.forgetFormer()
    case .replaceSupervisor: isToBeReplaced = true
    default: break
    }
  }

  /// Starts a worker with its channel.
  func spawn(_ binary: WorkerBinary, _ command: [String]) throws(SpawnProblem) -> UpgradeSeat {
    var ends: [CInt] = [-1, -1]
    guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      throw SpawnProblem(text: ": \(String(cString: strerror(errno))); raise the limit of open files")
    }
    defer { close(ends[1]) }
    _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
    var descriptors: [CInt] = [-1, -1, -1, ends[1], memory?.descriptor ?? -1]
    var arguments = command
    let file: String
    switch binary {
    case .command(let name): file = name
    case .descriptor(let descriptor):
      descriptors.append(descriptor)
      file = "/proc/self/fd/\(Self.binaryPlace)"
    }
    if arguments[0] == "/proc/self/exe" { arguments[0] = "outrider" }
    do throws(Spawn.Failure) {
      let pid = try Spawn.start(file: file, arguments: arguments, environment: nil, descriptors: descriptors)
      poll.add(ends[0])
      return UpgradeSeat(pid: pid, channel: WorkerChannel(descriptor: ends[0]))
    } catch {
      close(ends[0])
      throw SpawnProblem(text: " \"\(command[0])\": \(String(cString: strerror(error.error)))")
    }
  }

  private func spawnCandidate(_ path: String) {
    do throws(SpawnProblem) {
      let binary = path.isEmpty ? binaries.present : try binaries.open(path)
      var command = workerCommand
      command.insert("--successor", at: min(2, command.count))
      candidate = try spawn(binary, command)
    } catch {
      binaries.forgetCandidate()
      pending.append(.candidateSpawnFailed("cannot start\(error.text)"))
    }
  }

  /// The two workers get the ends of a socket: the present one to give, the new one to take.
  private func handOver(_ state: LifecycleState, _ restarts: UInt32, _ workers: UInt32) {
    var ends: [CInt] = [-1, -1]
    guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      message("upgrade: \(String(cString: strerror(errno))); raise the limit of open files")
      if let pid = candidate?.pid { kill(pid, SIGKILL) }
      return
    }
    defer { for end in ends { close(end) } }
    listeners.forgetRequests()
    send(.handOver, [ends[0]])
    var inheritance = inheritance(state, restarts, workers)
    inheritance.isHandedOver = true
    sendCandidate(.inherit(inheritance), outputDescriptors + [ends[1]])
    candidate?.isTakingOver = true
  }

  private func sendCandidate(_ frame: SupervisorFrame, _ descriptors: [CInt] = []) {
    guard candidate?.channel != nil else { return }
    if candidate?.channel?.send(frame, descriptors) == false, let pid = candidate?.pid { kill(pid, SIGKILL) }
    if let channel = candidate?.channel { poll.watch(channel.descriptor, writing: channel.wantsToWrite) }
  }

  /// What is said of the app goes to both workers while one hands over to the other.
  func mirror(_ frame: SupervisorFrame, _ descriptors: [CInt] = []) {
    guard candidate?.isTakingOver == true else { return }
    switch frame {
    case .appStarted, .appExited, .appReadyByDescriptor, .state: sendCandidate(frame, descriptors)
    default: break
    }
  }

  func takeCandidate() {
    do throws(FrameError) {
      guard let (frames, ended) = try candidate?.channel?.read() else { return }
      for (frame, descriptors) in frames {
        for descriptor in descriptors { close(descriptor) }
        if !takeSockets(frame, { sendCandidate($0, $1) }) { pending.append(.candidate(frame)) }
      }
      if ended {
        closeSeat(&candidate)
        return pending.append(.candidateChannelEnded)
      }
      candidate?.channel?.write()
      if let channel = candidate?.channel { poll.watch(channel.descriptor, writing: channel.wantsToWrite) }
    } catch {
      message("upgrade: the new worker sent something malformed (\(error))")
      closeSeat(&candidate)
      pending.append(.candidateChannelEnded)
    }
  }

  /// A worker that drains has nothing more to say that matters.
  func takeFormer() {
    do throws(FrameError) {
      guard let (frames, ended) = try former?.channel?.read() else { return }
      for descriptor in frames.flatMap(\.1) { close(descriptor) }
      if ended { return closeSeat(&former) }
      former?.channel?.write()
      if let channel = former?.channel { poll.watch(channel.descriptor, writing: channel.wantsToWrite) }
    } catch {
      closeSeat(&former)
    }
  }

  func endCandidate() {
    closeSeat(&candidate)
    candidate = nil
    binaries.forgetCandidate()
  }

  func endFormer() {
    closeSeat(&former)
    former = nil
  }

  private func closeSeat(_ seat: inout UpgradeSeat?) {
    guard let descriptor = seat?.channel?.descriptor else { return }
    poll.remove(descriptor)
    seat?.channel?.shut()
    seat?.channel = nil
  }
}
