/// MessagePack (github.com/msgpack/msgpack, spec.md) where it stands: values are passed over or written as JSON, nothing
/// is built. Strict: no unknown types; nesting and lengths are bounded by what is there.
package struct MessagePack {
  package static let maximumDepth = 64

  package enum Kind: Sendable, Equatable {
    case null
    case boolean(Bool)
    case integer(Int64)
    case unsigned(UInt64)
    case float(Double)
    /// Octets follow at `index`.
    case text(Int)
    case binary(Int)
    case extended(type: Int8, Int)
    /// So many values, or pairs of values, follow.
    case array(Int)
    case map(Int)
  }

  package enum Problem: Error, Sendable, Equatable { case incomplete, invalid }

  private let bytes: Bytes
  package private(set) var index: Int

  package init(_ bytes: Bytes, from index: Int = 0) {
    self.bytes = bytes
    self.index = index
  }

  /// Goes on at another place.
  package mutating func move(to index: Int) { self.index = index }

  package var isAtEnd: Bool { index >= bytes.count }

  /// Reads a value's head. Texts, binaries and extensions are passed by `take`.
  package mutating func head() throws(Problem) -> Kind {
    guard index < bytes.count else { throw .incomplete }
    let first = bytes[index]
    index += 1
    switch first {
    case 0x00...0x7F: return .integer(Int64(first))
    case 0x80...0x8F: return .map(Int(first & 15))
    case 0x90...0x9F: return .array(Int(first & 15))
    case 0xA0...0xBF: return .text(Int(first & 31))
    case 0xC0: return .null
    case 0xC2, 0xC3: return .boolean(first == 0xC3)
    case 0xC4...0xC6: return .binary(Int(try number(1 << Int(first - 0xC4))))
    case 0xC7...0xC9:
      let length = Int(try number(1 << Int(first - 0xC7)))
      return .extended(type: Int8(truncatingIfNeeded: try number(1)), length)
    case 0xCA: return .float(Double(Float(bitPattern: UInt32(try number(4)))))
    case 0xCB: return .float(Double(bitPattern: try number(8)))
    case 0xCC...0xCF: return .unsigned(try number(1 << Int(first - 0xCC)))
    case 0xD0: return .integer(Int64(Int8(truncatingIfNeeded: try number(1))))
    case 0xD1: return .integer(Int64(Int16(truncatingIfNeeded: try number(2))))
    case 0xD2: return .integer(Int64(Int32(truncatingIfNeeded: try number(4))))
    case 0xD3: return .integer(Int64(bitPattern: try number(8)))
    case 0xD4...0xD8: return .extended(type: Int8(truncatingIfNeeded: try number(1)), 1 << Int(first - 0xD4))
    case 0xD9...0xDB: return .text(Int(try number(1 << Int(first - 0xD9))))
    case 0xDC, 0xDD: return .array(Int(try number(first == 0xDC ? 2 : 4)))
    case 0xDE, 0xDF: return .map(Int(try number(first == 0xDE ? 2 : 4)))
    case 0xE0...0xFF: return .integer(Int64(Int8(bitPattern: first)))
    default: throw .invalid
    }
  }

  private mutating func number(_ count: Int) throws(Problem) -> UInt64 {
    guard bytes.count - index >= count else { throw .incomplete }
    var value: UInt64 = 0
    for _ in 0..<count {
      value = value << 8 | UInt64(bytes[index])
      index += 1
    }
    return value
  }

  /// The octets of a text, binary or extension whose head was read.
  package mutating func take(_ count: Int) throws(Problem) -> Bytes {
    guard bytes.count - index >= count else { throw .incomplete }
    defer { index += count }
    return bytes.part(index..<index + count)
  }

  /// Passes one value whole.
  package mutating func skip() throws(Problem) {
    // Values that are still to come, by depth: no recursion, so no input can exhaust the stack.
    var open = [1]
    while let last = open.indices.last {
      if open[last] == 0 {
        open.removeLast()
        continue
      }
      open[last] -= 1
      switch try head() {
      case .text(let count), .binary(let count), .extended(_, let count): _ = try take(count)
      case .array(let count):
        guard open.count <= Self.maximumDepth else { throw .invalid }
        open.append(count)
      case .map(let count):
        guard open.count <= Self.maximumDepth else { throw .invalid }
        open.append(2 * count)
      default: break
      }
    }
  }

  /// Writes the next value as JSON. Octets of texts and binaries stand as they are, escaped; what JSON cannot say (NaN,
  /// infinities, extensions) is `null`.
  package mutating func writeJSON(into arena: ByteArena, depth: Int = 0) throws(Problem) {
    guard depth <= Self.maximumDepth else { throw .invalid }
    switch try head() {
    case .null: arena.append("null")
    case .boolean(let value): arena.append(value ? "true" : "false")
    case .integer(let value): arena.append(text: String(value))
    case .unsigned(let value): arena.append(text: String(value))
    case .float(let value): value.isFinite ? arena.append(text: value.description) : arena.append("null")
    case .text(let count), .binary(let count):
      arena.append(0x22 as UInt8)
      JSONText.escape(try take(count), into: arena)
      arena.append(0x22 as UInt8)
    case .extended(_, let count):
      _ = try take(count)
      arena.append("null")
    case .array(let count):
      arena.append(0x5B as UInt8)
      for element in 0..<count {
        if element > 0 { arena.append(0x2C as UInt8) }
        try writeJSON(into: arena, depth: depth + 1)
      }
      arena.append(0x5D as UInt8)
    case .map(let count):
      arena.append(0x7B as UInt8)
      try writeMembers(count, into: arena, depth: depth)
      arena.append(0x7D as UInt8)
    }
  }

  /// Writes the pairs of a map whose head was read. Keys are texts, or numbers, which become texts.
  package mutating func writeMembers(_ count: Int, into arena: ByteArena, depth: Int = 0) throws(Problem) {
    for pair in 0..<count {
      if pair > 0 { arena.append(0x2C as UInt8) }
      switch try head() {
      case .text(let count), .binary(let count):
        arena.append(0x22 as UInt8)
        JSONText.escape(try take(count), into: arena)
        arena.append("\":")
      case .integer(let value): arena.append(text: "\"\(value)\":")
      case .unsigned(let value): arena.append(text: "\"\(value)\":")
      default: throw .invalid
      }
      try writeJSON(into: arena, depth: depth + 1)
    }
  }
}
