/// One decoded field: its name's octets, then its value's, in the list's store.
struct DecodedField: Sendable {
  var start: UInt32
  var nameCount: UInt32
  var valueCount: UInt32
  var token: FieldToken
  var flags: FieldFlags
}

/// The limits of one field list.
package struct FieldListLimits: Sendable {
  /// Octets as RFC 9113 section 6.5.2 counts them: name, value and 32 for each field.
  package var octets: Int
  package var fields: Int
  package init(octets: Int = 64 << 10, fields: Int = 100) {
    self.octets = octets
    self.fields = fields
  }
}

/// The fields of one block. Reused from block to block: the storage stays.
package struct FieldList: ~Copyable {
  private var store = OctetStore(capacity: 2048)
  private(set) var fields = ContiguousArray<DecodedField>()
  package let limits: FieldListLimits
  /// The block holds more than the limits allow; what came after was decoded and dropped.
  package private(set) var isOverLimit = false
  /// So much came after the limit that decoding on costs more than the peer is worth: four times the octets.
  var isFarOverLimit: Bool { size > 4 &* limits.octets }
  private var used = 0
  private var tail = 0
  private var size = 0

  package init(limits: FieldListLimits = FieldListLimits()) {
    self.limits = limits
    fields.reserveCapacity(32)
  }

  package var count: Int { fields.count }

  mutating func removeAll() {
    fields.removeAll(keepingCapacity: true)
    isOverLimit = false
    used = 0
    tail = 0
    size = 0
  }

  @inline(__always)
  func name(_ field: DecodedField) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: store.base + Int(field.start), count: Int(field.nameCount))
  }

  @inline(__always)
  func value(_ field: DecodedField) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: store.base + Int(field.start &+ field.nameCount), count: Int(field.valueCount))
  }

  /// Room for `count` octets at the end; what is written there counts after `advance`.
  @inline(__always)
  mutating func reserve(_ count: Int) -> UnsafeMutablePointer<UInt8> {
    store.reserve(tail &+ count, keeping: tail)
    return store.base + tail
  }

  @inline(__always)
  mutating func advance(_ count: Int) { tail &+= count }

  @inline(__always)
  mutating func append(_ octets: UnsafeRawBufferPointer) {
    guard let base = octets.baseAddress, octets.count > 0 else { return }
    let room = reserve(octets.count)
    room.update(from: base.assumingMemoryBound(to: UInt8.self), count: octets.count)
    tail &+= octets.count
  }

  /// The octets written since the last field from `offset` on.
  @inline(__always)
  func pending(from offset: Int, count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: store.base + (used &+ offset), count: count)
  }

  @inline(__always)
  var pendingCount: Int { tail &- used }

  /// Counts a field that is dropped without having been written.
  @inline(__always)
  mutating func skip(_ octets: Int) { size &+= octets &+ 32 }

  /// Makes the octets written since the last field a field, or drops them when a limit is passed.
  @inline(__always)
  mutating func close(nameCount: Int, valueCount: Int, token: FieldToken, flags: FieldFlags) {
    size &+= nameCount &+ valueCount &+ 32
    if size > limits.octets || fields.count == limits.fields {
      isOverLimit = true
      tail = used
      return
    }
    fields.append(
      DecodedField(
        start: UInt32(truncatingIfNeeded: used), nameCount: UInt32(truncatingIfNeeded: nameCount),
        valueCount: UInt32(truncatingIfNeeded: valueCount), token: token, flags: flags))
    used = tail
  }
}
