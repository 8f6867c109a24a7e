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
        record(now)
      }
    }
    if hedge != nil { endHedge() }
    exchange = Exchange()
    tryDeadline = .max
    hedgeAt = .max
    backoffUntil = 0
    failedEndpoint = nil
    forcesNewConnection = false
  }

  private func record(_ now: UInt64) {
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
    loop.access.text("flags", exchange.flag)
    if let blame = exchange.blame { loop.access.text("blame", blame.rawValue.utf8) }
    loop.access.number("bytes_in", exchange.bytesIn)
    loop.access.number("bytes_out", exchange.bytesOut)
    loop.access.number("tries", UInt64(exchange.triesMade))
    loop.access.milliseconds("connect_ms", exchange.connectTime)
    if exchange.tlsTime > 0 { loop.access.milliseconds("tls_ms", exchange.tlsTime) }
    loop.access.milliseconds("first_byte_ms", exchange.firstByte > 0 ? exchange.firstByte &- exchange.started : 0)
    loop.access.milliseconds("total_ms", now &- exchange.started)
    loop.access.milliseconds("overhead_ms", exchange.overhead)
    loop.access.end()
    loop.accessChanged()
  }
}
