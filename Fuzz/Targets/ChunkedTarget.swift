import HTTP1

/// The chunked coding as RFC 9112 section 7.1 has it, decoded in the plainest way: the oracle.
enum PlainChunks {
  /// The content and where the body ends; nil when it is not a whole body.
  static func decode(_ bytes: UnsafeRawBufferPointer) -> (content: [UInt8], end: Int)? {
    var content: [UInt8] = []
    var position = 0
    func line() -> [UInt8]? {
      var text: [UInt8] = []
      while position + 1 < bytes.count {
        if bytes[position] == 13, bytes[position + 1] == 10 {
          position += 2
          return text
        }
        if bytes[position] == 13 || bytes[position] == 10 { return nil }
        text.append(bytes[position])
        position += 1
      }
      return nil
    }
    while true {
      guard let text = line() else { return nil }
      let digits = text.prefix { $0 != 59 }
      guard !digits.isEmpty, digits.allSatisfy({ isHex($0) }),
        let size = Int(String(decoding: digits, as: UTF8.self), radix: 16)
      else { return nil }
      if size == 0 { break }
      guard size <= bytes.count - position else { return nil }
      content += bytes[position..<(position + size)]
      position += size
      guard line() == [] else { return nil }
    }
    while true {
      guard let text = line() else { return nil }
      if text.isEmpty { return (content, position) }
      guard let colon = text.firstIndex(of: 58), colon > 0, !text[..<colon].contains(32) else { return nil }
    }
  }

  private static func isHex(_ octet: UInt8) -> Bool {
    (48...57).contains(octet) || (65...70).contains(octet) || (97...102).contains(octet)
  }
}

/// The chunked decoder alone: however the octets arrive, it takes the same, ends at the same place, and agrees with the
/// oracle.
enum ChunkedTarget {
  struct Result: Equatable {
    var taken = 0
    var content: [UInt8] = []
    var error: HeadError?
    var isComplete = false
  }

  static func check(_ input: UnsafeRawBufferPointer) -> String? {
    let splits = Splits(input)
    let stream = splits.stream
    let whole = read(stream, nil)
    let split = read(stream, splits)
    // What was taken of the call that threw is not told.
    if whole.error != split.error || whole.content != split.content || whole.isComplete != split.isComplete
      || whole.error == nil && whole.taken != split.taken
    {
      return "a body depends on how it arrives: \(whole) and \(split)"
    }
    let plain = PlainChunks.decode(stream)
    if whole.isComplete {
      guard let plain else { return "accepted what is no chunked body: \(stream.shown)" }
      if plain.end != whole.taken || plain.content != whole.content {
        return "another end or content than the oracle's"
      }
    } else if whole.error == nil, plain != nil {
      return "waits for more after a whole body"
    }
    return trailers(stream.part(0..<whole.taken), whole)
  }

  private static func read(_ stream: UnsafeRawBufferPointer, _ splits: Splits?) -> Result {
    var splits = splits
    var decoder = BodyDecoder(.chunked)
    var result = Result()
    var arrived = 0
    while arrived < stream.count, result.error == nil, !decoder.isComplete {
      let count = splits?.next(of: stream.count - arrived) ?? stream.count
      let piece = stream.part(arrived..<(arrived + count))
      arrived += count
      do throws(HeadError) {
        let taken = try decoder.consume(piece) { result.content += piece.part($0) }
        result.taken += taken
        // It is only at its end that a body leaves something.
        if taken < count, !decoder.isComplete { result.content += [0xDE, 0xAD] }
      } catch { result.error = error }
    }
    result.isComplete = decoder.isComplete
    return result
  }

  /// Trailers that the decoder accepted are what the field table accepts (HTTP/2 gets them from it).
  private static func trailers(_ body: UnsafeRawBufferPointer, _ result: Result) -> String? {
    guard result.isComplete else { return nil }
    var table = FieldTable()
    var start = body.count - 2
    // Back over whole lines to the line of the last chunk.
    while start > 0, !isLastChunk(body.part(0..<start)) { start -= 1 }
    do throws(HeadError) { try table.parseTrailers(body.part(start..<body.count)) } catch {
      return "trailers that only one reader accepts (\(error)): \(body.part(start..<body.count).shown)"
    }
    return nil
  }

  private static func isLastChunk(_ head: UnsafeRawBufferPointer) -> Bool {
    guard head.count >= 3, head[head.count - 1] == 10, head[head.count - 2] == 13 else { return false }
    // The body so far and an empty line are a whole body.
    let probe = Array(head) + [13, 10]
    return probe.withUnsafeBytes { PlainChunks.decode($0)?.end == probe.count }
  }
}
