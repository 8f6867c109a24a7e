import Crypto
import CryptoExtras
import FoundationEssentials
import Vocabulary

/// Public keys that tokens are verified with (RFC 7517 section 5).
package struct JSONWebKeySet: Sendable {
  /// Octets of a set's text, and keys in it, at most.
  package static let limit = 256 << 10
  package static let mostKeys = 100
  /// Keys that are tried for a token that does not name one.
  private static let mostTries = 4

  package struct Problem: Error, Equatable, CustomStringConvertible {
    package var description: String
  }

  private enum Material: Sendable {
    case rsa(_RSA.Signing.PublicKey)
    case p256(P256.Signing.PublicKey)
    case p384(P384.Signing.PublicKey)
    case ed25519(Curve25519.Signing.PublicKey)
  }

  private struct Key: Sendable {
    var id: String?
    /// Nil = every one of its kind.
    var algorithm: JWTAlgorithm?
    var material: Material
  }

  private var keys: [Key] = []

  package var count: Int { keys.count }

  /// Keys of other kinds and for other uses are left out, as RFC 7517 section 5 asks; a key that is of a known kind and
  /// broken, or a set without a usable key, is an error.
  package init(_ text: [UInt8]) throws(Problem) {
    guard text.count <= Self.limit else { throw Problem(description: "the key set is larger than 256 KiB") }
    let root: JSONNode
    do { root = try JSONParser.parse(text) } catch {
      throw Problem(description: "the key set is not JSON: \(error)")
    }
    guard case .array(let nodes)? = root["keys"] else {
      throw Problem(description: "the key set has no list `keys`")
    }
    guard nodes.count <= Self.mostKeys else {
      throw Problem(description: "the key set has more than \(Self.mostKeys) keys")
    }
    for (index, node) in nodes.enumerated() {
      if let key = try Self.key(node, "key \(index + 1) of the key set") { keys.append(key) }
    }
    guard !keys.isEmpty else {
      throw Problem(description: "the key set has no key that signatures can be verified with")
    }
  }

  private static func key(_ node: JSONNode, _ name: String) throws(Problem) -> Key? {
    if let use = node["use"]?.string, use != "sig" { return nil }
    if case .array(let operations)? = node["key_ops"], !operations.contains(where: { $0.string == "verify" }) {
      return nil
    }
    var algorithm: JWTAlgorithm?
    if let text = node["alg"]?.string {
      // It is for something else.
      guard let known = JWTAlgorithm(rawValue: text) else { return nil }
      algorithm = known
    }
    let curve = node["crv"]?.string
    let material: Material
    do {
      switch (node["kty"]?.string, curve) {
      case ("RSA", _):
        let (n, e) = (try part("n", node, name), try part("e", node, name))
        guard n.count <= 1025, e.count <= 8 else { throw Problem(description: "\(name): its numbers are too large") }
        material = .rsa(try _RSA.Signing.PublicKey(n: n, e: e))
      case ("EC", "P-256"):
        material = .p256(try P256.Signing.PublicKey(rawRepresentation: point(32, node, name)))
      case ("EC", "P-384"):
        material = .p384(try P384.Signing.PublicKey(rawRepresentation: point(48, node, name)))
      case ("OKP", "Ed25519"):
        material = .ed25519(try Curve25519.Signing.PublicKey(rawRepresentation: part("x", node, name)))
      default: return nil
      }
    } catch let problem as Problem {
      throw problem
    } catch {
      throw Problem(description: "\(name) is not a valid public key of its kind (RSA keys have 2048 bits or more)")
    }
    return Key(id: node["kid"]?.string, algorithm: algorithm, material: material)
  }

  private static func part(_ member: String, _ node: JSONNode, _ name: String) throws(Problem) -> [UInt8] {
    guard let text = node[member]?.string, let octets = Base64URL.decode(text.utf8), !octets.isEmpty else {
      throw Problem(description: "\(name) has no valid `\(member)`")
    }
    return octets
  }

  /// RFC 7518 section 6.2.1: coordinates have the curve's full length.
  private static func point(_ length: Int, _ node: JSONNode, _ name: String) throws(Problem) -> [UInt8] {
    let (x, y) = (try part("x", node, name), try part("y", node, name))
    guard x.count == length, y.count == length else {
      throw Problem(description: "\(name): its coordinates are not \(length) octets long")
    }
    return x + y
  }

  /// Verifies the signature with the key that the token names, or without a name with each that may be meant.
  package func verify(_ token: JWTToken) throws(JWTFailure) {
    let named = keys.filter { key in
      (token.keyID == nil || key.id == nil || key.id == token.keyID)
        && (key.algorithm == nil || key.algorithm == token.algorithm) && Self.suits(key.material, token.algorithm)
    }
    guard !named.isEmpty else { throw .unknownKey }
    // One with the very name comes first.
    let exact = named.filter { $0.id != nil && $0.id == token.keyID }
    let tried = exact.isEmpty ? named.prefix(Self.mostTries) : exact.prefix(Self.mostTries)
    guard tried.contains(where: { Self.isValid(token, $0.material) }) else { throw .signature }
  }

  private static func suits(_ material: Material, _ algorithm: JWTAlgorithm) -> Bool {
    switch (material, algorithm) {
    case (.rsa, .rs256), (.rsa, .rs384), (.rsa, .rs512), (.rsa, .ps256), (.rsa, .ps384), (.rsa, .ps512): true
    case (.p256, .es256), (.p384, .es384), (.ed25519, .edDSA): true
    default: false
    }
  }

  private static func isValid(_ token: JWTToken, _ material: Material) -> Bool {
    switch material {
    case .rsa(let key):
      let signature = _RSA.Signing.RSASignature(rawRepresentation: token.signature)
      switch token.algorithm {
      case .rs256:
        return key.isValidSignature(signature, for: SHA256.hash(data: token.signed), padding: .insecurePKCS1v1_5)
      case .rs384:
        return key.isValidSignature(signature, for: SHA384.hash(data: token.signed), padding: .insecurePKCS1v1_5)
      case .rs512:
        return key.isValidSignature(signature, for: SHA512.hash(data: token.signed), padding: .insecurePKCS1v1_5)
      case .ps256: return key.isValidSignature(signature, for: SHA256.hash(data: token.signed), padding: .PSS)
      case .ps384: return key.isValidSignature(signature, for: SHA384.hash(data: token.signed), padding: .PSS)
      case .ps512: return key.isValidSignature(signature, for: SHA512.hash(data: token.signed), padding: .PSS)
      case .es256, .es384, .edDSA: return false
      }
    case .p256(let key):
      guard let signature = try? P256.Signing.ECDSASignature(rawRepresentation: token.signature) else { return false }
      return key.isValidSignature(signature, for: SHA256.hash(data: token.signed))
    case .p384(let key):
      guard let signature = try? P384.Signing.ECDSASignature(rawRepresentation: token.signature) else { return false }
      return key.isValidSignature(signature, for: SHA384.hash(data: token.signed))
    case .ed25519(let key): return key.isValidSignature(token.signature, for: token.signed)
    }
  }
}
