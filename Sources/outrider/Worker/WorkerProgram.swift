import CLinux
import ConfigurationFile
import Glibc
import Logging
import Supervisor

/// Exit codes of the worker's own errors; `docs/operations.md` lists them all.
enum ExitStatus {
  /// Something the sidecar needs is not to be had: an address in use, a state directory in use.
  static let unavailable: Int32 = 1
  /// The configuration is invalid.
  static let configuration: Int32 = 78
}

/// An error that waiting does not heal, with the exit code of the run.
struct StartFailure: Error, CustomStringConvertible {
  var description: String
  var exitCode: Int32
}

/// The worker's life: read the configuration, build the parts, follow the supervisor.
enum WorkerProgram {
  static func run(
    channel: Int32, memory: KeptMemory?, input: ConfigurationInput, isSuccessor: Bool = false
  ) async -> Int32 {
    // A worker holds secrets: nobody but root may look into it, and it leaves no core.
    if outrider_harden("outrider") != 0 {
      StandardError.write(
        "outrider: warning: the worker cannot be made undumpable: \(String(cString: strerror(errno)))")
    }

    let logger = Logger(label: "outrider", factory: { _ in StandardErrorLog() })
    let link = SupervisorLink(descriptor: channel)
    link.send(.hello(version: FrameLimits.version))
    var kept = KeptState(memory)
    var loaded: LoadedConfiguration
    do {
      // A successor begins with what was applied last, whatever stands on disk by now.
      loaded = try ConfigurationLoader.load(input, from: kept?.configuration)
    } catch {
      StandardError.write(error.rendered)
      link.send(.fatal(exitCode: ExitStatus.configuration))
      return ExitStatus.configuration
    }
    do {
      let frames = link.frames()
      var first: (SupervisorFrame, [CInt])?
      var handover: Handover?
      if isSuccessor {
        // Nothing that the present worker uses is touched before it has let go.
        link.send(.checked(product: ProductVersion.text))
        for await frame in frames {
          first = frame
          break
        }
        guard let (frame, descriptors) = first, case .inherit(let inheritance) = frame else { return 1 }
        if inheritance.isHandedOver, let socket = descriptors.last {
          first = (frame, descriptors.dropLast())
          handover = await Handover.receive(socket)
          // The present worker may have taken another configuration over while this one waited.
          kept = KeptState(memory)
          if let latest = try? ConfigurationLoader.load(input, from: kept?.configuration) { loaded = latest }
        }
      }
      let lock = try StateDirectory.prepare(loaded.value.stateDirectory)
      let worker = try await Worker(
        loaded: loaded, input: input, link: link, memory: kept, lock: lock, handover: handover, logger: logger)
      return await worker.run(frames, first: first)
    } catch {
      let failure = error as? StartFailure ?? StartFailure(description: "\(error)", exitCode: 1)
      logger.error("\(failure.description)")
      link.send(.fatal(exitCode: failure.exitCode))
      return failure.exitCode
    }
  }
}

/// The directory of spool, store, checkpoints and control socket.
enum StateDirectory {
  /// Makes the directory (0700) with its parents and locks it; the lock lasts as long as the descriptor.
  static func prepare(_ path: String) throws -> CInt {
    var made = ""
    for part in path.split(separator: "/") {
      made += "/" + part
      if mkdir(made, 0o700) != 0, errno != EEXIST {
        throw StartFailure(
          description: "the state directory \(path) cannot be made: \(made): \(String(cString: strerror(errno))); "
            + "name another with --state or `state:`", exitCode: ExitStatus.unavailable)
      }
    }
    let file = path + "/lock"
    let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw StartFailure(
        description: "the state directory \(path) cannot be written: \(String(cString: strerror(errno))); "
          + "name another with --state or `state:`", exitCode: ExitStatus.unavailable)
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw StartFailure(
        description: "the state directory \(path) is in use by another sidecar; give this one its own with --state",
        exitCode: ExitStatus.unavailable)
    }
    return descriptor
  }
}
