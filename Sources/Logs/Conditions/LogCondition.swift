import RegularExpressions

/// A condition on a record, for example `level >= warn && status in 500..599 && msg =~ "timeout"`: parsed and
/// type-checked once, then asked of records by a `ConditionMatcher`. Two are equal when they are written the same.
///
/// A comparison with a field that the record has not is false; `!=` and `!~` are the contrary of `==` and `=~`, and so
/// true. Numbers are compared as doubles; a string that reads as a number is one.
package struct LogCondition: Sendable, Equatable {
  /// Characters of a condition.
  package static let longest = 4096
  /// Comparisons and operators of a condition.
  package static let maximumNodes = 256
  /// Parentheses and negations within each other.
  package static let maximumDepth = 32

  /// Why a text is no condition.
  package struct Invalid: Error, Equatable, CustomStringConvertible {
    package var message: String
    package var wayOut: String
    /// In characters from the start of the text.
    package var offset: Int
    package var description: String { "\(message) at character \(offset + 1); \(wayOut)" }
  }

  enum Subject: Sendable {
    case level
    /// `message`, or `msg` where the record has no `message`.
    case message
    case field(FieldPath)
  }

  enum Literal: Sendable {
    case text([UInt8])
    case number(Double)
    case truth(Bool)
    case null
  }

  enum Question: Sendable {
    case exists
    case equals(Literal)
    case among([Literal])
    case contains([UInt8])
    case matches(RegularExpression)
    case number(from: Double, to: Double, openFrom: Bool, openTo: Bool)
    case level(from: LogLevel, to: LogLevel)
    case levels([LogLevel])
  }

  enum Node: Sendable {
    case both(Int, Int)
    case either(Int, Int)
    case not(Int)
    case test(Subject, Question)
  }

  package let text: String
  /// Operands stand before their operators; the last is the whole.
  let nodes: [Node]

  /// Throws with the place of the first fault.
  package init(_ text: String) throws(Invalid) {
    var parser = try ConditionParser(text)
    nodes = try parser.parse()
    self.text = text
  }

  package static func == (left: LogCondition, right: LogCondition) -> Bool { left.text == right.text }
}

/// Where a field stands: `http.status` is the member of that name, or else the member `status` of the member `http`.
package struct FieldPath: Sendable, Equatable {
  package let name: String
  /// As JSON writes it, without quotes.
  let key: [UInt8]
  /// The parts between dots, as JSON writes them; empty when there is no dot.
  let parts: [[UInt8]]

  package init(_ name: String) {
    func inside(_ text: some StringProtocol) -> [UInt8] { Array(JSONText.quoted(String(text)).dropFirst().dropLast()) }
    self.name = name
    key = inside(name)
    let pieces = name.split(separator: ".", maxSplits: 7)
    parts = pieces.count > 1 ? pieces.map { inside($0) } : []
  }
}
