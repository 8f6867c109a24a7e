import Traffic
import Vocabulary

/// What the first octets of a connection are.
enum ConnectionTargets {
  /// The first octet chooses the version.
  static func proxyHeader(_ input: UnsafeRawBufferPointer) -> String? {
    guard let first = input.first else { return nil }
    let version: ProxyHeader.Version = first & 1 == 0 ? .v1 : .v2
    let stream = input.part(1..<input.count)
    let whole = decode(stream, version)
    // A prefix is undecided, or decided as the whole is.
    for count in 0..<min(stream.count, 300) {
      let early = decode(stream.part(0..<count), version)
      if early == .success(.more) { continue }
      // Why it is refused may depend on how much is there.
      if case (.failure, .failure) = (early, whole) { continue }
      if early != whole { return "\(count) of \(stream.count) octets say \(early), all of them \(whole)" }
    }
    guard case .success(.header(let peers, let length)) = whole else { return nil }
    if length < 1 || length > stream.count { return "a header of \(length) octets in \(stream.count)" }
    if version == .v1, length > ProxyHeader.longestLine { return "a line of \(length) octets" }
    guard case .tcp = peers else { return nil }
    for version in ProxyHeader.Version.allCases {
      let written = ProxyHeader.encode(peers, version)
      let again = written.withUnsafeBytes { decode($0, version) }
      if again != .success(.header(peers, length: written.count)) {
        return "\(peers) written as \(version) is read as \(again)"
      }
    }
    return nil
  }

  private static func decode(
    _ bytes: UnsafeRawBufferPointer, _ version: ProxyHeader.Version
  ) -> Result<ProxyHeader.Decoded, ProxyHeader.Refusal> {
    do throws(ProxyHeader.Refusal) { return .success(try ProxyHeader.decode(bytes, version)) } catch {
      return .failure(error)
    }
  }

  static func detection(_ input: UnsafeRawBufferPointer) -> String? {
    let whole = DetectedProtocol(input)
    // HTTP/2 and TLS are told by their first octets, whatever follows.
    for count in 1..<max(1, min(input.count, 200)) {
      let early = DetectedProtocol(input.part(0..<count))
      if early == .http2 || early == .tls, early != whole { return "\(early) became \(whole)" }
    }
    let hello = ClientHello.read(input)
    for count in 0..<min(input.count, 200) {
      let early = ClientHello.read(input.part(0..<count))
      if early != .incomplete, early != hello { return "a ClientHello was \(early) and became \(hello)" }
    }
    return nil
  }
}
