import CLinux
import Glibc

/// `outrider run`: the process that outlives its worker.
package enum SupervisorProgram {
  /// Runs until the end; returns the exit code of the whole: the app's, 128+N when signal N ended it, 126 or 127 when
  /// it could not be started, 78 or another code that the worker gave up with, 70 without a worker.
  ///
  /// To be called on the main thread before any other thread exists: signals are blocked for the calling thread and
  /// read from a descriptor.
  /// - `workerCommand`: the worker's arguments, the first of them its executable; the channel is its descriptor 3.
  ///   `/proc/self/exe` starts this program again and shows as `outrider` in the process list.
  /// - `terminal`: whether the app gets the terminal that the run was started on.
  /// - `message`: shows one line to people; it has neither the name of the program nor a line's end.
  /// - `version`: of this program, for status.
  package static func run(
    workerCommand: [String], terminal: Terminal.Wish = .auto, version: String = "",
    message: @escaping (String) -> Void = { StandardError.write("outrider: \($0)") }
  ) -> Int32 {
    outrider_become_subreaper()
    let seed = UInt64.random(in: 0...UInt64.max)
    guard !workerCommand.isEmpty,
      let driver = SupervisorDriver(
        workerCommand: workerCommand, terminal: terminal, version: version, seed: seed, message: message)
    else {
      message("cannot start: \(String(cString: strerror(errno))); raise the limit of open files (`ulimit -n`)")
      return 70
    }
    switch driver.resume() {
    case false?: return 70
    case true?: message("upgrade: the supervisor is version \(version) now")
    case nil: break
    }
    return driver.run()
  }
}
