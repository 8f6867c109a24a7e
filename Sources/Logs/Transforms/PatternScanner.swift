import RegularExpressions
import Vocabulary

/// Finds what looks like an address, a card, a token or a key in a text, all patterns in one pass. Owned by one thread.
final class PatternScanner {
  struct Hit {
    var range: Range<Int>
    /// An index into `names`.
    var pattern: Int
  }

  /// The patterns of the rules, and `regex` for the expressions.
  let names: [String]
  private let wants: Set<RedactionRules.Pattern>
  private let numbers: [RedactionRules.Pattern: Int]
  private let expressions: [RegularExpression]
  private let workspace: MatchWorkspace
  /// What a byte may begin or be part of, so that most bytes cost one look.
  private let starts: [Bool]
  /// Texts in which an expression came to the match limit; they are hidden whole.
  private(set) var exceeded: UInt64 = 0

  init(_ rules: RedactionRules, _ workspace: MatchWorkspace) {
    var names = rules.patterns.map(\.rawValue)
    numbers = Dictionary(rules.patterns.enumerated().map { ($1, $0) }) { first, _ in first }
    if !rules.expressions.isEmpty { names.append("regex") }
    self.names = names
    wants = Set(rules.patterns)
    expressions = rules.expressions
    self.workspace = workspace
    var starts = Array(repeating: false, count: 256)
    func mark(_ text: String) { for byte in text.utf8 { starts[Int(byte)] = true } }
    if wants.contains(.email) { mark("@") }
    if wants.contains(.creditCard) || wants.contains(.ipv4) { mark("0123456789") }
    if wants.contains(.ipv6) { mark("0123456789abcdefABCDEF:") }
    if wants.contains(.jwt) { mark("e") }
    if wants.contains(.awsKey) { mark("A") }
    if wants.contains(.bearer) { mark("bB") }
    self.starts = starts
  }

  var isEmpty: Bool { names.isEmpty }

  /// Adds what it finds to `hits`.
  func scan(_ text: Bytes, into hits: inout [Hit]) {
    if !wants.isEmpty { scanBuiltIn(text, into: &hits) }
    for expression in expressions {
      var at = 0
      search: while at <= text.count {
        switch expression.match(text, from: at, workspace) {
        case .missed: break search
        case .exceeded:
          exceeded += 1
          hits.append(Hit(range: 0..<text.count, pattern: names.count - 1))
          break search
        case .matched:
          guard let range = workspace.group(0) else { break search }
          if range.isEmpty {
            at = max(at, range.upperBound) + 1
            while at < text.count, text[at] & 0xC0 == 0x80 { at += 1 }
          } else {
            hits.append(Hit(range: range, pattern: names.count - 1))
            at = range.upperBound
          }
        }
      }
    }
  }

  private func scanBuiltIn(_ text: Bytes, into hits: inout [Hit]) {
    var at = 0
    // Nothing before it is looked at again, so that the pass stays one.
    var floor = 0
    while at < text.count {
      guard starts[Int(text[at])] else {
        at &+= 1
        continue
      }
      if let (pattern, range) = find(text, at, floor) {
        hits.append(Hit(range: range, pattern: numbers[pattern] ?? 0))
        at = range.upperBound
        floor = at
      } else {
        if text[at] == 0x40 { floor = at + 1 }
        at += 1
      }
    }
  }

  private func find(_ text: Bytes, _ at: Int, _ floor: Int) -> (RedactionRules.Pattern, Range<Int>)? {
    let byte = text[at]
    if byte == 0x40 {
      return wants.contains(.email) ? Self.email(text, at, floor).map { (.email, $0) } : nil
    }
    // Everything else begins where a word begins, or behind an escape: the line of a logfmt record has them.
    if at > floor, Self.isWord(text[at - 1]), at < 2 || text[at - 2] != 0x5C { return nil }
    if byte == 0x65, wants.contains(.jwt), let end = Self.jwt(text, at) { return (.jwt, at..<end) }
    if byte == 0x41, wants.contains(.awsKey), let end = Self.awsKey(text, at) { return (.awsKey, at..<end) }
    if byte | 0x20 == 0x62, wants.contains(.bearer), let range = Self.bearer(text, at) { return (.bearer, range) }
    if (0x30...0x39).contains(byte) {
      if wants.contains(.creditCard), let end = Self.card(text, at) { return (.creditCard, at..<end) }
      if wants.contains(.ipv4), let end = Self.ipv4(text, at) { return (.ipv4, at..<end) }
    }
    if wants.contains(.ipv6), let end = Self.ipv6(text, at) { return (.ipv6, at..<end) }
    return nil
  }

  // MARK: patterns

  private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
  private static func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte | 0x20) }
  private static func isWord(_ byte: UInt8) -> Bool { isDigit(byte) || isLetter(byte) || byte == 0x5F || byte >= 0x80 }
  private static func isToken(_ byte: UInt8) -> Bool { isDigit(byte) || isLetter(byte) || byte == 0x5F || byte == 0x2D }

  /// `local@domain.tld` around the `@`.
  private static func email(_ text: Bytes, _ at: Int, _ floor: Int) -> Range<Int>? {
    var start = at
    while start > floor, isToken(text[start - 1]) || text[start - 1] >= 0x80 || ".%+'".utf8.contains(text[start - 1]) {
      start -= 1
    }
    var end = at + 1
    var dot: Int?
    while end < text.count, isToken(text[end]) || text[end] == 0x2E || text[end] >= 0x80 {
      if text[end] == 0x2E { dot = end }
      end += 1
    }
    while end > at, text[end - 1] == 0x2E || text[end - 1] == 0x2D {
      end -= 1
      if dot == end { dot = text[at..<end].lastIndex(of: 0x2E) }
    }
    guard start < at, let dot, dot > at + 1, end - dot > 2, text[dot + 1..<end].allSatisfy({ !isDigit($0) }) else {
      return nil
    }
    return start..<end
  }

  /// 13 to 19 digits with single spaces or hyphens between them, of a known issuer, and with the right check digit
  /// (ISO/IEC 7812-1).
  static func card(_ text: Bytes, _ at: Int) -> Int? {
    var digits: [19 of UInt8] = .init(repeating: 0)
    var count = 0
    var index = at
    var end: Int?
    // Another number may follow behind a single space: every end of a group may be the card's.
    while index < text.count, count < 19 {
      digits[count] = text[index] - 0x30
      count += 1
      index += 1
      if index < text.count, isDigit(text[index]) { continue }
      if count >= 13, index >= text.count || !isWord(text[index]), isCard(digits, count) { end = index }
      guard index + 1 < text.count, text[index] == 0x20 || text[index] == 0x2D, isDigit(text[index + 1]) else { break }
      index += 1
    }
    return end
  }

  private static func isCard(_ digits: [19 of UInt8], _ count: Int) -> Bool {
    var sum = 0
    for offset in 0..<count {
      var value = Int(digits[count - 1 - offset])
      if offset & 1 == 1 { value = value > 4 ? value * 2 - 9 : value * 2 }
      sum += value
    }
    let four = (0..<4).reduce(0) { $0 * 10 + Int(digits[$1]) }
    return sum % 10 == 0 && isIssuer(four, count)
  }

  private static func isIssuer(_ four: Int, _ count: Int) -> Bool {
    switch four {
    case 4000...4999: [13, 16, 18, 19].contains(count)
    case 5100...5599, 2221...2720: count == 16
    case 3400...3499, 3700...3799: count == 15
    case 3000...3059, 3095, 3600...3699, 3800...3999: count >= 14
    case 3528...3589, 6011, 6440...6599, 6200...6299, 5018, 5020, 5038, 5893, 6304, 6759...6763: count >= 16
    default: false
    }
  }

  static func ipv4(_ text: Bytes, _ at: Int) -> Int? {
    // A part of a longer dotted number is no address.
    if at > 1, text[at - 1] == 0x2E, isDigit(text[at - 2]) { return nil }
    var index = at
    for part in 0..<4 {
      var value = 0
      let start = index
      while index < text.count, isDigit(text[index]), index - start < 4 {
        value = value * 10 + Int(text[index] - 0x30)
        index += 1
      }
      guard index > start, index - start <= 3, value <= 255 else { return nil }
      if part < 3 {
        guard index < text.count, text[index] == 0x2E else { return nil }
        index += 1
      }
    }
    guard index >= text.count || !isWord(text[index]) else { return nil }
    if index + 1 < text.count, text[index] == 0x2E, isDigit(text[index + 1]) { return nil }
    return index
  }

  static func ipv6(_ text: Bytes, _ at: Int) -> Int? {
    if at > 0, text[at - 1] == 0x3A || text[at - 1] == 0x2E { return nil }
    var end = at
    var colons = 0
    var digits = 0
    while end < text.count, end - at < 46 {
      let byte = text[end]
      if byte == 0x3A {
        colons += 1
      } else if JSONText.hexDigit(byte) != nil {
        digits += 1
      } else if byte != 0x2E {
        break
      }
      end += 1
    }
    guard colons >= 2, digits > 0, end >= text.count || !isWord(text[end]) else { return nil }
    for _ in 0..<2 {
      if IPAddress(text.part(at..<end).text) != nil { return end }
      guard end - at > 2, text[end - 1] == 0x3A || text[end - 1] == 0x2E else { return nil }
      end -= 1
    }
    return nil
  }

  /// A JSON Web Token in compact form (RFC 7519 section 3.1): `eyJ…`, a dot, a part, a dot, a part that may be empty.
  static func jwt(_ text: Bytes, _ at: Int) -> Int? {
    guard at + 3 < text.count, text[at + 1] == 0x79, text[at + 2] == 0x4A else { return nil }
    if at > 0, text[at - 1] == 0x2D { return nil }
    var index = at
    for part in 0..<3 {
      let start = index
      while index < text.count, isToken(text[index]) { index += 1 }
      guard index - start >= (part == 0 ? 8 : part == 1 ? 2 : 0) else { return nil }
      if part < 2 {
        guard index < text.count, text[index] == 0x2E else { return nil }
        index += 1
      }
    }
    return index
  }

  /// The identifier of an AWS access key: four letters that tell its kind and 16 letters or digits.
  static func awsKey(_ text: Bytes, _ at: Int) -> Int? {
    guard at + 20 <= text.count, at + 20 == text.count || !isWord(text[at + 20]) else { return nil }
    let kind = text.part(at..<at + 4)
    guard
      kind.equals("AKIA") || kind.equals("ASIA") || kind.equals("AROA") || kind.equals("AIDA") || kind.equals("AGPA")
        || kind.equals("ANPA") || kind.equals("AIPA") || kind.equals("ABIA") || kind.equals("ACCA")
    else { return nil }
    for byte in text[at + 4..<at + 20] where !isDigit(byte) && !(0x41...0x5A).contains(byte) { return nil }
    return at + 20
  }

  /// What follows `Bearer ` (RFC 6750 section 2.1); the word itself stays.
  static func bearer(_ text: Bytes, _ at: Int) -> Range<Int>? {
    guard at + 8 < text.count else { return nil }
    for (offset, letter) in "bearer".utf8.enumerated() where text[at + offset] | 0x20 != letter { return nil }
    var start = at + 6
    while start < text.count, text[start] == 0x20 || text[start] == 0x3A || text[start] == 0x3D { start += 1 }
    guard start > at + 6 else { return nil }
    var end = start
    while end < text.count, isToken(text[end]) || ".~+/=".utf8.contains(text[end]) { end += 1 }
    // "bearer of good news" is none.
    guard end - start >= 8, text[start..<end].contains(where: { isDigit($0) || (0x41...0x5A).contains($0) }) else {
      return nil
    }
    return start..<end
  }
}
