import HTTP1
import NIOCore
import Traffic

/// A `HashSource` made ready for requests.
enum CompiledHashSource: Sendable {
  case source
  case path
  case header([UInt8])
  case cookie([UInt8])
  case query([UInt8])

  init(_ source: HashSource) {
    self =
      switch source {
      case .source: .source
      case .path: .path
      case .header(let name): .header(Array(name.lowercased().utf8))
      case .cookie(let name): .cookie(Array(name.utf8))
      case .query(let name): .query(Array(name.utf8))
      }
  }
}

/// What the balancer learns from an exchange.
extension ExchangeDriver {
  private static let cookieField = Array("cookie".utf8)

  /// Where a try goes, to `excluded` only when there is no other; nil = there is no endpoint.
  final func chooseEndpoint(_ cluster: LoopCluster, excluding excluded: LoopEndpoint?, now: UInt64) -> LoopEndpoint? {
    guard let source = cluster.hashSource else { return cluster.pick(excluding: excluded, hash: nil, now: now) }
    return cluster.pick(excluding: excluded, hash: hash(of: source), now: now)
  }

  /// The hash of the request's key; nil = it has none.
  private func hash(of source: CompiledHashSource) -> UInt64? {
    if case .source = source {
      return clientAddress.isEmpty ? nil : clientAddress.withUnsafeBytes { XXHash64.hash($0) }
    }
    // Of octets that pass, nothing is read.
    if accept.isTCP || exchange.methodText.count == 0 { return nil }
    let isParsed = isHeadParsed
    return exchange.head.withUnsafeReadableBytes { bytes in
      key(source, bytes, isParsed: isParsed).map { XXHash64.hash($0) }
    }
  }

  private func key(
    _ source: CompiledHashSource, _ bytes: UnsafeRawBufferPointer, isParsed: Bool
  ) -> UnsafeRawBufferPointer? {
    let target = exchange.path.of(bytes)
    switch source {
    case .source: return nil
    case .path: return UnsafeRawBufferPointer(rebasing: target[..<exchange.pathOnlyCount])
    case .query(let name):
      guard exchange.pathOnlyCount < target.count else { return nil }
      let query = UnsafeRawBufferPointer(rebasing: target[(exchange.pathOnlyCount + 1)...])
      return name.withUnsafeBytes { RequestKey.query($0, in: query) }
    case .header(let name): return field(name, bytes, isParsed: isParsed)
    case .cookie(let name):
      guard let cookies = field(Self.cookieField, bytes, isParsed: isParsed) else { return nil }
      return name.withUnsafeBytes { RequestKey.cookie($0, in: cookies) }
    }
  }

  private func field(
    _ name: [UInt8], _ bytes: UnsafeRawBufferPointer, isParsed: Bool
  ) -> UnsafeRawBufferPointer? {
    // Another request of this loop may have been parsed since.
    if !isParsed, (try? loop.request.parse(bytes)) == nil { return nil }
    return name.withUnsafeBytes { loop.request.table.first(named: $0, bytes)?.value.of(bytes) }
  }

  /// The endpoint has not answered in time: that is its time, at least.
  final func noteSilence(_ now: UInt64) {
    guard upstream != nil, let endpoint = exchange.endpoint, exchange.route?.cluster?.timesResponses == true else {
      return
    }
    endpoint.latency.observe(now &- min(now, exchange.headDone), now: now)
  }
}
