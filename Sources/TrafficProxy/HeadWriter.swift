import HTTP1
import NIOCore
import Traffic
import Vocabulary

/// Rewrites heads from hop to hop: fields that stay are copied in whole runs, the rest is dropped or appended.
enum HeadWriter {
  /// The ids that a request goes on with.
  struct Identity {
    /// Our own, sent where the client gave none.
    var requestID: (UInt64, UInt64)
    var traceID: (UInt64, UInt64)
    /// The parent of the upstream's spans.
    var spanID: UInt64
    var isSampled: Bool
    /// The client's own field is forwarded instead.
    var keepsRequestID: Bool
    var keepsTrace: Bool
    /// The trace is the client's; what its vendors add goes on only then (W3C Trace Context section 3.3.1).
    var keepsTraceState: Bool
  }

  /// Octets that a head may take beyond those of its source: our own field names, ids, separators.
  private static let ownRoom = 512

  /// Writes the request head for the upstream into the loop's scratch buffer. The loop's parsed request is that of
  /// `bytes`; `host` is the Host field to send (nil = the client's), `client` the client's address for the forwarded
  /// fields (nil = they are left as they are), `isSecure` tells that it speaks TLS, `injected` rendered `Name: value` lines of secrets,
  /// `target` the whole new target; empty = what the route makes of the client's.
  static func request(
    _ loop: LoopState, _ bytes: UnsafeRawBufferPointer, _ route: CompiledRoute, _ identity: Identity, host: [UInt8]?,
    client: [UInt8]?, isSecure: Bool, injected: [UInt8], target: [UInt8]
  ) {
    // Moved out for the while: a copy would retain what it holds.
    var head = RequestHead()
    swap(&head, &loop.request)
    defer { swap(&head, &loop.request) }
    write(
      head, bytes, route, identity, host: host, client: client, isSecure: isSecure, injected: injected,
      target: target, to: &loop.scratch)
  }

  private static func write(
    _ head: borrowing RequestHead, _ bytes: UnsafeRawBufferPointer, _ route: CompiledRoute, _ identity: Identity,
    host: [UInt8]?, client: [UInt8]?, isSecure: Bool, injected: [UInt8],
    target rewritten: [UInt8], to out: inout ByteBuffer
  ) {
    let clientHost =
      (head.authority.count > 0 ? head.authority : head.table.value(head.table.host)).of(bytes)
    // The host may be written twice, a forwarded list is written anew.
    let room =
      2 * bytes.count + (host?.count ?? 0) + (client?.count ?? 0) + injected.count
      + route.requestEdits.appended.count + (route.rewritePrefix?.to.count ?? 0) + rewritten.count + ownRoom
    OctetWriter.append(to: &out, room: room) { out in
      out.bytes(head.methodText.of(bytes))
      out.octet(Octets.space)
      if rewritten.isEmpty { target(head, bytes, route, to: &out) } else { out.bytes(rewritten) }
      out.text(" HTTP/1.1\r\nHost: ")
      if let host { out.bytes(host) } else { out.bytes(clientHost) }
      out.text("\r\n")
      let isInbound = client != nil
      copyFields(head.table, bytes, edits: route.requestEdits, to: &out) { known in
        switch known {
        case .host: true
        case .forwardedFor, .forwardedProto, .forwardedHost: isInbound
        case .traceparent: !identity.keepsTrace
        case .tracestate: !identity.keepsTraceState
        case .requestID: !identity.keepsRequestID
        default: false
        }
      }
      if let client { forwarded(head.table, bytes, client, clientHost, isSecure, to: &out) }
      identify(identity, to: &out)
      if head.wantsUpgrade { upgrade(head.table, bytes, to: &out) }
      out.bytes(route.requestEdits.appended)
      out.bytes(injected)
      out.text("\r\n")
    }
  }

  @inline(__always)
  private static func identify(_ identity: Identity, to out: inout OctetWriter) {
    if !identity.keepsRequestID {
      out.text("X-Request-Id: ")
      out.hex(identity.requestID.0)
      out.hex(identity.requestID.1)
      out.text("\r\n")
    }
    if !identity.keepsTrace {
      out.text("traceparent: 00-")
      out.hex(identity.traceID.0)
      out.hex(identity.traceID.1)
      out.octet(0x2D)
      out.hex(identity.spanID)
      out.text(identity.isSampled ? "-01\r\n" : "-00\r\n")
    }
  }

  @inline(__always)
  private static func target(
    _ head: borrowing RequestHead, _ bytes: UnsafeRawBufferPointer, _ route: CompiledRoute, to out: inout OctetWriter
  ) {
    var path = head.path.of(bytes)
    if let rewrite = route.rewritePrefix {
      out.bytes(rewrite.to)
      path = rewrite.rest(path, pathCount: head.pathOnlyCount)
    } else if path.first != 0x2F, path.first != 0x2A {
      // An absolute target without a path (RFC 9112 section 3.2.1).
      out.octet(0x2F)
    }
    out.bytes(path)
  }

  private static func forwarded(
    _ table: borrowing FieldTable, _ bytes: UnsafeRawBufferPointer, _ clientAddress: [UInt8],
    _ clientHost: UnsafeRawBufferPointer, _ isSecure: Bool, to out: inout OctetWriter
  ) {
    out.text("X-Forwarded-For: ")
    if table.forwardedFor >= 0 {
      for field in table.fields {
        guard case .forwardedFor = field.known else { continue }
        out.bytes(field.value.of(bytes))
        out.text(", ")
      }
    }
    out.bytes(clientAddress)
    out.text(isSecure ? "\r\nX-Forwarded-Proto: https\r\n" : "\r\nX-Forwarded-Proto: http\r\n")
    if clientHost.count > 0 {
      out.text("X-Forwarded-Host: ")
      out.bytes(clientHost)
      out.text("\r\n")
    }
  }

  private static func upgrade(
    _ table: borrowing FieldTable, _ bytes: UnsafeRawBufferPointer, to out: inout OctetWriter
  ) {
    out.text("Connection: Upgrade\r\n")
    guard table.upgrade >= 0 else { return }
    out.text("Upgrade: ")
    out.bytes(table.value(table.upgrade).of(bytes))
    out.text("\r\n")
  }

  /// How the response head ends the client's connection.
  enum Persistence { case silent, close, keepAlive }

  /// Writes a response head for the client into the loop's scratch buffer. The loop's parsed response is that of
  /// `bytes`; `upgrades` keeps the upgrade fields of a 101.
  static func response(
    _ loop: LoopState, _ bytes: UnsafeRawBufferPointer, edits: CompiledEdits?, persistence: Persistence,
    unchunks: Bool, upgrades: Bool
  ) {
    var head = ResponseHead()
    swap(&head, &loop.response)
    defer { swap(&head, &loop.response) }
    write(head, bytes, edits, persistence, unchunks: unchunks, upgrades: upgrades, to: &loop.scratch)
  }

  private static func write(
    _ head: borrowing ResponseHead, _ bytes: UnsafeRawBufferPointer, _ edits: CompiledEdits?,
    _ persistence: Persistence, unchunks: Bool, upgrades: Bool, to out: inout ByteBuffer
  ) {
    let room = bytes.count + (edits?.appended.count ?? 0) + ownRoom
    OctetWriter.append(to: &out, room: room) { out in
      out.text("HTTP/1.1 ")
      out.bytes(UnsafeRawBufferPointer(rebasing: bytes[9..<12]))
      out.octet(Octets.space)
      out.bytes(head.reason.of(bytes))
      out.text("\r\n")
      copyFields(head.table, bytes, edits: edits, to: &out) { known in
        switch known {
        case .transferEncoding, .trailer: unchunks
        default: false
        }
      }
      if upgrades { upgrade(head.table, bytes, to: &out) }
      switch persistence {
      case .silent: break
      case .close: out.text("Connection: close\r\n")
      case .keepAlive: out.text("Connection: keep-alive\r\n")
      }
      if let edits { out.bytes(edits.appended) }
      out.text("\r\n")
    }
  }

  @inline(__always)
  private static func copyFields(
    _ table: borrowing FieldTable, _ bytes: UnsafeRawBufferPointer, edits: CompiledEdits?, to out: inout OctetWriter,
    drops: (KnownField) -> Bool
  ) {
    let looksAtNames = table.namesFields || !(edits?.drops.isEmpty ?? true)
    var run = table.fields.first?.name.start ?? 0
    var end = run
    var lengths = 0
    for field in table.fields {
      var dropped = false
      // Matched, not compared: `==` of another module's enum is a call.
      switch field.known {
      case .other: dropped = looksAtNames && isNamed(field, table, bytes, edits)
      case .contentLength:
        // A repeated equal length is sent once.
        dropped = lengths > 0
        lengths += 1
      case .transferEncoding: dropped = drops(.transferEncoding)
      default:
        dropped =
          field.known.isHopByHop || drops(field.known) || looksAtNames && isNamed(field, table, bytes, edits)
      }
      if dropped {
        if end > run { out.bytes(UnsafeRawBufferPointer(rebasing: bytes[run..<end])) }
        run = field.lineEnd
      }
      end = field.lineEnd
    }
    if end > run { out.bytes(UnsafeRawBufferPointer(rebasing: bytes[run..<end])) }
  }

  /// True when a Connection field or the configuration names this field as one to drop.
  private static func isNamed(
    _ field: HeadField, _ table: borrowing FieldTable, _ bytes: UnsafeRawBufferPointer, _ edits: CompiledEdits?
  ) -> Bool {
    let name = field.name.of(bytes)
    if table.namesFields, table.connectionNames(name, bytes) { return true }
    return edits?.drops.contains { drop in drop.withUnsafeBytes { Octets.equal(name, ignoringCase: $0) } } ?? false
  }
}
