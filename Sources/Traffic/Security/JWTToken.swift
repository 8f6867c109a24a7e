import Vocabulary

/// Signature algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1). Those with a shared secret, and `none`, are not among
/// them: a verifier that takes both kinds can be made to take a public key for a secret.
package enum JWTAlgorithm: String, Sendable, CaseIterable {
  case rs256 = "RS256"
  case rs384 = "RS384"
  case rs512 = "RS512"
  case ps256 = "PS256"
  case ps384 = "PS384"
  case ps512 = "PS512"
  case es256 = "ES256"
  case es384 = "ES384"
  case edDSA = "EdDSA"
}

/// Why a token is not taken. Says which check failed, never anything of the token.
package enum JWTFailure: Error, Sendable, Equatable, CaseIterable {
  case missing, repeated, tooLong, malformed, algorithm, critical
  case unknownKey, signature
  case noExpiry, expired, notYetValid, issuedInFuture, issuer, audience
  /// No keys could be loaded yet: the token may be good.
  case noKeys

  package var description: String {
    switch self {
    case .missing: "the request carries no token"
    case .repeated: "the request carries more than one token in one place"
    case .tooLong: "the token is longer than 8 KiB, or its header than 2 KiB"
    case .malformed: "what stands in the token's place is no signed JWT"
    case .algorithm: "the token's algorithm is not allowed"
    case .critical: "the token's header asks for an extension that is not known"
    case .unknownKey: "no key of the key set has the token's key id and algorithm"
    case .signature: "the token's signature is not valid"
    case .noExpiry: "the token does not say when it expires"
    case .expired: "the token has expired"
    case .notYetValid: "the token is not valid yet"
    case .issuedInFuture: "the token was issued in the future; do the clocks agree?"
    case .issuer: "the token is of another issuer"
    case .audience: "the token is meant for another audience"
    case .noKeys: "the key set has not been loaded (yet)"
    }
  }
}

/// A token in compact form, taken apart (RFC 7515 section 7.1). Nothing of it is verified.
package struct JWTToken: Sendable {
  /// Octets of a token, and of its header's text, at most.
  package static let limit = 8192
  package static let headerLimit = 2048

  package let algorithm: JWTAlgorithm
  package let keyID: String?
  /// What the signature is over: header and payload as they were sent.
  package let signed: [UInt8]
  /// Decoded, not yet looked into.
  package let payload: [UInt8]
  package let signature: [UInt8]

  package init(_ text: [UInt8]) throws(JWTFailure) {
    guard text.count <= Self.limit else { throw .tooLong }
    let parts = text.split(separator: 0x2E, maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, !parts[1].isEmpty else { throw .malformed }
    guard parts[0].count <= Self.headerLimit else { throw .tooLong }
    guard let headerText = Base64URL.decode(parts[0]), let payload = Base64URL.decode(parts[1]),
      let signature = Base64URL.decode(parts[2]), let header = try? JSONParser.parse(headerText),
      case .object = header
    else { throw .malformed }
    // RFC 7515 section 4.1.11: what is critical and not understood makes the token invalid.
    guard header["crit"] == nil else { throw .critical }
    guard let name = header["alg"]?.string else { throw .malformed }
    guard let algorithm = JWTAlgorithm(rawValue: name) else { throw .algorithm }
    if let keyID = header["kid"] {
      guard case .string(let text) = keyID else { throw .malformed }
      self.keyID = text
    } else {
      keyID = nil
    }
    self.algorithm = algorithm
    signed = Array(text[..<parts[1].endIndex])
    self.payload = payload
    self.signature = signature
  }
}

/// RFC 4648 section 5 without padding: one spelling for each value.
enum Base64URL {
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    var standard: [UInt8] = []
    standard.reserveCapacity(text.count)
    for octet in text {
      switch octet {
      case 0x2D: standard.append(0x2B)
      case 0x5F: standard.append(0x2F)
      case 0x2B, 0x2F: return nil
      default: standard.append(octet)
      }
    }
    return Base64Text.decode(standard)
  }
}
