/// A record's members, found once and then looked up and changed; written anew only when something changed, each key
/// and value with its own bytes. Owned by one thread; keeps its memory from record to record.
package final class RecordFields {
  /// What a member is to the console, which shows the app's own bytes.
  enum Role { case envelope, added, message, own }

  struct Member {
    var key: Range<Int>
    var value: Range<Int>
    var role: Role
  }

  /// The record, and behind it the bytes of what was changed.
  let text = ByteArena()
  var members: [Member] = []
  var isChanged = false

  package init() {}

  var bytes: Bytes { text.bytes }

  /// False when the bytes are no JSON object. `mark` tells where the app's own bytes begin.
  package func load(_ record: Bytes, _ mark: RecordMark? = nil) -> Bool {
    text.removeAll()
    text.release(above: 256 << 10)
    text.append(record)
    members.removeAll(keepingCapacity: true)
    isChanged = false
    let body = mark?.body ?? 0
    let isJSON = mark?.kind ?? .json == .json
    return JSONScanner.object(text.bytes) { key, value in
      let role: Role =
        isJSON
        ? (key.lowerBound > body ? .own : .envelope)
        : value.lowerBound + 1 == body ? .message : value.lowerBound < body ? .envelope : .own
      members.append(Member(key: key, value: value, role: role))
    } != nil
  }

  /// The last member of that name, as those who read JSON take it.
  func last(_ key: [UInt8]) -> Int? {
    var index = members.count - 1
    while index >= 0 {
      let member = members[index]
      if member.key.count == key.count, bytes.part(member.key).elementsEqual(key) { return index }
      index -= 1
    }
    return nil
  }

  func value(_ path: FieldPath) -> Bytes? {
    if let index = last(path.key) { return bytes.part(members[index].value) }
    guard let first = path.parts.first, let index = last(first) else { return nil }
    var value = bytes.part(members[index].value)
    for part in path.parts.dropFirst() {
      var found: Bytes?
      guard
        JSONScanner.object(
          value,
          { key, inner in
            if key.count == part.count, value.part(key).elementsEqual(part) { found = value.part(inner) }
          }) != nil, let found
      else { return nil }
      value = found
    }
    return value
  }

  private static let message = Array("message".utf8), msg = Array("msg".utf8), level = Array("level".utf8)

  var message: Bytes? {
    (last(Self.message) ?? last(Self.msg)).map { bytes.part(members[$0].value) }
  }

  var level: LogLevel {
    guard let index = last(Self.level) else { return .unknown }
    let value = bytes.part(members[index].value)
    if value.count > 2, value[0] == 0x22 { return LogLevel(name: value.part(1..<value.count - 1)) ?? .unknown }
    return value.count <= 3 ? Int(value.text).flatMap { LogLevel(number: $0) } ?? .unknown : .unknown
  }

  // MARK: changes

  /// Keeps bytes for a key or a value.
  func keep(_ bytes: [UInt8]) -> Range<Int> {
    let start = text.count
    text.append(bytes)
    return start..<text.count
  }

  func keep(_ bytes: Bytes) -> Range<Int> {
    let start = text.count
    text.append(bytes)
    return start..<text.count
  }

  /// Adds a member before the app's own; `key` without quotes, as JSON writes it.
  func add(_ key: [UInt8], _ value: [UInt8]) {
    let member = Member(key: keep(key), value: keep(value), role: .added)
    members.insert(member, at: members.firstIndex { $0.role == .own } ?? members.count)
    isChanged = true
  }

  /// Writes the record with its LF, and tells the mark where the app's own bytes are now.
  func write(_ mark: RecordMark, into arena: ByteArena) -> RecordMark {
    var mark = mark
    let start = arena.count
    var body: Int?
    arena.append(0x7B as UInt8)
    for (index, member) in members.enumerated() {
      if index > 0 { arena.append(0x2C as UInt8) }
      if mark.kind == .json, member.role == .own, body == nil { body = arena.count - start }
      arena.append(0x22 as UInt8)
      arena.append(bytes.part(member.key))
      arena.append("\":")
      if member.role == .message { body = arena.count - start + 1 }
      arena.append(bytes.part(member.value))
    }
    mark.body = body ?? arena.count - start
    arena.append("}\n")
    return mark
  }
}
