import Vocabulary

/// Finds every known secret value in a line, in one pass whatever their number, and puts `***` in its place.
///
/// Sought are, for each value: itself, JSON-escaped (also with `\/`, with `\u` for `<>&` and for all non-ASCII),
/// percent-encoded (both cases, `+` for space), base64 (both alphabets, at all three alignments), and each line of a
/// value of several lines. Values and forms shorter than four bytes are ignored: `1` or `yes` would blank out half of
/// every log and thereby show what the value is.
///
/// No value is kept: keyed hashes stand for them (`SecretPattern`).
package final class Redactor: Sendable {
  package static let minimumLength = 4
  package static let replacement: StaticString = "***"

  /// Sorted by their marks, the longest first.
  private let patterns: [SecretPattern]
  private let index: [UInt32: Range<Int>]
  /// A bit for each mark that may be there.
  private let filter: [UInt64]
  /// A bit for each octet that a pattern may begin with.
  private let firsts: [Bool]
  package let longest: Int

  package convenience init(values: [(name: String, value: [UInt8])]) { self.init(values: values.map(\.value)) }

  package convenience init(values: [[UInt8]]) {
    self.init(patterns: values.reduce(into: []) { $0.formUnion(SecretForms.patterns(of: $1)) })
  }

  package init(patterns found: Set<SecretPattern>) {
    patterns = found.sorted { a, b in
      if a.mark != b.mark { return a.mark < b.mark }
      return a.length != b.length ? a.length > b.length : a.hash < b.hash
    }
    var index: [UInt32: Range<Int>] = [:]
    var filter = Array(repeating: UInt64(0), count: 1024)
    var firsts = Array(repeating: false, count: 256)
    var longest = 0
    for (position, pattern) in patterns.enumerated() {
      index[pattern.mark] = (index[pattern.mark]?.lowerBound ?? position)..<position + 1
      let slot = Self.slot(pattern.mark)
      filter[slot >> 6] |= 1 << UInt64(slot & 63)
      firsts[Int(pattern.first)] = true
      longest = max(longest, pattern.length)
    }
    self.index = index
    self.filter = filter
    self.firsts = firsts
    self.longest = longest
  }

  package var isEmpty: Bool { patterns.isEmpty }

  /// The upper bits of the product are the good ones.
  @inline(__always)
  private static func slot(_ mark: UInt32) -> Int { Int(mark >> 16) }

  /// Appends the line with every secret replaced, and returns how many there were; with none, nothing is appended.
  package func redact(_ line: Bytes, into arena: ByteArena) -> Int {
    guard !patterns.isEmpty, line.count >= Self.minimumLength else { return 0 }
    let key = SecretPattern.key
    var matches = 0
    var copied = 0
    var at = 0
    let last = line.count - Self.minimumLength
    filter.withUnsafeBufferPointer { filter in
      while at <= last {
        let mark = line.integer(at: at, as: UInt32.self) &* key
        let slot = Self.slot(mark)
        guard filter[slot >> 6] & 1 << UInt64(slot & 63) != 0, let length = match(line, at, mark) else {
          at &+= 1
          continue
        }
        matches += 1
        arena.append(line.part(copied..<at))
        arena.append(Self.replacement)
        at += length
        copied = at
      }
    }
    if matches > 0 { arena.append(line.part(copied..<line.count)) }
    return matches
  }

  /// The length of what is to be replaced at `at`: the longest pattern there, stretched over patterns that overlap it.
  private func match(_ line: Bytes, _ at: Int, _ mark: UInt32) -> Int? {
    guard var end = longestMatch(line, at, mark).map({ at + $0 }) else { return nil }
    var next = at + 1
    while next < end, next + Self.minimumLength <= line.count {
      let mark = line.integer(at: next, as: UInt32.self) &* SecretPattern.key
      if let length = longestMatch(line, next, mark) { end = max(end, next + length) }
      next += 1
    }
    return end - at
  }

  private func longestMatch(_ line: Bytes, _ at: Int, _ mark: UInt32) -> Int? {
    guard let range = index[mark] else { return nil }
    for position in range where at + patterns[position].length <= line.count {
      let pattern = patterns[position]
      if pattern.stands(in: line, at: at) { return pattern.length }
    }
    return nil
  }

  /// The largest offset up to `cut` at which a line may be split without parting a secret.
  package func safeCut(_ line: Bytes, at cut: Int) -> Int {
    var cut = cut
    for _ in 0..<16 {
      guard let start = straddling(line, cut), start > 0 else { return cut }
      cut = start
    }
    return cut
  }

  /// The first offset before `cut` where a secret starts that goes on behind `cut`, or may start: the line ends before one
  /// that begins alike.
  private func straddling(_ line: Bytes, _ cut: Int) -> Int? {
    guard !patterns.isEmpty else { return nil }
    for start in max(0, cut - longest + 1)..<max(0, cut) {
      guard start + Self.minimumLength <= line.count else {
        if firsts[Int(line[start])] { return start }
        continue
      }
      guard let range = index[line.integer(at: start, as: UInt32.self) &* SecretPattern.key] else { continue }
      for pattern in patterns[range] where pattern.length > cut - start {
        if start + pattern.length > line.count { return start }
        if pattern.stands(in: line, at: start) { return start }
      }
    }
    return nil
  }
}
