/// Why a block cannot be decoded (RFC 7541): the connection's compression state is lost, so each is a connection
/// error of type COMPRESSION_ERROR.
package enum HPACKError: Error, Sendable, Equatable {
  case truncated, integerTooLarge, indexOutOfRange, invalidHuffman
  case sizeUpdateAfterField, sizeUpdateTooLarge, missingSizeUpdate
  /// The list is four times as large as the limit: it is not decoded to its end.
  case listTooLarge
}

/// Decodes field blocks (RFC 7541). One per connection and direction.
package struct HPACKDecoder: ~Copyable {
  private var table: DynamicTable
  /// SETTINGS_HEADER_TABLE_SIZE as the encoder has acknowledged it.
  private var maximum: Int
  private var needsUpdate = false

  /// `maximum` is SETTINGS_HEADER_TABLE_SIZE before any settings: 4,096.
  package init(maximum: Int = 4096) {
    self.maximum = maximum
    table = DynamicTable(capacity: maximum)
  }

  var tableSize: Int { table.size }

  /// Our SETTINGS_HEADER_TABLE_SIZE was acknowledged. If it is less than what the table may hold, the next block has
  /// to begin with a size update (RFC 7541 section 4.2).
  package mutating func setMaximum(_ octets: Int) {
    maximum = octets
    if table.capacity > octets { needsUpdate = true }
  }

  /// Decodes a whole block into `list`, which is emptied first. A list over its limits is decoded to the end all the
  /// same, because the table has to follow.
  package mutating func decode(_ block: UnsafeRawBufferPointer, into list: inout FieldList) throws(HPACKError) {
    list.removeAll()
    var position = 0
    var isStart = true
    while position < block.count {
      let first = block[position]
      if first & 0x80 != 0 {
        if needsUpdate { throw .missingSizeUpdate }
        let index = first & 0x7F != 0x7F ? Self.short(first & 0x7F, &position) : try Self.integer(7, block, &position)
        try copy(index, into: &list)
      } else if first & 0xE0 == 0x20 {
        guard isStart else { throw .sizeUpdateAfterField }
        let size = try Self.integer(5, block, &position)
        guard size <= maximum else { throw .sizeUpdateTooLarge }
        table.setCapacity(size)
        needsUpdate = false
        continue
      } else {
        if needsUpdate { throw .missingSizeUpdate }
        try literal(first, block, &position, into: &list)
      }
      isStart = false
      if list.isOverLimit, list.isFarOverLimit { throw .listTooLarge }
    }
  }

  @inline(__always)
  private static func short(_ value: UInt8, _ position: inout Int) -> Int {
    position &+= 1
    return Int(value)
  }

  /// An indexed field (RFC 7541 section 6.1).
  @inline(__always)
  private mutating func copy(_ index: Int, into list: inout FieldList) throws(HPACKError) {
    if index > StaticTable.count {
      let age = index &- StaticTable.count &- 1
      guard age < table.count else { throw .indexOutOfRange }
      let entry = table.entry(table.next &- 1 &- age)
      if list.isOverLimit {
        list.skip(Int(entry.nameCount &+ entry.valueCount))
        return
      }
      list.append(table.nameAndValue(entry))
      list.close(
        nameCount: Int(entry.nameCount), valueCount: Int(entry.valueCount), token: entry.token, flags: entry.flags)
      return
    }
    guard index > 0 else { throw .indexOutOfRange }
    let entry = StaticTable.entry(index)
    list.append(StaticTable.name(entry))
    list.append(StaticTable.value(entry))
    list.close(
      nameCount: Int(entry.nameCount), valueCount: Int(entry.valueCount), token: entry.token,
      flags: [.validName, .validValue])
  }

  /// A literal of any of the three kinds (RFC 7541 section 6.2).
  private mutating func literal(
    _ first: UInt8, _ block: UnsafeRawBufferPointer, _ position: inout Int, into list: inout FieldList
  ) throws(HPACKError) {
    let isIndexed = first & 0xC0 == 0x40
    let index = try Self.integer(isIndexed ? 6 : 4, block, &position)
    var token: FieldToken
    var flags: FieldFlags = !isIndexed && first & 0x10 != 0 ? [.neverIndexed] : []
    if index == 0 {
      try Self.string(block, &position, into: &list)
      let name = list.pending(from: 0, count: list.pendingCount)
      token = FieldToken.find(name)
      if FieldRules.isName(name, token) { flags.insert(.validName) }
    } else if index <= StaticTable.count {
      let entry = StaticTable.entry(index)
      list.append(StaticTable.name(entry))
      token = entry.token
      flags.insert(.validName)
    } else {
      let age = index - StaticTable.count - 1
      guard age < table.count else { throw .indexOutOfRange }
      let entry = table.entry(table.next - 1 - age)
      list.append(table.name(entry))
      token = entry.token
      flags.formUnion(entry.flags.intersection(.validName))
    }
    let nameCount = list.pendingCount
    try Self.string(block, &position, into: &list)
    let valueCount = list.pendingCount - nameCount
    let value = list.pending(from: nameCount, count: valueCount)
    if FieldRules.isValue(value) { flags.insert(.validValue) }
    if isIndexed {
      table.insert(list.pending(from: 0, count: nameCount), value, token: token, flags: flags)
    }
    list.close(nameCount: nameCount, valueCount: valueCount, token: token, flags: flags)
  }

  /// RFC 7541 section 5.1; at most four octets after the prefix, which is far above every limit.
  static func integer(
    _ prefix: Int, _ block: UnsafeRawBufferPointer, _ position: inout Int
  ) throws(HPACKError) -> Int {
    guard position < block.count else { throw .truncated }
    let mask = 1 << prefix - 1
    var value = Int(block[position]) & mask
    position &+= 1
    if value < mask { return value }
    var shift = 0
    while true {
      guard position < block.count else { throw .truncated }
      let octet = block[position]
      position &+= 1
      value &+= Int(octet & 0x7F) << shift
      if octet & 0x80 == 0 { return value }
      shift &+= 7
      if shift == 28 { throw .integerTooLarge }
    }
  }

  /// RFC 7541 section 5.2.
  private static func string(
    _ block: UnsafeRawBufferPointer, _ position: inout Int, into list: inout FieldList
  ) throws(HPACKError) {
    guard position < block.count else { throw .truncated }
    let isHuffman = block[position] & 0x80 != 0
    let count = try integer(7, block, &position)
    guard count <= block.count &- position else { throw .truncated }
    let octets = UnsafeRawBufferPointer(rebasing: block[position..<(position &+ count)])
    position &+= count
    if isHuffman {
      let room = list.reserve(Huffman.largestDecodedCount(count))
      let written = Huffman.decode(octets, into: room)
      if written < 0 { throw .invalidHuffman }
      list.advance(written)
    } else {
      list.append(octets)
    }
  }
}
