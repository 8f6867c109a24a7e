import HTTP1
import NIOCore
import Traffic

/// gRPC calls: their deadline, their status, and errors as their clients understand them.
extension ExchangeDriver {
  /// Notes what the parsed request says of gRPC; `bytes` is its head.
  final func noteGRPC(_ bytes: UnsafeRawBufferPointer) {
    guard let type = value(of: "content-type", loop.request.table, bytes), GRPC.isContentType(type) else { return }
    exchange.isGRPC = true
    if let limit = value(of: "grpc-timeout", loop.request.table, bytes).flatMap({ GRPC.timeout($0) }) {
      let deadline = exchange.started.addingReportingOverflow(limit)
      exchange.grpcDeadline = deadline.overflow ? .max : deadline.partialValue
    }
  }

  /// Notes the status of a response that is nothing else, or of trailers; `table` was parsed from `bytes`.
  final func noteGRPCStatus(_ table: FieldTable, _ bytes: UnsafeRawBufferPointer) {
    if let status = value(of: "grpc-status", table, bytes).flatMap({ GRPC.status($0) }) { exchange.grpcStatus = status }
  }

  final func noteGRPCStatus(trailers: ByteBuffer) {
    trailers.withUnsafeReadableBytes { bytes in
      guard (try? loop.outgoingTrailers.parseTrailers(bytes)) != nil else { return }
      noteGRPCStatus(loop.outgoingTrailers, bytes)
    }
    note(failed: GRPC.isFailure(exchange.grpcStatus))
  }

  private func value(
    of name: StaticString, _ table: FieldTable, _ bytes: UnsafeRawBufferPointer
  ) -> UnsafeRawBufferPointer? {
    let name = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
    return table.first(named: name, bytes)?.value.of(bytes)
  }

  /// The status of the parsed response when it has no messages; below 0 = it has none.
  final func statusAlone(_ head: ByteBuffer) -> Int {
    head.withUnsafeReadableBytes { bytes in
      value(of: "grpc-status", loop.response.table, bytes).flatMap { GRPC.status($0) } ?? -1
    }
  }

  /// True when the parsed response is to be withheld for another try.
  final func withholdsGRPC(_ head: ByteBuffer) -> Bool {
    let status = statusAlone(head)
    guard status > 0, let policy = exchange.route?.compiled.policy, policy.mayRetry(grpcStatus: status) else {
      return false
    }
    return decide(.grpc(status)) != .giveUp
  }

  /// Why the parsed response is withheld.
  final func reasonToWithhold(_ head: ByteBuffer, status: Int) -> TryFailure {
    if exchange.isGRPC { return .grpc(statusAlone(head)) }
    return exchange.route?.compiled.policy.mayRetry(status: status) == true ? .status(status) : .marked(status)
  }

  /// An error of our own: a response of status 200 without messages, whose fields end the call.
  /// `status` is the HTTP status that stands for it, where the fault has none of its own.
  final func answerGRPC(_ fault: Fault, detail: String, status: Int? = nil) {
    exchange.status = 200
    exchange.grpcStatus = (status.map { GRPC.Status(http: $0) } ?? fault.grpcStatus).rawValue
    var fields = ByteBuffer()
    fields.writeString("Content-Type: application/grpc\r\ngrpc-status: \(exchange.grpcStatus)\r\n")
    fields.writeString("grpc-message: outrider: \(fault.reason): ")
    // Percent-encoded as the protocol asks for.
    for octet in detail.utf8 {
      if octet >= 32, octet < 127, octet != 0x25 {
        fields.writeInteger(octet)
      } else {
        fields.writeString(octet < 16 ? "%0" : "%")
        fields.writeString(String(octet, radix: 16, uppercase: true))
      }
    }
    fields.writeString("\r\nProxy-Status: outrider; error=\(fault.proxyError)\r\n")
    answer(status: 200, fields: Array(fields.readableBytesView), body: [])
  }

  /// The deadline passed while messages were coming: the call ends with a status.
  final func expireGRPC(_ now: UInt64) {
    let left = upstream
    upstream = nil
    left?.abandon()
    exchange.flag = Fault.routeTimeout.flag
    exchange.blame = Fault.routeTimeout.blame(toApp: exchange.route?.cluster?.shared.isApp ?? false)
    let text: StaticString = "grpc-status: 4\r\ngrpc-message: outrider: the call's deadline has passed\r\n\r\n"
    responseTrailers(ByteBuffer(staticString: text))
    responseEnded(delimited: true)
  }
}
