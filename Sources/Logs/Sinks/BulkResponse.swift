/// What an item of a `_bulk` request came to.
package enum BulkVerdict: Sendable, Equatable {
  /// Stored, now or before.
  case stored
  /// May succeed later: 429 and 5xx.
  case again(String)
  /// Will never succeed as it is.
  case refused(String)
}

/// Reads the answers of `_bulk` (Elasticsearch, "Bulk API", response body).
package enum BulkResponse {
  /// One verdict for each item in order; nil when the text is no bulk response or has another number of items, so that
  /// nothing is known about any.
  package static func parse(_ body: Bytes, items expected: Int, deterministicID: Bool) -> [BulkVerdict]? {
    var list: Range<Int>?
    guard UTF8Text.isValid(body),
      JSONScanner.object(body, { key, value in if body.part(key).equals("items") { list = value } }) != nil,
      let list
    else { return nil }
    let items = body.part(list)
    var verdicts: [BulkVerdict] = []
    verdicts.reserveCapacity(expected)
    var known = true
    let isArray = JSONScanner.array(items) { range in
      if let verdict = verdict(items.part(range), deterministicID) { verdicts.append(verdict) } else { known = false }
    }
    return isArray && known && verdicts.count == expected ? verdicts : nil
  }

  private static func verdict(_ item: Bytes, _ deterministicID: Bool) -> BulkVerdict? {
    var inner: Range<Int>?
    guard JSONScanner.object(item, { _, value in inner = value }) != nil, let inner else { return nil }
    let result = item.part(inner)
    var status: Int?
    var error: Range<Int>?
    guard
      JSONScanner.object(
        result,
        { key, value in
          if result.part(key).equals("status") { status = Int(result.part(value).text) }
          if result.part(key).equals("error") { error = value }
        }) != nil, let status
    else { return nil }
    switch status {
    case 200..<300: return .stored
    case 409 where deterministicID: return .stored
    case 429, 500...: return .again(reason(error.map { result.part($0) }, status))
    default: return .refused(reason(error.map { result.part($0) }, status))
    }
  }

  /// `400 mapper_parsing_exception: failed to parse field …`
  private static func reason(_ error: Bytes?, _ status: Int) -> String {
    guard let error else { return "\(status)" }
    if let text = JSONText.string(error) { return "\(status) \(text)" }
    var parts = "\(status)"
    _ = JSONScanner.object(error) { key, value in
      guard let text = JSONText.string(error.part(value)) else { return }
      if error.part(key).equals("type") { parts += " \(text)" }
      if error.part(key).equals("reason") { parts += ": \(text)" }
    }
    return String(parts.prefix(1000))
  }

  /// What the answer to a whole request means by its status alone.
  package enum Whole: Sendable, Equatable {
    /// Look at the items.
    case items
    /// Send the same again later.
    case again
    /// Send less at a time; one item alone is refused.
    case split
  }

  /// 401, 403, 404 and the like are tried again: a credential or an address may heal, the records are good.
  package static func whole(status: Int) -> Whole {
    switch status {
    case 200..<300: .items
    case 400, 411, 412, 413, 414, 415, 422, 431: .split
    default: .again
    }
  }

  /// A line of the dead-letter file: `{"reason":…,"sink":…,"time":…,"record":{…}}` and LF.
  package static func deadLetter(reason: String, sink: String, time: Int64, record: Bytes, into arena: ByteArena) {
    arena.append("{\"reason\":")
    arena.append(JSONText.quoted(reason))
    arena.append(",\"sink\":")
    arena.append(JSONText.quoted(sink))
    arena.append(",\"time\":\"")
    arena.append(text: LogTime.format(time))
    arena.append("\",\"record\":")
    var end = record.count
    while end > 0, record[end - 1] == 0x0A { end -= 1 }
    arena.append(record.part(0..<end))
    arena.append("}\n")
  }
}
