import Glibc
import Vocabulary

/// Finds every known secret value in a line, in one pass whatever their number, and puts `***` in its place.
///
/// Sought are, for each value: itself, JSON-escaped (also with `\/`, with `\u` for `<>&` and for all non-ASCII),
/// percent-encoded (both cases, `+` for space), base64 (both alphabets, at all three alignments), and each line of a
/// value of several lines. Values and forms shorter than four bytes are ignored: `1` or `yes` would blank out half of
/// every log and thereby show what the value is.
package final class Redactor: Sendable {
  package static let minimumLength = 4
  package static let replacement: StaticString = "***"

  /// Sorted by their first four bytes, the longest first.
  private let patterns: [[UInt8]]
  private let index: [UInt32: Range<Int>]
  private let filter: [UInt64]
  package let longest: Int

  package convenience init(values: [(name: String, value: [UInt8])]) { self.init(values: values.map(\.value)) }

  package init(values: [[UInt8]]) {
    var forms: Set<[UInt8]> = []
    for value in values { forms.formUnion(SecretForms.all(of: value)) }
    patterns = forms.filter { $0.count >= Self.minimumLength }.sorted { a, b in
      let (x, y) = (Self.prefix(a), Self.prefix(b))
      if x != y { return x < y }
      return a.count != b.count ? a.count > b.count : a.lexicographicallyPrecedes(b)
    }
    var index: [UInt32: Range<Int>] = [:]
    var filter = Array(repeating: UInt64(0), count: 1024)
    var longest = 0
    for (position, pattern) in patterns.enumerated() {
      let prefix = Self.prefix(pattern)
      index[prefix] = (index[prefix]?.lowerBound ?? position)..<position + 1
      let slot = Self.slot(prefix)
      filter[slot >> 6] |= 1 << UInt64(slot & 63)
      longest = max(longest, pattern.count)
    }
    self.index = index
    self.filter = filter
    self.longest = longest
  }

  package var isEmpty: Bool { patterns.isEmpty }

  private static func prefix(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { $0.integer(at: 0) } }

  @inline(__always)
  private static func slot(_ prefix: UInt32) -> Int { Int((prefix &* 0x9E37_79B1) >> 16) }

  /// Appends the line with every secret replaced, and returns how many there were; with none, nothing is appended.
  package func redact(_ line: Bytes, into arena: ByteArena) -> Int {
    guard !patterns.isEmpty, line.count >= Self.minimumLength else { return 0 }
    var matches = 0
    var copied = 0
    var at = 0
    let last = line.count - Self.minimumLength
    filter.withUnsafeBufferPointer { filter in
      while at <= last {
        let prefix: UInt32 = line.integer(at: at)
        let slot = Self.slot(prefix)
        guard filter[slot >> 6] & 1 << UInt64(slot & 63) != 0, let length = match(line, at, prefix) else {
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
  private func match(_ line: Bytes, _ at: Int, _ prefix: UInt32) -> Int? {
    guard var end = longestMatch(line, at, prefix).map({ at + $0 }) else { return nil }
    var next = at + 1
    while next < end, next + Self.minimumLength <= line.count {
      if let length = longestMatch(line, next, line.integer(at: next)) { end = max(end, next + length) }
      next += 1
    }
    return end - at
  }

  private func longestMatch(_ line: Bytes, _ at: Int, _ prefix: UInt32) -> Int? {
    guard let range = index[prefix], let base = line.baseAddress else { return nil }
    for position in range {
      let count = patterns[position].count
      if at + count <= line.count, memcmp(base + at, patterns[position], count) == 0 { return count }
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

  /// The first offset before `cut` where a secret starts, or may start, that goes on behind `cut`.
  private func straddling(_ line: Bytes, _ cut: Int) -> Int? {
    guard !patterns.isEmpty, let base = line.baseAddress else { return nil }
    for start in max(0, cut - longest + 1)..<max(0, cut) {
      for pattern in patterns where pattern.count > cut - start && pattern[0] == line[start] {
        let known = min(pattern.count, line.count - start)
        if memcmp(base + start, pattern, known) == 0 { return start }
      }
    }
    return nil
  }
}

/// The ways in which a secret value is written in a log.
enum SecretForms {
  static func all(of value: [UInt8]) -> Set<[UInt8]> {
    var forms: Set<[UInt8]> = []
    var trimmed = value[...]
    while let last = trimmed.last, last == 0x0A || last == 0x0D { trimmed = trimmed.dropLast() }
    let value = Array(trimmed)
    guard value.count >= Redactor.minimumLength else { return [] }
    forms.insert(value)
    for form in jsonForms(value) { forms.insert(form) }
    for form in percentForms(value) { forms.insert(form) }
    for form in base64Forms(value) { forms.insert(form) }
    let lines = value.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D })
    // The lines of a PEM file; its public first and last line stay readable.
    if lines.count > 1 {
      for line in lines where line.count >= 8 && !line.starts(with: Array("-----".utf8)) {
        forms.insert(Array(line))
        forms.formUnion(jsonForms(Array(line)))
      }
    }
    return forms
  }

  private static func jsonForms(_ value: [UInt8]) -> [[UInt8]] {
    guard value.withUnsafeBytes({ UTF8Text.isValid($0) }) else { return [] }
    let arena = ByteArena(capacity: value.count * 2)
    value.withUnsafeBytes { JSONText.escape($0, into: arena) }
    let plain = Array(arena.bytes)
    var forms = [plain, plain.flatMap { $0 == 0x2F ? [0x5C, 0x2F] : [$0] }]
    for upper in [false, true] {
      forms.append(unicodeEscaped(plain, html: false, upper: upper))
      forms.append(unicodeEscaped(plain, html: true, upper: upper))
    }
    return forms
  }

  /// Non-ASCII, or `<>&'+` and nothing else, as `\uXXXX`.
  private static func unicodeEscaped(_ escaped: [UInt8], html: Bool, upper: Bool) -> [UInt8] {
    var result: [UInt8] = []
    for unit in String(decoding: escaped, as: UTF8.self).unicodeScalars {
      let special = unit == "<" || unit == ">" || unit == "&"
      if html ? !special : unit.isASCII {
        result += Array(String(unit).utf8)
        continue
      }
      for half in UTF16.encode(unit) ?? UTF16.encodedReplacementCharacter {
        let hex = String(half, radix: 16, uppercase: upper)
        result += Array(("\\u" + String(repeating: "0", count: 4 - hex.utf8.count) + hex).utf8)
      }
    }
    return result
  }

  private static func percentForms(_ value: [UInt8]) -> [[UInt8]] {
    func encode(keeping kept: String, plus: Bool, upper: Bool) -> [UInt8] {
      let keep = Set(kept.utf8)
      let digits = Array((upper ? "0123456789ABCDEF" : "0123456789abcdef").utf8)
      return value.flatMap { byte -> [UInt8] in
        let letter = (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
        if letter || keep.contains(byte) { return [byte] }
        if plus, byte == 0x20 { return [0x2B] }
        return [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return [true, false].flatMap { upper in
      [
        encode(keeping: "-._~", plus: false, upper: upper), encode(keeping: "-._~/", plus: false, upper: upper),
        encode(keeping: "-._*", plus: true, upper: upper), encode(keeping: "-._~!*'()", plus: false, upper: upper),
        // Go, Python and Ruby; PHP; what leaves the parts of a URL alone.
        encode(keeping: "-._~", plus: true, upper: upper), encode(keeping: "-._", plus: true, upper: upper),
        encode(keeping: "-._~!*'();/?:@&=+$,#", plus: false, upper: upper),
      ]
    }
  }

  private static func base64Forms(_ value: [UInt8]) -> [[UInt8]] {
    var forms: [[UInt8]] = []
    for alignment in 0..<3 {
      let padded = Array(repeating: UInt8(0), count: alignment) + value
      let first = (alignment * 8 + 5) / 6
      let end = padded.count * 8 / 6
      guard end > first else { continue }
      let standard = Array(Base64Text.encode(padded)[first..<end])
      forms.append(standard)
      forms.append(standard.map { $0 == 0x2B ? 0x2D : $0 == 0x2F ? 0x5F : $0 })
      forms.append(standard.flatMap { $0 == 0x2F ? [0x5C, 0x2F] : [$0] })
    }
    return forms
  }
}
