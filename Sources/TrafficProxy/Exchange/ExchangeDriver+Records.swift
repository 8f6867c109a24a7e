import HTTP1
import NIOCore
import Resilience
import Synchronization
import Telemetry
import Traffic
import Vocabulary

/// Counting and recording.
extension ExchangeDriver {
  // MARK: Records

  /// Counts and records the exchange, and makes room for the next.
  func finishExchange(_ now: UInt64) {
    if isShadow { return }
    if exchange.mirror != nil { sendMirror(now) }
    let compiled = listener.compiled
    if let passage = exchange.passage { passage.cancel() }
    loop.shared.addInFlight(compiled.direction, -1)
    if let cluster = exchange.route?.cluster {
      if exchange.countsAsRequest { cluster.shared.requests.wrappingSubtract(1, ordering: .relaxed) }
      if exchange.countsAsRetry { cluster.shared.retries.wrappingSubtract(1, ordering: .relaxed) }
    }
    if exchange.status >= 500, exchange.blame == nil { exchange.blame = isInbound ? .app : .upstream }
    if !accept.isTCP {
      (exchange.route?.stats ?? listener.noRoute).count(status: exchange.status, blame: exchange.blame)
      if exchange.status != 101, !exchange.isConnect {
        listener.duration.recordAsOwner(now &- exchange.started)
      }
      loop.responseLeaves(listener, overhead: exchange.overhead, now)
    }
    if loop.access.isWanted, compiled.sample >= 0 {
      let isError = exchange.blame != nil || exchange.status >= 500
      if isError || compiled.sample >= 1 || Double(loop.random.next() >> 11) * 0x1p-53 < compiled.sample {
        log(now)
      }
    }
    if loop.access.isTapped { tap(now) }
    if loop.stories.isOn, isTold(now) { tell(now) }
    if exchange.isSampled { trace(now) }
    if hedge != nil { endHedge() }
    exchange = Exchange()
    tryDeadline = .max
    hedgeAt = .max
    backoffUntil = 0
    failedEndpoint = nil
    forcesNewConnection = false
  }

  /// Shows the exchange to those who watch and want it.
  private func tap(_ now: UInt64) {
    let subject = exchange.head.withUnsafeReadableBytes { bytes in
      TapFilter.Subject(
        status: exchange.status, listener: listener.nameBytes, route: exchange.route?.nameBytes ?? [],
        cluster: exchange.route?.cluster?.nameBytes ?? [],
        blame: (exchange.blame?.rawValue).map { Array($0.utf8) } ?? [],
        method: Array(exchange.methodText.of(bytes)), path: Array(exchange.path.of(bytes)),
        duration: now &- exchange.started)
    }
    let taps = loop.shared.events.taps.current.filter { $0.filter.takes(subject) }
    guard !taps.isEmpty else { return }
    let text = recordText(now)
    text.withUnsafeReadableBytes { line in
      for tap in taps { tap.offer(line) }
    }
  }

  /// The record as JSON, apart from the log.
  func recordText(_ now: UInt64) -> ByteBuffer {
    let mark = loop.access.pendingBytes
    record(now, with: listener.compiled.accessForm.fields)
    return loop.access.take(since: mark)
  }

  /// Writes the record for the log, in the listener's form.
  private func log(_ now: UInt64) {
    let form = listener.compiled.accessForm
    if let line = form.line {
      var text = ByteBuffer()
      write(line, to: &text, json: false, now)
      text.writeStaticString("\n")
      loop.access.lines.writeImmutableBuffer(text)
    } else {
      record(now, with: form.fields)
    }
    loop.accessChanged()
  }

  /// The record as JSON, ended by LF.
  private func record(_ now: UInt64, with fields: [AccessForm.Field]) {
    exchange.head.withUnsafeReadableBytes { bytes in
      let path = recordedPath(bytes)
      let texts =
        exchange.requestIDText.count + exchange.traceIDText.count + clientAddress.count
        + (exchange.endpoint?.text.count ?? 0) + (session?.peer.count ?? 0) + exchange.methodText.count + path.count
      let names = listener.recordText.count + (exchange.route?.recordText.count ?? 0)
      // All keys with the longest numbers and words take 748.
      loop.access.begin(ago: now &- exchange.started, room: 1024 + names + 6 * texts) { out in
        writeSubject(to: &out, bytes, path)
        writeOutcome(to: &out, now)
      }
    }
    for field in fields {
      var text = ByteBuffer()
      write(field.format, to: &text, json: true, now)
      loop.access.member(field.name, text, quoted: !field.format.isNumber)
    }
    loop.access.finish()
  }

  /// Who asked for what, and where it went.
  private func writeSubject(
    to out: inout OctetWriter, _ bytes: UnsafeRawBufferPointer, _ path: UnsafeRawBufferPointer
  ) {
    if exchange.requestIDText.count > 0 {
      out.member("request_id", exchange.requestIDText.of(bytes))
    } else {
      out.member("request_id", exchange.requestID)
    }
    if exchange.traceIDText.count > 0 {
      out.member("trace_id", exchange.traceIDText.of(bytes))
    } else {
      out.member("trace_id", exchange.traceID)
    }
    out.bytes(listener.recordText)
    out.member("client", clientAddress)
    if let route = exchange.route { out.bytes(route.recordText) }
    if let endpoint = exchange.endpoint { out.member("endpoint", endpoint.text) }
    if let session {
      out.member("tls", session.version)
      if !session.peer.isEmpty { out.member("peer", session.peer) }
    }
    if exchange.methodText.count > 0 {
      out.member("method", exchange.methodText.of(bytes))
      out.member("path", path)
      out.member("protocol", spoken)
    }
  }

  /// What became of it, and what took how long.
  private func writeOutcome(to out: inout OctetWriter, _ now: UInt64) {
    out.member("status", UInt64(exchange.status))
    if exchange.grpcStatus >= 0 { out.member("grpc_status", UInt64(exchange.grpcStatus)) }
    out.text(",\"flags\":\"")
    out.text(exchange.flag)
    if exchange.isExhausted { out.text(exchange.flag.utf8CodeUnitCount > 0 ? ",URX" : "URX") }
    out.octet(0x22)
    if let blame = exchange.blame { out.member("blame", Array(blame.rawValue.utf8)) }
    if let fault = exchange.story.fault { out.member("reason", fault.reason) }
    out.member("bytes_in", exchange.bytesIn)
    out.member("bytes_out", exchange.bytesOut)
    out.member("tries", UInt64(exchange.triesMade))
    out.member("head_ms", nanoseconds: exchange.headTime)
    out.member("route_ms", nanoseconds: exchange.routeTime)
    out.member("pool_ms", nanoseconds: exchange.poolTime)
    out.member("connect_ms", nanoseconds: exchange.connectTime)
    out.member("tls_ms", nanoseconds: exchange.tlsTime)
    out.member("first_byte_ms", nanoseconds: exchange.firstByte > 0 ? exchange.firstByte &- exchange.started : 0)
    out.member("last_byte_ms", nanoseconds: exchange.firstByte > 0 ? now &- exchange.started : 0)
    out.member("total_ms", nanoseconds: now &- exchange.started)
    out.member("overhead_ms", nanoseconds: exchange.overhead)
  }
}
