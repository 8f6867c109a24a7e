import Glibc

/// Standard error, for people.
package enum StandardError {
  /// Whole lines in one write, so that lines of several processes do not mix; ends the last one if need be.
  package static func write(_ text: String) {
    var lines = text.hasSuffix("\n") ? text : text + "\n"
    lines.withUTF8 { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}
