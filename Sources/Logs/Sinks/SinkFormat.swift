/// What a sink's server said to a request.
package enum SinkAnswer: Sendable {
  /// An HTTP response. `retryAfter`: the wait that the server asks for.
  case reply(status: Int, retryAfter: Duration?, body: [UInt8])
  /// The records are acknowledged; there was nothing more to read.
  case acknowledged
  /// Nothing is known of what became of the request.
  case failed(String)
}

/// What an answer means for the records of its request.
package enum SinkJudgement: Sendable, Equatable {
  case stored
  /// One verdict for each record, in order.
  case items([BulkVerdict])
  /// The same again later.
  case again(String, after: Duration? = nil)
  /// Less at a time; one record alone is refused.
  case split(String)
  /// None of them will ever be taken as they are.
  case refused(String)
  /// Nothing will be taken until the configuration or a credential changes.
  case halt(String)
}

/// How records become a request, and what its answer means: all that tells one network sink from another.
package protocol SinkFormat: Sendable {
  /// True where the receiver keeps records in the order of their arrival, so that one request goes at a time.
  var keepsOrder: Bool { get }
  /// The request's body with the chosen records of a batch, in their order.
  func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8]
  /// `items` is the number of records in the request.
  func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement
}

extension SinkFormat {
  package var keepsOrder: Bool { false }
}

package enum SinkStatus {
  /// What an HTTP status means where the protocol says no more. A credential or an address may heal (401, 403, 404), the
  /// records are good; what the server calls malformed is looked for by halves.
  package static func judge(_ answer: SinkAnswer) -> SinkJudgement {
    switch answer {
    case .acknowledged: .stored
    case .failed(let problem): .again(problem)
    case .reply(let status, let after, let body):
      switch status {
      case 200..<300: .stored
      case 400, 411, 412, 413, 414, 415, 422, 431: .split(shown(status, body))
      default: .again(shown(status, body), after: after)
      }
    }
  }

  /// `503 the beginning of the body`
  package static func shown(_ status: Int, _ body: [UInt8]) -> String {
    let text = String(decoding: body.prefix(300), as: UTF8.self).unicodeScalars
    var line = "\(status)"
    if !text.isEmpty { line += " " }
    for scalar in text { line.unicodeScalars.append(scalar.value < 0x20 || scalar.value == 0x7F ? " " : scalar) }
    return line
  }
}

/// Records as they are: NDJSON, or one JSON array.
package struct JSONLinesFormat: SinkFormat {
  /// True: a JSON array; false: one record a line.
  package let isArray: Bool

  package init(isArray: Bool) { self.isArray = isArray }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    var body: [UInt8] = isArray ? [0x5B] : []
    body.reserveCapacity(chosen.reduce(2) { $0 + batch.items[$1].record.count + 1 })
    for (order, position) in chosen.enumerated() {
      if isArray {
        if order > 0 { body.append(0x2C) }
        body.append(contentsOf: batch.content(position))
      } else {
        body.append(contentsOf: batch.record(position))
      }
    }
    if isArray { body.append(0x5D) }
    return body
  }

  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement { SinkStatus.judge(answer) }
}
