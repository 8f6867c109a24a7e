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
      listener.overhead.recordAsOwner(exchange.overhead)
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
    var text = ByteBuffer()
    swap(&text, &loop.access.lines)
    record(now, with: listener.compiled.accessForm.fields)
    swap(&text, &loop.access.lines)
    return text
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
    loop.access.begin(ago: now &- exchange.started)
    exchange.head.withUnsafeReadableBytes { bytes in
      if exchange.requestIDText.count > 0 {
        loop.access.text("request_id", exchange.requestIDText.of(bytes))
      } else {
        loop.access.hex("request_id", exchange.requestID)
      }
      if exchange.traceIDText.count > 0 {
        loop.access.text("trace_id", exchange.traceIDText.of(bytes))
      } else {
        loop.access.hex("trace_id", exchange.traceID)
      }
      loop.access.text("listener", listener.nameBytes)
      loop.access.text("direction", isInbound ? "inbound" as StaticString : "outbound")
      loop.access.text("client", clientAddress)
      if let route = exchange.route {
        loop.access.text("route", route.nameBytes)
        if let cluster = route.cluster { loop.access.text("cluster", cluster.nameBytes) }
      }
      if let endpoint = exchange.endpoint { loop.access.text("endpoint", endpoint.text) }
      if let session {
        loop.access.text("tls", session.version)
        if !session.peer.isEmpty { loop.access.text("peer", session.peer) }
      }
      if exchange.methodText.count > 0 {
        loop.access.text("method", exchange.methodText.of(bytes))
        loop.access.text("path", recordedPath(bytes))
        loop.access.text("protocol", spoken)
      }
    }
    loop.access.number("status", UInt64(exchange.status))
    if exchange.grpcStatus >= 0 { loop.access.number("grpc_status", UInt64(exchange.grpcStatus)) }
    if exchange.isExhausted {
      var flags = ByteBuffer()
      writeFlags(to: &flags)
      loop.access.text("flags", flags.readableBytesView)
    } else {
      loop.access.text("flags", exchange.flag)
    }
    if let blame = exchange.blame { loop.access.text("blame", blame.rawValue.utf8) }
    if let fault = exchange.story.fault { loop.access.text("reason", fault.reason) }
    loop.access.number("bytes_in", exchange.bytesIn)
    loop.access.number("bytes_out", exchange.bytesOut)
    loop.access.number("tries", UInt64(exchange.triesMade))
    loop.access.milliseconds("head_ms", exchange.headTime)
    loop.access.milliseconds("route_ms", exchange.routeTime)
    loop.access.milliseconds("pool_ms", exchange.poolTime)
    loop.access.milliseconds("connect_ms", exchange.connectTime)
    loop.access.milliseconds("tls_ms", exchange.tlsTime)
    loop.access.milliseconds("first_byte_ms", exchange.firstByte > 0 ? exchange.firstByte &- exchange.started : 0)
    loop.access.milliseconds("last_byte_ms", exchange.firstByte > 0 ? now &- exchange.started : 0)
    loop.access.milliseconds("total_ms", now &- exchange.started)
    loop.access.milliseconds("overhead_ms", exchange.overhead)
    for field in fields {
      var text = ByteBuffer()
      write(field.format, to: &text, json: true, now)
      loop.access.member(field.name, text, quoted: !field.format.isNumber)
    }
    loop.access.end()
  }
}
