import Vocabulary

/// When a file sink begins a new file. The former ones are `PATH.1` (the newest), `PATH.2` and so on.
package struct FileRotation: Sendable, Equatable {
  /// Bytes that a file may have; nil = any number. One batch may be larger.
  package var size: Int? = nil
  /// A file holds one period of this length, counted from 1970 in UTC (so that `24h` begins at midnight); nil = for ever.
  package var every: Duration? = nil
  /// Former files that stay, 1 at least.
  package var keep = 5

  package init() {}

  /// Whether a file of `size` bytes that was written last at `modified` gives way before `adding` bytes are written at
  /// `now`; times are nanoseconds since 1970. An empty file never does.
  package func isDue(size current: Int, adding: Int, modified: Int64, now: Int64) -> Bool {
    guard current > 0 else { return false }
    if let size, current + adding > size { return true }
    guard let every else { return false }
    let period = max(1_000_000_000, every.inNanoseconds)
    // A clock that was set back begins no file.
    return now / period > modified / period
  }
}
