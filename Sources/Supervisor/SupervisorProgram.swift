/// `outrider run`: the process that outlives its worker.
package enum SupervisorProgram {
  /// Runs until the end; returns the exit code of the whole.
  ///
  /// To be called on the main thread before any other thread exists: signals are blocked for the calling thread and
  /// read from a descriptor.
  /// - `workerCommand`: the worker's arguments, the first of them its executable; the channel is its descriptor 3.
  /// - `message`: shows one line to people, without the name of the program and the line's end.
  package static func run(workerCommand: [String], message: (String) -> Void) -> Int32 {
    message("not wired yet")
    return 70
  }
}
