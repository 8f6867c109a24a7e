/// The Huffman code of RFC 7541 section 5.2.
enum Huffman {
  /// No code is shorter than five bits.
  static func largestDecodedCount(_ encoded: Int) -> Int { encoded * 8 / 5 }

  /// Decodes all of `input`; returns how many octets were written, or -1 when it is not valid: a padding that is
  /// longer than seven bits or not all ones, or the code of EOS. `output` has room for `largestDecodedCount`.
  static func decode(_ input: UnsafeRawBufferPointer, into output: UnsafeMutablePointer<UInt8>) -> Int {
    HuffmanTables.short.withUnsafeBufferPointer { short in
      var write = output
      var position = 0
      // The next bits, left-aligned; behind the `valid` first ones stand zeros or bits that are read again.
      var bits: UInt64 = 0
      var valid = 0
      while true {
        if position &+ 8 <= input.count {
          let word = UInt64(bigEndian: input.loadUnaligned(fromByteOffset: position, as: UInt64.self))
          bits |= word >> UInt64(valid)
          position &+= (63 &- valid) >> 3
          valid |= 56
        } else {
          while valid <= 56, position < input.count {
            bits |= UInt64(input[position]) << UInt64(56 &- valid)
            position &+= 1
            valid &+= 8
          }
        }
        let atEnd = position == input.count
        // A code has at most 30 bits.
        while valid >= 30 || atEnd {
          let entry = short[Int(bits >> 56)]
          if entry != 0 {
            let length = Int(entry >> 8)
            if length > valid { break }
            write.pointee = UInt8(truncatingIfNeeded: entry)
            write += 1
            bits <<= UInt64(length)
            valid &-= length
            continue
          }
          let (symbol, length) = longCode(UInt32(truncatingIfNeeded: bits >> 32))
          if length > valid { break }
          if length == 0 { return -1 }
          write.pointee = symbol
          write += 1
          bits <<= UInt64(length)
          valid &-= length
        }
        if atEnd {
          guard valid < 8, valid == 0 || ~bits >> UInt64(64 &- valid) == 0 else { return -1 }
          return write - output
        }
      }
    }
  }

  /// The octet whose code of more than eight bits `next` begins with; length 0 for EOS.
  private static func longCode(_ next: UInt32) -> (UInt8, Int) {
    for range in HuffmanTables.longLengths where next < range.end {
      let index = Int(range.symbols) + Int((next - range.first) >> UInt32(32 - range.length))
      return (HuffmanTables.longSymbols[index], Int(range.length))
    }
    return (0, 0)
  }

  /// How many octets `encode` writes.
  static func encodedCount(_ input: UnsafeRawBufferPointer) -> Int {
    HuffmanTables.lengths.withUnsafeBufferPointer { lengths in
      var bits = 0
      for octet in input { bits &+= Int(lengths[Int(octet)]) }
      return (bits &+ 7) >> 3
    }
  }

  /// Writes exactly `encodedCount(input)` octets and moves `output` behind them.
  static func encode(_ input: UnsafeRawBufferPointer, to output: inout UnsafeMutablePointer<UInt8>) {
    var write = output
    HuffmanTables.codes.withUnsafeBufferPointer { codes in
      HuffmanTables.lengths.withUnsafeBufferPointer { lengths in
        var bits: UInt64 = 0
        var count: UInt64 = 0
        for octet in input {
          bits = bits << UInt64(lengths[Int(octet)]) | UInt64(codes[Int(octet)])
          count &+= UInt64(lengths[Int(octet)])
          while count >= 8 {
            count &-= 8
            write.pointee = UInt8(truncatingIfNeeded: bits >> count)
            write += 1
          }
        }
        if count > 0 {
          write.pointee = UInt8(truncatingIfNeeded: bits << (8 &- count) | UInt64(0xFF as UInt8 >> UInt8(count)))
          write += 1
        }
      }
    }
    output = write
  }
}
