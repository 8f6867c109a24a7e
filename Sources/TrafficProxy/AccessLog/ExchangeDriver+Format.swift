import HTTP1
import NIOCore
import Traffic
import Vocabulary

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Access records by format.
extension ExchangeDriver {
  /// Notes the response fields that records want, while its parsed head is in `loop.response`.
  final func noteFields(_ head: ByteBuffer) {
    exchange.noted = head.withUnsafeReadableBytes { bytes in
      listener.compiled.notedFields.map { name in
        name.withUnsafeBytes { name in
          loop.response.table.first(named: name, bytes).map { Array($0.value.of(bytes).prefix(AccessFormat.longest)) }
            ?? []
        }
      }
    }
  }

  /// Writes what the format says into `out`; `quotes` for a text in JSON.
  final func write(_ format: AccessFormat, to out: inout ByteBuffer, json: Bool, _ now: UInt64) {
    // Fields that the format names are read from the head as it came.
    exchange.head.withUnsafeReadableBytes { if exchange.methodText.count > 0 { try? loop.request.parse($0) } }
    var value = ByteBuffer()
    for segment in format.segments {
      switch segment {
      case .literal(let bytes): if json { out.writeJSON(bytes) } else { out.writeBytes(bytes) }
      case .value(let wanted, let limit):
        value.clear()
        write(wanted, to: &value, now)
        if value.readableBytes == 0 {
          out.writeStaticString("-")
        } else {
          out.writeJSON(value.readableBytesView.prefix(limit))
        }
      }
    }
  }

  private func write(_ value: AccessFormat.Value, to out: inout ByteBuffer, _ now: UInt64) {
    switch value {
    case .simple(let named): write(named, to: &out, now)
    case .startTime(let format):
      let time = AccessLogWriter.wallClock(ago: now &- exchange.started)
      if let format { out.writeTime(time, format) } else { out.writeTime(time) }
    case .request(let part, let other):
      write(part, to: &out)
      if out.readableBytes == 0, let other { write(other, to: &out) }
    case .response(let name):
      if let index = listener.compiled.notedFields.firstIndex(of: name), index < exchange.noted.count {
        out.writeBytes(exchange.noted[index])
      }
    }
  }

  final func write(_ part: AccessFormat.RequestPart, to out: inout ByteBuffer) {
    guard exchange.methodText.count > 0 else { return }
    exchange.head.withUnsafeReadableBytes { bytes in
      switch part {
      case .method: out.writeBytes(exchange.methodText.of(bytes))
      case .path: out.writeBytes(recordedPath(bytes))
      case .scheme: out.writeStaticString(session == nil ? "http" : "https")
      case .authority:
        let authority =
          loop.request.authority.count > 0
          ? loop.request.authority : loop.request.table.value(loop.request.table.host)
        out.writeBytes(authority.of(bytes))
      case .field(let name):
        name.withUnsafeBytes { name in
          if let field = loop.request.table.first(named: name, bytes) { out.writeBytes(field.value.of(bytes)) }
        }
      }
    }
  }

  private func write(_ named: AccessOperator, to out: inout ByteBuffer, _ now: UInt64) {
    switch named {
    case .responseCode: out.writeDecimal(UInt64(exchange.status))
    case .responseFlags: writeFlags(to: &out)
    case .bytesReceived: out.writeDecimal(exchange.bytesIn)
    case .bytesSent: out.writeDecimal(exchange.bytesOut)
    case .duration: out.writeDecimal((now &- exchange.started) / 1_000_000)
    case .responseDuration:
      out.writeDecimal(exchange.firstByte > 0 ? (exchange.firstByte &- exchange.started) / 1_000_000 : 0)
    case .overhead: out.writeDecimal(exchange.overhead / 1000)
    case .protocolName: out.writeStaticString(spoken)
    case .upstreamHost: if let endpoint = exchange.endpoint { out.writeBytes(endpoint.text) }
    case .upstreamCluster: if let cluster = exchange.route?.cluster { out.writeBytes(cluster.nameBytes) }
    case .attempts: out.writeDecimal(UInt64(exchange.triesMade))
    case .routeName: if let route = exchange.route { out.writeBytes(route.nameBytes) }
    case .listenerName: out.writeBytes(listener.nameBytes)
    case .direction: out.writeStaticString(isInbound ? "inbound" : "outbound")
    case .remoteAddress, .remoteAddressAlone: out.writeBytes(clientAddress)
    case .tlsVersion: if let session { out.writeStaticString(session.version) }
    case .peer: if let session { out.writeBytes(session.peer) }
    case .traceID: writeTraceID(to: &out)
    case .requestID: writeRequestID(to: &out)
    case .blame: if let blame = exchange.blame { out.writeString(blame.rawValue) }
    case .grpcStatus: out.writeDecimal(UInt64(max(0, exchange.grpcStatus)))
    }
  }

  /// Envoy's response flags, with commas between them.
  final func writeFlags(to out: inout ByteBuffer) {
    out.writeStaticString(exchange.flag)
    guard exchange.isExhausted else { return }
    out.writeStaticString(exchange.flag.utf8CodeUnitCount > 0 ? ",URX" : "URX")
  }

  final func writeRequestID(to out: inout ByteBuffer) {
    if exchange.requestIDText.count > 0 {
      exchange.head.withUnsafeReadableBytes { _ = out.writeBytes(exchange.requestIDText.of($0)) }
    } else {
      out.writeHex(exchange.requestID.0)
      out.writeHex(exchange.requestID.1)
    }
  }

  final func writeTraceID(to out: inout ByteBuffer) {
    if exchange.traceIDText.count > 0 {
      exchange.head.withUnsafeReadableBytes { _ = out.writeBytes(exchange.traceIDText.of($0)) }
    } else {
      out.writeHex(exchange.traceID.0)
      out.writeHex(exchange.traceID.1)
    }
  }
}

extension ByteBuffer {
  /// Nanoseconds since 1970 as RFC 3339 in UTC with milliseconds.
  mutating func writeTime(_ time: Int64) {
    var text: [UInt8] = Array("%Y-%m-%dT%H:%M:%S.".utf8)
    text.append(0)
    writeTime(time, text)
    let milliseconds = Int(time % 1_000_000_000) / 1_000_000
    writeInteger(UInt8(48 + milliseconds / 100))
    writeInteger(UInt8(48 + milliseconds / 10 % 10))
    writeInteger(UInt8(48 + milliseconds % 10))
    writeStaticString("Z")
  }

  /// Nanoseconds since 1970 in UTC as a format of strftime(3) says, which ends with NUL; at most 256 octets.
  mutating func writeTime(_ time: Int64, _ format: [UInt8]) {
    var seconds = time_t(time / 1_000_000_000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 257) { room in
      let count = format.withUnsafeBufferPointer { format in
        format.withMemoryRebound(to: CChar.self) { format in
          guard let base = room.baseAddress, let text = format.baseAddress else { return 0 }
          return strftime(base, 257, text, &parts)
        }
      }
      writeBytes(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: room[..<count])))
    }
  }
}
