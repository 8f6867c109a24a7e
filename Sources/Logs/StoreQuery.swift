package import RegularExpressions

/// What `outrider logs` asks of the local store. Times are nanoseconds since 1970, `since` included, `until` not.
package struct StoreQuery: Sendable, Equatable {
  package var since: Int64?
  package var until: Int64?
  /// The lowest level shown; records without a level are left out when it is set.
  package var level: LogLevel?
  /// A PCRE2 expression, sought in the record and in its decoded message.
  package var grep: String?
  package var source: String?
  package var requestID: String?
  package var condition: LogCondition?
  /// The newest so many records; nil = all.
  package var limit: Int?
  /// Goes on with records as they are appended.
  package var follow: Bool

  package init(
    since: Int64? = nil, until: Int64? = nil, level: LogLevel? = nil, grep: String? = nil, source: String? = nil,
    requestID: String? = nil, condition: LogCondition? = nil, limit: Int? = nil, follow: Bool = false
  ) {
    self.since = since
    self.until = until
    self.level = level
    self.grep = grep
    self.source = source
    self.requestID = requestID
    self.condition = condition
    self.limit = limit
    self.follow = follow
  }
}

/// A query made ready to test records. Owned by one thread.
package final class StoreFilter {
  private let query: StoreQuery
  private let since: [UInt8]?
  private let until: [UInt8]?
  private let expression: RegularExpression?
  private let source: [UInt8]?
  private let matcher: ConditionMatcher?
  private let arena = ByteArena()
  private let workspace = MatchWorkspace(steps: 1_000_000)

  package init(_ query: StoreQuery) throws(RegularExpression.Invalid) {
    self.query = query
    since = query.since.map { Array(LogTime.format($0).utf8.prefix(23)) }
    until = query.until.map { Array(LogTime.format($0).utf8.prefix(23)) }
    if let grep = query.grep { expression = try RegularExpression(grep) } else { expression = nil }
    source = query.source.map { JSONText.quoted($0) }
    matcher = query.condition.map { ConditionMatcher($0) }
  }

  private static let head: StaticString = "{\"@timestamp\":\""

  /// `record` is a line of the store without its LF.
  package func accepts(_ record: Bytes) -> Bool {
    let start = Self.head.utf8CodeUnitCount
    let plain = record.count > start + 24 && record.part(0..<start).equals(Self.head)
    if plain, since != nil || until != nil {
      // RFC 3339 in UTC with a fixed number of digits sorts as text.
      let stamp = record.part(start..<start + 23)
      if let since, stamp.lexicographicallyPrecedes(since) { return false }
      if let until, !stamp.lexicographicallyPrecedes(until) { return false }
    }
    if let expression, !matches(expression, record) { return false }
    let needsTime = !plain && (since != nil || until != nil)
    if let matcher, !matcher.matches(record) { return false }
    guard needsTime || query.level != nil || source != nil || query.requestID != nil else { return true }
    return membersAccept(record, needsTime: needsTime)
  }

  private func matches(_ expression: RegularExpression, _ record: Bytes) -> Bool {
    if case .matched = expression.match(record, workspace) { return true }
    guard record.firstOffset(of: 0x5C) != nil else { return false }
    arena.removeAll()
    JSONText.unescape(record, into: arena)
    if case .matched = expression.match(arena.bytes, workspace) { return true }
    return false
  }

  private func membersAccept(_ record: Bytes, needsTime: Bool) -> Bool {
    var level = LogLevel.unknown
    var time: Int64?
    var isSource = false
    var ours = false
    var isRequest = false
    _ = JSONScanner.object(record) { key, value in
      let name = record.part(key)
      let text = record.part(value)
      switch name.count {
      case 5 where name.equals("level"):
        level =
          text.count > 2 && text[0] == 0x22
          ? LogLevel(name: text.part(1..<text.count - 1)) ?? .unknown
          : Int(text.text).flatMap { LogLevel(number: $0) } ?? .unknown
      case 6 where name.equals("source"):
        if let source, !ours { isSource = text.elementsEqual(source) }
      case 15 where name.equals("outrider.source"):
        ours = true
        if let source { isSource = text.elementsEqual(source) }
      case 10 where name.equals("request_id") || name.equals("@timestamp"):
        if name[0] == 0x72, let wanted = query.requestID { isRequest = isRequest || JSONText.string(text) == wanted }
        if name[0] == 0x40, text.count > 2 { time = LogTime.parse(text.part(1..<text.count - 1)) }
      case 12 where name.equals("x-request-id"), 9 where name.equals("requestId"),
        18 where name.equals("observed_timestamp"):
        if let wanted = query.requestID { isRequest = isRequest || JSONText.string(text) == wanted }
        if name.count == 18, time == nil, text.count > 2 { time = LogTime.parse(text.part(1..<text.count - 1)) }
      default: break
      }
    }
    if let wanted = query.level, level < wanted { return false }
    if source != nil, !isSource { return false }
    if let wanted = query.requestID, !isRequest, !contains(record, wanted) { return false }
    if needsTime {
      guard let time else { return query.since == nil }
      if let since = query.since, time < since { return false }
      if let until = query.until, time >= until { return false }
    }
    return true
  }

  /// A text line that mentions the id belongs to the request too.
  private func contains(_ record: Bytes, _ text: String) -> Bool {
    let wanted = Array(text.utf8)
    guard wanted.count >= 8, record.count >= wanted.count else { return false }
    var at = 0
    while let hit = record.firstOffset(of: wanted[0], from: at), hit + wanted.count <= record.count {
      if record.part(hit..<hit + wanted.count).elementsEqual(wanted) { return true }
      at = hit + 1
    }
    return false
  }
}
