package import RegularExpressions

/// Asks a condition of records. Owned by one thread.
package final class ConditionMatcher {
  package let condition: LogCondition
  /// Expressions that gave up at the match limit; such a comparison is false.
  package private(set) var exceeded: UInt64 = 0
  private let workspace: MatchWorkspace
  private let plain = ByteArena()
  private let fields = RecordFields()

  package init(_ condition: LogCondition, _ workspace: MatchWorkspace = MatchWorkspace(steps: 1_000_000)) {
    self.condition = condition
    self.workspace = workspace
  }

  /// `record` is one JSON object, LF or not; false for what is none.
  package func matches(_ record: Bytes) -> Bool { fields.load(record) && matches(fields) }

  func matches(_ fields: RecordFields) -> Bool { holds(condition.nodes.count - 1, fields) }

  private func holds(_ index: Int, _ fields: RecordFields) -> Bool {
    switch condition.nodes[index] {
    case .both(let left, let right): holds(left, fields) && holds(right, fields)
    case .either(let left, let right): holds(left, fields) || holds(right, fields)
    case .not(let inner): !holds(inner, fields)
    case .test(let subject, let question): test(subject, question, fields)
    }
  }

  private func test(
    _ subject: LogCondition.Subject, _ question: LogCondition.Question, _ fields: RecordFields
  ) -> Bool {
    switch subject {
    case .level:
      let level = fields.level
      return switch question {
      case .level(let from, let to): level >= from && level <= to
      case .levels(let levels): levels.contains(level)
      default: level != .unknown
      }
    case .message: return fields.message.map { answer($0, question) } ?? false
    case .field(let path): return fields.value(path).map { answer($0, question) } ?? false
    }
  }

  private func answer(_ value: Bytes, _ question: LogCondition.Question) -> Bool {
    switch question {
    case .exists: return true
    case .equals(let literal): return equals(value, literal)
    case .among(let literals): return literals.contains { equals(value, $0) }
    case .contains(let wanted):
      return Self.contains(text(value), wanted)
    case .matches(let expression):
      switch expression.match(text(value), workspace) {
      case .matched: return true
      case .missed: return false
      case .exceeded:
        exceeded += 1
        return false
      }
    case .number(let from, let to, let openFrom, let openTo):
      guard let number = Self.number(value) else { return false }
      return (openFrom ? number > from : number >= from) && (openTo ? number < to : number <= to)
    case .level, .levels: return false
    }
  }

  private static func contains(_ text: Bytes, _ wanted: [UInt8]) -> Bool {
    guard let first = wanted.first else { return true }
    var at = 0
    while let hit = text.firstOffset(of: first, from: at), hit + wanted.count <= text.count {
      if text.part(hit..<hit + wanted.count).elementsEqual(wanted) { return true }
      at = hit + 1
    }
    return false
  }

  private func equals(_ value: Bytes, _ literal: LogCondition.Literal) -> Bool {
    switch literal {
    case .text(let wanted): value.first == 0x22 && text(value).elementsEqual(wanted)
    case .number(let wanted): Self.number(value) == wanted
    case .truth(let wanted): wanted ? value.equals("true") : value.equals("false")
    case .null: value.equals("null")
    }
  }

  /// What a string stands for; anything else as it is written. Valid until the next call.
  private func text(_ value: Bytes) -> Bytes {
    guard value.count >= 2, value[0] == 0x22 else { return value }
    let inside = value.part(1..<value.count - 1)
    guard inside.firstOffset(of: 0x5C) != nil else { return inside }
    plain.removeAll()
    JSONText.unescape(inside, into: plain)
    return plain.bytes
  }

  /// A number, or a string that is one; nil above 64 digits.
  static func number(_ value: Bytes) -> Double? {
    let digits = value.count > 2 && value[0] == 0x22 ? value.part(1..<value.count - 1) : value
    guard let first = digits.first, digits.count <= 64, first == 0x2D || (0x30...0x39).contains(first) else {
      return nil
    }
    var whole = 0
    for (index, byte) in digits.enumerated() {
      guard index < 18, (0x30...0x39).contains(byte) else { return Double(digits.text) }
      whole = whole * 10 + Int(byte - 0x30)
    }
    return Double(whole)
  }
}
