import Crypto
import Vocabulary

/// A certification request for a new P-256 key (PKCS #10, RFC 2986), signed with ECDSA and SHA-256.
package struct SigningRequest: Sendable {
  /// PKCS #8, PEM.
  package let privateKey: String
  /// PEM.
  package let text: String

  /// A fresh key each time. `ipSANs` that are no address are left to the server to refuse.
  package init(_ request: CertificateRequest) throws(VaultFailure) {
    let key = P256.Signing.PrivateKey()
    let information = Self.information(request, Array(key.publicKey.derRepresentation))
    guard let signature = try? key.signature(for: information) else {
      throw .malformed("the signing request for \(request.commonName) cannot be signed")
    }
    let algorithm = DER.sequence(DER.ecdsaWithSHA256)
    let whole = DER.sequence(
      information + algorithm + DER.element(0x03, [0] + Array(signature.derRepresentation)))
    text = Self.pem("CERTIFICATE REQUEST", whole)
    privateKey = key.pemRepresentation
  }

  /// RFC 2986 section 4.1: version 0, the subject, the public key, and the names as a requested extension.
  private static func information(_ request: CertificateRequest, _ publicKey: [UInt8]) -> [UInt8] {
    let name = DER.sequence(DER.commonName + DER.element(0x0C, Array(request.commonName.utf8)))
    let subject = DER.sequence(DER.element(0x31, name))
    // RFC 5280 section 4.2.1.6: [1] mail, [2] DNS, [6] URI, [7] address.
    var names: [UInt8] = []
    for alt in request.altNames { names += DER.element(alt.contains("@") ? 0x81 : 0x82, Array(alt.utf8)) }
    for uri in request.uriSANs { names += DER.element(0x86, Array(uri.utf8)) }
    for ip in request.ipSANs { if let octets = octets(ip) { names += DER.element(0x87, octets) } }
    var attributes: [UInt8] = []
    if !names.isEmpty {
      let extensions = DER.sequence(
        DER.sequence(DER.subjectAltName + DER.element(0x04, DER.sequence(names))))
      attributes = DER.sequence(DER.extensionRequest + DER.element(0x31, extensions))
    }
    return DER.sequence([0x02, 0x01, 0x00] + subject + publicKey + DER.element(0xA0, attributes))
  }

  private static func octets(_ address: String) -> [UInt8]? {
    IPAddress(address)?.octets
  }

  private static func pem(_ label: String, _ bytes: [UInt8]) -> String {
    let text = Base64Text.encode(bytes, padded: true)
    var lines = ["-----BEGIN \(label)-----"]
    for start in stride(from: 0, to: text.count, by: 64) {
      lines.append(String(decoding: text[start..<min(start + 64, text.count)], as: UTF8.self))
    }
    return lines.joined(separator: "\n") + "\n-----END \(label)-----\n"
  }
}

/// What a signing request needs of the distinguished encoding rules (X.690).
private enum DER {
  /// 2.5.4.3
  static let commonName: [UInt8] = [0x06, 0x03, 0x55, 0x04, 0x03]
  /// 2.5.29.17
  static let subjectAltName: [UInt8] = [0x06, 0x03, 0x55, 0x1D, 0x11]
  /// 1.2.840.113549.1.9.14
  static let extensionRequest: [UInt8] = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x0E]
  /// 1.2.840.10045.4.3.2
  static let ecdsaWithSHA256: [UInt8] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02]

  static func sequence(_ content: [UInt8]) -> [UInt8] { element(0x30, content) }

  static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
    var length: [UInt8] = []
    if content.count < 0x80 {
      length = [UInt8(content.count)]
    } else {
      var rest = content.count
      while rest > 0 {
        length.insert(UInt8(rest & 0xFF), at: 0)
        rest >>= 8
      }
      length.insert(0x80 | UInt8(length.count), at: 0)
    }
    return [tag] + length + content
  }
}
