/// The SRV records of a DNS answer (RFC 1035 section 4, RFC 2782), read strictly: whatever is not as it should be makes
/// the whole answer no answer.
package struct ServiceRecords: Sendable, Equatable {
  package struct Record: Sendable, Equatable {
    /// Without a dot at its end.
    package var target: String
    package var port: Int
    package var priority: Int
    package var weight: Int
    package init(target: String, port: Int, priority: Int, weight: Int) {
      self.target = target
      self.port = port
      self.priority = priority
      self.weight = weight
    }
  }

  package struct Problem: Error, Equatable, CustomStringConvertible {
    package var description: String
    init(_ description: String) { self.description = description }
  }

  /// In the order of the answer; empty = the service is said not to exist.
  package private(set) var records: [Record] = []
  /// Seconds until the first record expires, aliases included.
  package private(set) var lifetime: UInt32 = .max

  /// More records are an error.
  package static let limit = 1024

  package init(_ message: UnsafeRawBufferPointer) throws(Problem) {
    var cursor = Cursor(bytes: message)
    _ = try cursor.number()
    let flags = try cursor.number()
    // QR says that it is an answer; TC that some of it is missing; the last four bits are its code.
    guard flags & 0x8000 != 0 else { throw Problem("it is not an answer") }
    guard flags & 0x0200 == 0 else { throw Problem("it was cut short") }
    guard flags & 0x000F == 0 else { throw Problem("its code is \(flags & 0x000F)") }
    let questions = try cursor.number()
    let answers = try cursor.number()
    _ = try cursor.number()
    _ = try cursor.number()
    guard questions <= 1, answers <= Self.limit else { throw Problem("it holds too many records") }
    for _ in 0..<questions {
      _ = try cursor.name()
      try cursor.skip(4)
    }
    for _ in 0..<answers { try read(&cursor) }
  }

  private mutating func read(_ cursor: inout Cursor) throws(Problem) {
    _ = try cursor.name()
    let type = try cursor.number()
    let group = try cursor.number()
    let seconds = UInt32(try cursor.number()) << 16 | UInt32(try cursor.number())
    let length = try cursor.number()
    let end = cursor.position + length
    guard end <= cursor.bytes.count else { throw Problem("a record is longer than the answer") }
    if group == 1, type == 5 || type == 33 {
      // RFC 2181 section 8: the highest bit set means zero.
      lifetime = min(lifetime, seconds > UInt32(Int32.max) ? 0 : seconds)
    }
    if group == 1, type == 33 {
      let priority = try cursor.number()
      let weight = try cursor.number()
      let port = try cursor.number()
      let target = try cursor.name()
      guard cursor.position == end else { throw Problem("a record's length is wrong") }
      // RFC 2782: the root as a target says that there is no such service.
      if target.isEmpty { return }
      guard port > 0 else { throw Problem("a record has no port") }
      records.append(Record(target: target, port: port, priority: priority, weight: weight))
    }
    cursor.position = end
  }

  private struct Cursor {
    let bytes: UnsafeRawBufferPointer
    var position = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func skip(_ count: Int) throws(Problem) {
      guard position + count <= bytes.count else { throw Problem("it ends too early") }
      position += count
    }

    mutating func number() throws(Problem) -> Int {
      try skip(2)
      return Int(bytes[position - 2]) << 8 | Int(bytes[position - 1])
    }

    /// RFC 1035 section 4.1.4. Pointers lead backwards only, so that every name ends.
    mutating func name() throws(Problem) -> String {
      var name = ""
      var at = position
      var bound = position
      var end: Int?
      while true {
        guard at < bytes.count else { throw Problem("a name ends too early") }
        let length = Int(bytes[at])
        if length == 0 {
          position = end ?? at + 1
          return name
        }
        if length & 0xC0 == 0xC0 {
          guard at + 1 < bytes.count else { throw Problem("a name ends too early") }
          let target = (length & 0x3F) << 8 | Int(bytes[at + 1])
          guard target < bound else { throw Problem("a name points forwards") }
          end = end ?? at + 2
          bound = target
          at = target
          continue
        }
        guard length < 64, at + 1 + length <= bytes.count else { throw Problem("a name is broken") }
        let label = bytes[(at + 1)..<(at + 1 + length)]
        guard label.allSatisfy(Self.isAllowed) else { throw Problem("a name holds a character that no host has") }
        if !name.isEmpty { name += "." }
        name += String(decoding: label, as: UTF8.self)
        guard name.utf8.count <= 253 else { throw Problem("a name is too long") }
        at += 1 + length
      }
    }

    private static func isAllowed(_ octet: UInt8) -> Bool {
      switch octet {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F: true
      default: false
      }
    }
  }
}
