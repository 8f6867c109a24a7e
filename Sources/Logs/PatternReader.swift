package import RegularExpressions

/// Makes fields of a line with an expression's named groups. Owned by one thread because of the workspace.
package final class PatternReader {
  /// Of one match, so that no line takes long.
  package static let steps = 100_000
  package static let mostGroups = 64
  package static let longestSubject = 64 << 10
  private let expression: RegularExpression
  private let workspace: MatchWorkspace
  private let names: [(index: Int, key: [UInt8])]

  package init(_ expression: RegularExpression) {
    self.expression = expression
    workspace = MatchWorkspace(steps: Self.steps, longest: Self.longestSubject, groups: Self.mostGroups)
    names = expression.names.map { ($0.index, JSONText.quoted($0.name)) }
  }

  /// Appends the named groups that took part as one JSON object of strings; `message` is the whole line unless a group
  /// has that name. False when the line does not match, is longer than 64 KiB, or the search took too long.
  package func write(_ line: Bytes, into arena: ByteArena) -> Bool {
    guard UTF8Text.isValid(line), case .matched = expression.match(line, workspace) else { return false }
    var isFirst = true
    func member(_ key: [UInt8], _ value: Bytes) {
      arena.append(isFirst ? 0x7B as UInt8 : 0x2C)
      isFirst = false
      arena.append(key)
      arena.append(":\"")
      JSONText.escape(value, into: arena)
      arena.append(0x22 as UInt8)
    }
    if !names.contains(where: { $0.key == Self.message }) { member(Self.message, line) }
    for (index, key) in names {
      if let range = workspace.group(index) { member(key, line.part(range)) }
    }
    if isFirst { arena.append(0x7B as UInt8) }
    arena.append(0x7D as UInt8)
    return true
  }

  private static let message = JSONText.quoted("message")
}
