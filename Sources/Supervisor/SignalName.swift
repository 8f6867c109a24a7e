/// Names of signals, for messages.
package enum SignalName {
  /// `SIGTERM`, or `signal 64` for one without a common name. Numbers are those of Linux on x86-64 and arm64.
  package static func of(_ number: Int32) -> String {
    switch number {
    case 1: "SIGHUP"
    case 2: "SIGINT"
    case 3: "SIGQUIT"
    case 4: "SIGILL"
    case 6: "SIGABRT"
    case 7: "SIGBUS"
    case 8: "SIGFPE"
    case 9: "SIGKILL"
    case 10: "SIGUSR1"
    case 11: "SIGSEGV"
    case 12: "SIGUSR2"
    case 13: "SIGPIPE"
    case 14: "SIGALRM"
    case 15: "SIGTERM"
    case 28: "SIGWINCH"
    default: "signal \(number)"
    }
  }
}
