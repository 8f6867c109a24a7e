import HTTP1
import NIOCore
import Traffic
import Vocabulary

/// Rewrites heads from hop to hop: fields that stay are copied in whole runs, the rest is dropped or appended.
enum HeadWriter {
  /// What a request head needs that is not in the received one.
  struct RequestContext {
    var route: CompiledRoute
    var isInbound: Bool
    /// The client's connection is in TLS.
    var isSecure: Bool
    /// The Host field to send; nil = the client's.
    var host: [UInt8]?
    var clientAddress: [UInt8]
    var exchange: Exchange
    /// Rendered `Name: value` lines of injected secrets.
    var injected: [UInt8]
  }

  /// Writes the request head for the upstream. `head` is the parse of `bytes`.
  static func request(
    _ head: RequestHead, _ bytes: UnsafeRawBufferPointer, _ context: RequestContext, to out: inout ByteBuffer
  ) {
    let route = context.route
    out.writeBytes(head.methodText.of(bytes))
    out.writeInteger(Octets.space)
    target(head, bytes, route, to: &out)
    out.writeStaticString(" HTTP/1.1\r\nHost: ")
    let clientHost =
      head.authority.count > 0
      ? head.authority.of(bytes)
      : head.table.host >= 0
        ? head.table.fields[head.table.host].value.of(bytes) : UnsafeRawBufferPointer(start: nil, count: 0)
    if let host = context.host { out.writeBytes(host) } else { out.writeBytes(clientHost) }
    out.writeStaticString("\r\n")
    copyFields(head.table, bytes, from: fieldsStart(head.table), edits: route.requestEdits, to: &out) { field in
      switch field.known {
      case .host: true
      case .forwardedFor, .forwardedProto, .forwardedHost: context.isInbound
      case .traceparent: context.exchange.traceIDText.count == 0
      case .requestID: context.exchange.requestIDText.count == 0
      default: false
      }
    }
    if context.isInbound { forwarded(head, bytes, context, clientHost, to: &out) }
    if context.exchange.requestIDText.count == 0 {
      out.writeStaticString("X-Request-Id: ")
      out.writeHex(context.exchange.requestID.0)
      out.writeHex(context.exchange.requestID.1)
      out.writeStaticString("\r\n")
    }
    if context.exchange.traceIDText.count == 0 {
      out.writeStaticString("traceparent: 00-")
      out.writeHex(context.exchange.traceID.0)
      out.writeHex(context.exchange.traceID.1)
      out.writeInteger(0x2D as UInt8)
      out.writeHex(context.exchange.requestID.0 | 1)
      out.writeStaticString("-01\r\n")
    }
    if head.wantsUpgrade { upgrade(head.table, bytes, to: &out) }
    out.writeBytes(route.requestEdits.appended)
    out.writeBytes(context.injected)
    out.writeStaticString("\r\n")
  }

  private static func fieldsStart(_ table: FieldTable) -> Int { table.fields.first?.name.start ?? 0 }

  private static func target(
    _ head: RequestHead, _ bytes: UnsafeRawBufferPointer, _ route: CompiledRoute, to out: inout ByteBuffer
  ) {
    var path = head.path.of(bytes)
    if let (from, to) = route.rewritePrefix {
      let cut = min(from, head.pathOnlyCount)
      out.writeBytes(to)
      path = UnsafeRawBufferPointer(rebasing: path[cut...])
      if to.isEmpty, path.first != 0x2F { out.writeInteger(0x2F as UInt8) }
    } else if path.first != 0x2F, path.first != 0x2A {
      // An absolute target without a path (RFC 9112 section 3.2.1).
      out.writeInteger(0x2F as UInt8)
    }
    out.writeBytes(path)
  }

  private static func forwarded(
    _ head: RequestHead, _ bytes: UnsafeRawBufferPointer, _ context: RequestContext,
    _ clientHost: UnsafeRawBufferPointer, to out: inout ByteBuffer
  ) {
    out.writeStaticString("X-Forwarded-For: ")
    for field in head.table.fields where field.known == .forwardedFor {
      out.writeBytes(field.value.of(bytes))
      out.writeStaticString(", ")
    }
    out.writeBytes(context.clientAddress)
    out.writeStaticString(
      context.isSecure ? "\r\nX-Forwarded-Proto: https\r\n" : "\r\nX-Forwarded-Proto: http\r\n")
    if clientHost.count > 0 {
      out.writeStaticString("X-Forwarded-Host: ")
      out.writeBytes(clientHost)
      out.writeStaticString("\r\n")
    }
  }

  private static func upgrade(_ table: FieldTable, _ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    out.writeStaticString("Connection: Upgrade\r\n")
    guard table.upgrade >= 0 else { return }
    out.writeStaticString("Upgrade: ")
    out.writeBytes(table.fields[table.upgrade].value.of(bytes))
    out.writeStaticString("\r\n")
  }

  /// How the response head ends the client's connection.
  enum Persistence { case silent, close, keepAlive }

  /// Writes a response head for the client. `upgrades` keeps the upgrade fields of a 101.
  static func response(
    _ head: ResponseHead, _ bytes: UnsafeRawBufferPointer, edits: CompiledEdits?, persistence: Persistence,
    unchunks: Bool, upgrades: Bool, to out: inout ByteBuffer
  ) {
    out.writeStaticString("HTTP/1.1 ")
    out.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[9..<12]))
    out.writeInteger(Octets.space)
    out.writeBytes(head.reason.of(bytes))
    out.writeStaticString("\r\n")
    copyFields(head.table, bytes, from: fieldsStart(head.table), edits: edits, to: &out) { field in
      unchunks && (field.known == .transferEncoding || field.known == .trailer)
    }
    if upgrades { upgrade(head.table, bytes, to: &out) }
    switch persistence {
    case .silent: break
    case .close: out.writeStaticString("Connection: close\r\n")
    case .keepAlive: out.writeStaticString("Connection: keep-alive\r\n")
    }
    if let edits { out.writeBytes(edits.appended) }
    out.writeStaticString("\r\n")
  }

  private static func copyFields(
    _ table: FieldTable, _ bytes: UnsafeRawBufferPointer, from start: Int, edits: CompiledEdits?,
    to out: inout ByteBuffer, drops: (HeadField) -> Bool
  ) {
    var run = start
    var end = start
    var lengths = 0
    for field in table.fields {
      var dropped = field.known != .other && (field.known.isHopByHop || drops(field))
      if field.known == .contentLength {
        // A repeated equal length is sent once.
        dropped = lengths > 0
        lengths += 1
      } else if !dropped, table.namesFields, field.known != .transferEncoding {
        dropped = table.connectionNames(field.name.of(bytes), bytes)
      }
      if !dropped, let edits, !edits.drops.isEmpty, field.known != .transferEncoding, field.known != .contentLength {
        let name = field.name.of(bytes)
        dropped = edits.drops.contains { drop in
          drop.withUnsafeBytes { Octets.equal(name, ignoringCase: $0) }
        }
      }
      if dropped {
        if end > run { out.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[run..<end])) }
        run = field.lineEnd
      }
      end = field.lineEnd
    }
    if end > run { out.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[run..<end])) }
  }
}
