import Crypto
import Foundation
import Synchronization
import Telemetry
import Traffic

@testable import TrafficProxy

/// Signs tokens with keys of its own, and publishes those keys.
final class Issuer: Sendable {
  private let key = P256.Signing.PrivateKey()
  let name: String

  init(_ name: String = "k1") { self.name = name }

  static func base64(_ octets: some Sequence<UInt8>) -> String {
    Data(octets).base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
      .replacingOccurrences(of: "=", with: "")
  }

  /// A token for an hour with these further claims.
  func token(_ claims: String = "\"sub\":\"ann\"", issuer: String = "https://issuer", age: Int = 0) throws -> String {
    let expiry = Int(Date().timeIntervalSince1970) + 3600 - age
    let header = "{\"alg\":\"ES256\",\"kid\":\"\(name)\"}"
    let signed =
      Self.base64(header.utf8) + "." + Self.base64("{\"iss\":\"\(issuer)\",\"exp\":\(expiry),\(claims)}".utf8)
    return signed + "." + Self.base64(try key.signature(for: Data(signed.utf8)).rawRepresentation)
  }

  var webKey: String {
    let raw = key.publicKey.rawRepresentation
    return """
      {"kty":"EC","crv":"P-256","kid":"\(name)","x":"\(Self.base64(raw.prefix(32)))","y":"\(Self.base64(raw.suffix(32)))"}
      """
  }

  static func keySet(_ issuers: [Issuer]) -> String { "{\"keys\":[\(issuers.map(\.webKey).joined(separator: ","))]}" }
}

/// A file of the test's own, removed at the end.
final class KeyFile: Sendable {
  let path = "/tmp/outrider-keys-\(UUID().uuidString).json"
  deinit { unlink(path) }

  func write(_ text: String) throws {
    let fresh = path + ".new"
    try Data(text.utf8).write(to: URL(fileURLWithPath: fresh))
    rename(fresh, path)
  }
}

extension JWTConfiguration {
  static func of(_ keys: Keys) -> JWTConfiguration { JWTConfiguration(issuer: "https://issuer", keys: keys) }
}

extension Harness {
  /// One request on a connection of its own.
  func ask(_ path: String = "/", _ fields: String = "", method: String = "GET") -> (
    status: Int, head: String, body: String
  ) {
    let client = Wire.connect(port)
    defer { client.close() }
    client.send(get(path, fields, method: method))
    guard let reply = client.message() else { return (0, "", "") }
    return (Int(reply.head.split(separator: " ")[1]) ?? 0, reply.head, reply.body)
  }

  func ask(_ path: String = "/", token: String) -> (status: Int, head: String, body: String) {
    ask(path, "Authorization: Bearer \(token)\r\n")
  }

  func metric(_ start: String) -> Double {
    for line in metrics.prometheusText().split(separator: "\n") where line.hasPrefix(start) {
      return line.split(separator: " ").last.flatMap { Double($0) } ?? -1
    }
    return -1
  }
}
