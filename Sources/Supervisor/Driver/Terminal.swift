import Glibc

/// The terminal that the run was started on: whose it is, and how it was before.
package struct Terminal {
  /// Whether the app gets it instead of pipes.
  package enum Wish: String, Sendable, CaseIterable { case auto, yes, no }

  /// Programs that talk to a person when they are given nothing to run.
  private static let interactive: Set<String> = [
    "sh", "bash", "dash", "ash", "ksh", "zsh", "fish", "python", "python3", "node", "irb",
  ]

  private let wish: Wish
  private var before = termios()
  private var isKnown = false
  /// The app's group has it.
  private var isGiven = false

  init(_ wish: Wish) {
    self.wish = wish
    isKnown = tcgetattr(STDIN_FILENO, &before) == 0
    // Who gives a terminal away or takes it back does so from the background.
    if isKnown { signal(SIGTTOU, SIG_IGN) }
  }

  /// We were started in its foreground, and have it.
  private var isOurs: Bool { isKnown && tcgetpgrp(STDIN_FILENO) == getpgrp() }

  /// Whether this command is to have the terminal for itself.
  func isFor(_ arguments: [String]) -> Bool {
    guard wish != .no, isOurs, isatty(STDOUT_FILENO) == 1, isatty(STDERR_FILENO) == 1 else { return false }
    return wish == .yes || Self.isInteractive(arguments)
  }

  /// A shell or an interpreter with nothing but options.
  static func isInteractive(_ arguments: [String]) -> Bool {
    guard let program = arguments.first?.split(separator: "/").last else { return false }
    return interactive.contains(String(program)) && arguments.dropFirst().allSatisfy { $0.hasPrefix("-") }
  }

  /// The app started with it.
  mutating func isTaken() { isGiven = true }

  /// The app was stopped by that signal; a line when there is something to say.
  mutating func appStopped(by number: Int32, pid: Int32) -> String? {
    switch number {
    case SIGTTIN, SIGTTOU:
      // It asked for the terminal. When we have none to give, it waits, as any job in the background.
      guard isOurs else { return nil }
      give(to: pid)
      return "the app (pid \(pid)) uses the terminal and has it from now on, Ctrl-C included; TERM stops the run"
    case SIGTSTP where isGiven:
      // Ctrl-Z: as one job. We stop as well until the shell continues us; without a shell that would, at once.
      takeBack()
      kill(getpid(), SIGTSTP)
      // In the background (`bg`) the terminal is the shell's.
      if isOurs { give(to: pid) } else { kill(-pid, SIGCONT) }
      return nil
    default: return nil
    }
  }

  private mutating func give(to pid: Int32) {
    isGiven = true
    tcsetpgrp(STDIN_FILENO, pid)
    kill(-pid, SIGCONT)
  }

  /// The app is gone, or everything: the terminal is ours and as it was.
  mutating func takeBack() {
    guard isGiven else { return }
    isGiven = false
    tcsetpgrp(STDIN_FILENO, getpgrp())
    tcsetattr(STDIN_FILENO, TCSANOW, &before)
  }
}
