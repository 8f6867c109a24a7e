import HTTP1
import NIOCore
import Telemetry
import Traffic
import Vocabulary

/// Telling the story of a request.
extension ExchangeDriver {
  /// A try has failed.
  final func noteTry(_ failure: TryFailure, _ fault: Fault, _ detail: String) {
    var noted = ExchangeStory.Try(
      endpoint: exchange.endpoint, began: exchange.tryBegan, ended: NIODeadline.now().uptimeNanoseconds, fault: fault,
      detail: detail)
    switch failure {
    case .status(let status), .marked(let status): noted.status = status
    case .grpc(let status): noted.detail = "gRPC status \(status)"
    case .connect, .reset, .refused, .timeout: break
    }
    (lead ?? self).exchange.story.note(noted)
  }

  /// The exchange ends because the client is gone, or because this proxy ends.
  final func noteCut() {
    guard exchange.flag.utf8CodeUnitCount == 0 else { return }
    exchange.flag = loop.isClosing ? "LR" : "DC"
    exchange.blame = loop.isClosing ? .sidecar : .client
  }

  private var hasFailed: Bool { exchange.blame != nil || exchange.status >= 500 }

  /// Whether this exchange's story is kept.
  @inline(__always)
  final func isTold(_ now: UInt64) -> Bool {
    if exchange.triesMade > 1 || hasFailed || now &- exchange.started >= loop.stories.slow { return true }
    return loop.stories.isTurn()
  }

  /// Keeps the story: the record, and what came before.
  final func tell(_ now: UInt64) {
    var id = ByteBuffer()
    writeRequestID(to: &id)
    var text = recordText(now)
    // Goes on inside the record's braces: `}` and LF are the last octets.
    text.moveWriterIndex(to: text.writerIndex - 2)
    if let fault = exchange.story.fault {
      let toApp = exchange.route?.cluster?.shared.isApp ?? false
      text.writeMember("details", exchange.story.detail)
      text.writeMember("hint", "\(fault.hint(toApp: toApp))")
    }
    text.writeMember("kept", hasFailed ? "error" : exchange.triesMade > 1 ? "retried" : isSlow(now) ? "slow" : "sample")
    writeRoutes(to: &text)
    writeTries(to: &text, now)
    text.writeStaticString("}")
    loop.stories.add(id: id.readableBytesView, time: now, isFailure: hasFailed, text: text.readableBytesView)
  }

  private func isSlow(_ now: UInt64) -> Bool { now &- exchange.started >= loop.stories.slow }

  /// Routes that were looked at, in order; the last one took the request.
  private func writeRoutes(to out: inout ByteBuffer) {
    out.writeStaticString(",\"routes\":[")
    let taken = listener.routes.firstIndex { $0 === exchange.route }
    let looked = taken.map { listener.routes[...$0] } ?? listener.routes[...]
    for (index, route) in looked.suffix(64).enumerated() {
      out.writeStaticString(index > 0 ? ",\"" : "\"")
      out.writeJSON(route.nameBytes)
      out.writeStaticString("\"")
    }
    out.writeStaticString("]")
  }

  private func writeTries(to out: inout ByteBuffer, _ now: UInt64) {
    out.writeStaticString(",\"attempts\":[")
    var isFirst = true
    for failed in exchange.story.tries {
      write(failed, isFirst, to: &out)
      isFirst = false
    }
    if exchange.story.failed < exchange.triesMade {
      let hasResponse = exchange.firstByte > 0
      out.writeStaticString(isFirst ? "" : ",")
      out.beginTry(
        exchange.endpoint, exchange.tryBegan &- exchange.started,
        (hasResponse ? exchange.firstByte : now) &- exchange.started)
      if hasResponse {
        out.writeString(",\"outcome\":\"response\",\"status\":\(exchange.status)}")
      } else {
        out.writeMember("outcome", exchange.story.fault.map { "\($0.reason)" } ?? "\(exchange.flag)")
        out.writeMember("details", exchange.story.detail)
        out.writeStaticString("}")
      }
    }
    out.writeStaticString("]")
  }

  private func write(_ failed: ExchangeStory.Try, _ isFirst: Bool, to out: inout ByteBuffer) {
    out.writeStaticString(isFirst ? "" : ",")
    out.beginTry(failed.endpoint, failed.began &- exchange.started, failed.ended &- exchange.started)
    if failed.status > 0 {
      out.writeString(",\"outcome\":\"response\",\"status\":\(failed.status)")
    } else {
      out.writeMember("outcome", "\(failed.fault.reason)")
    }
    out.writeMember("details", failed.detail)
    out.writeStaticString("}")
  }
}

extension ByteBuffer {
  fileprivate mutating func writeMember(_ name: StaticString, _ value: String) {
    writeStaticString(",\"")
    writeStaticString(name)
    writeStaticString("\":\"")
    writeJSON(value.utf8)
    writeStaticString("\"")
  }

  /// Times are nanoseconds since the request's first byte.
  fileprivate mutating func beginTry(_ endpoint: LoopEndpoint?, _ start: UInt64, _ end: UInt64) {
    writeStaticString("{\"endpoint\":\"")
    if let endpoint { writeJSON(endpoint.text) }
    writeStaticString("\",\"start_ms\":")
    writeMilliseconds(start)
    writeStaticString(",\"end_ms\":")
    writeMilliseconds(end)
  }
}

extension TrafficProxy {
  /// The stories of that request, or of the newest `limit` requests that failed, newest first: JSON objects.
  package func stories(of id: String?, limit: Int) async -> [String] {
    let now = NIODeadline.now().uptimeNanoseconds
    var found: [StoryRing.Story] = []
    for worker in workers {
      let state = worker.state
      let some = try? await worker.eventLoop.submit { () -> [StoryRing.Story] in
        let ring = state.value.stories.ring
        if let id { return ring.stories(of: Array(id.utf8), now: now) }
        return ring.failures(limit: limit, now: now)
      }.get()
      found += some ?? []
    }
    return found.sorted { $0.time > $1.time }.prefix(limit).map { String(decoding: $0.text, as: UTF8.self) }
  }
}
