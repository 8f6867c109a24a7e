import Crypto
import CryptoExtras
import Foundation
import Testing
import Vocabulary

@testable import Traffic

/// Makes tokens and key sets.
enum Mint {
  static func base64(_ octets: some Sequence<UInt8>) -> String {
    Data(octets).base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
      .replacingOccurrences(of: "=", with: "")
  }

  static func token(_ header: String, _ payload: String, sign: (Data) throws -> Data) rethrows -> [UInt8] {
    let signed = base64(header.utf8) + "." + base64(payload.utf8)
    return Array((signed + "." + base64(try sign(Data(signed.utf8)))).utf8)
  }

  static let p256 = P256.Signing.PrivateKey()
  static let p384 = P384.Signing.PrivateKey()
  static let ed25519 = Curve25519.Signing.PrivateKey()
  static let rsa: _RSA.Signing.PrivateKey? = try? _RSA.Signing.PrivateKey(keySize: .bits2048)

  static func es256(_ payload: String, header: String = #"{"alg":"ES256","kid":"e","typ":"JWT"}"#) throws -> [UInt8] {
    try token(header, payload) { try p256.signature(for: $0).rawRepresentation }
  }

  static func point(_ key: Data) -> String {
    "\"x\":\"\(base64(key.prefix(key.count / 2)))\",\"y\":\"\(base64(key.suffix(key.count / 2)))\""
  }

  static func keySet() throws -> [UInt8] {
    let numbers = try #require(rsa).publicKey.getKeyPrimitives()
    return Array(
      """
      {"keys":[
      {"kty":"RSA","kid":"r","use":"sig","n":"\(base64(numbers.modulus))","e":"\(base64(numbers.publicExponent))"},
      {"kty":"EC","kid":"e","crv":"P-256","alg":"ES256",\(point(p256.publicKey.rawRepresentation))},
      {"kty":"EC","kid":"g","crv":"P-384",\(point(p384.publicKey.rawRepresentation))},
      {"kty":"OKP","kid":"d","crv":"Ed25519","x":"\(base64(ed25519.publicKey.rawRepresentation))"},
      {"kty":"oct","kid":"s","k":"c2VjcmV0"}, {"kty":"EC","crv":"P-521","x":"","y":""},
      {"kty":"RSA","kid":"enc","use":"enc","n":"AQAB","e":"AQAB"}
      ]}
      """.utf8)
  }
}

@Suite struct JWTTests {
  private let now: Int64 = 1_800_000_000
  private static let claims = #""iss":"https://issuer","exp":1800000600,"aud":["shop","cart"],"sub":"ann""#

  private func verifier(_ edit: (inout JWTConfiguration) -> Void = { _ in }) -> JWTVerifier {
    var configuration = JWTConfiguration(issuer: "https://issuer", keys: .file("/keys"))
    configuration.audiences = ["shop"]
    edit(&configuration)
    return JWTVerifier(configuration)
  }

  private func failure(_ text: [UInt8], _ edit: (inout JWTConfiguration) -> Void = { _ in }) throws -> JWTFailure? {
    let keys = try JSONWebKeySet(try Mint.keySet())
    do throws(JWTFailure) {
      _ = try verifier(edit).verify(try JWTToken(text), keys, now: now)
      return nil
    } catch {
      return error
    }
  }

  @Test func everyAlgorithmIsVerified() throws {
    let payload = "{\(Self.claims)}"
    let rsa = try #require(Mint.rsa)
    func sign(_ name: String, _ kid: String, _ sign: (Data) throws -> Data) throws -> [UInt8] {
      try Mint.token(#"{"alg":"\#(name)","kid":"\#(kid)"}"#, payload, sign: sign)
    }
    let pkcs = _RSA.Signing.Padding.insecurePKCS1v1_5
    let tokens = [
      try sign("RS256", "r") { try rsa.signature(for: SHA256.hash(data: $0), padding: pkcs).rawRepresentation },
      try sign("RS384", "r") { try rsa.signature(for: SHA384.hash(data: $0), padding: pkcs).rawRepresentation },
      try sign("RS512", "r") { try rsa.signature(for: SHA512.hash(data: $0), padding: pkcs).rawRepresentation },
      try sign("PS256", "r") { try rsa.signature(for: SHA256.hash(data: $0), padding: .PSS).rawRepresentation },
      try sign("PS384", "r") { try rsa.signature(for: SHA384.hash(data: $0), padding: .PSS).rawRepresentation },
      try sign("PS512", "r") { try rsa.signature(for: SHA512.hash(data: $0), padding: .PSS).rawRepresentation },
      try sign("ES256", "e") { try Mint.p256.signature(for: $0).rawRepresentation },
      try sign("ES384", "g") { try Mint.p384.signature(for: $0).rawRepresentation },
      try sign("EdDSA", "d") { try Mint.ed25519.signature(for: $0) },
    ]
    #expect(tokens.count == JWTAlgorithm.allCases.count)
    for token in tokens {
      #expect(try failure(token) == nil)
      // One bit of the payload or of the signature.
      var forged = token
      let dot = try #require(forged.firstIndex(of: 0x2E))
      forged[dot + 3] ^= 1
      #expect(try failure(forged) == .signature)
      let last = try #require(token.lastIndex(of: 0x2E))
      var broken = token
      broken[last + 2] = broken[last + 2] == 0x41 ? 0x42 : 0x41
      #expect(try failure(broken) == .signature)
    }
  }

  @Test func secretsAndNoneAreRefused() throws {
    for name in ["none", "None", "HS256", "HS512", "ES256K", "", "rs256"] {
      let token = try Mint.es256("{\(Self.claims)}", header: "{\"alg\":\"\(name)\",\"kid\":\"e\"}")
      #expect(try failure(token) == .algorithm, "\(name)")
    }
    let unsigned = Mint.token(#"{"alg":"ES256","kid":"e"}"#, "{\(Self.claims)}") { _ in Data() }
    #expect(try failure(unsigned) == .signature)
    #expect(try failure(try Mint.es256("{\(Self.claims)}")) { $0.algorithms = [.rs256] } == .algorithm)
    // The algorithm of another kind of key.
    #expect(try failure(try Mint.es256("{\(Self.claims)}", header: #"{"alg":"RS256","kid":"e"}"#)) == .unknownKey)
    #expect(
      try failure(try Mint.es256("{\(Self.claims)}", header: #"{"alg":"ES256","kid":"e","crit":["b64"]}"#)) == .critical
    )
  }

  @Test func keysAreFoundByTheirName() throws {
    let payload = "{\(Self.claims)}"
    #expect(try failure(try Mint.es256(payload, header: #"{"alg":"ES256"}"#)) == nil)
    #expect(try failure(try Mint.es256(payload, header: #"{"alg":"ES256","kid":"other"}"#)) == .unknownKey)
    #expect(try failure(try Mint.es256(payload, header: #"{"alg":"ES256","kid":7}"#)) == .malformed)
  }

  @Test func claimsAreChecked() throws {
    let cases: [(String, JWTFailure?)] = [
      (#""iss":"https://issuer","exp":1800000600,"aud":"shop""#, nil),
      (#""iss":"https://issuer","exp":1799999940,"aud":"shop""#, nil),
      (#""iss":"https://issuer","exp":1799999939,"aud":"shop""#, .expired),
      (#""iss":"https://issuer","exp":1800000600.5,"nbf":1800000060,"iat":1800000060,"aud":"shop""#, nil),
      (#""iss":"https://issuer","exp":1800000600,"nbf":1800000061,"aud":"shop""#, .notYetValid),
      (#""iss":"https://issuer","exp":1800000600,"iat":1800000061,"aud":"shop""#, .issuedInFuture),
      (#""iss":"https://issuer","aud":"shop""#, .noExpiry),
      (#""iss":"https://issuer","exp":"1800000600","aud":"shop""#, .malformed),
      (#""iss":"https://issuer","exp":1e400,"aud":"shop""#, .malformed),
      (#""iss":"https://issuer/","exp":1800000600,"aud":"shop""#, .issuer),
      (#""exp":1800000600,"aud":"shop""#, .issuer),
      (#""iss":"https://issuer","exp":1800000600,"aud":["cart"]"#, .audience),
      (#""iss":"https://issuer","exp":1800000600"#, .audience),
      (#""iss":"https://issuer","exp":1800000600,"aud":"shop","exp":1900000000"#, .malformed),
    ]
    for (claims, expected) in cases { #expect(try failure(try Mint.es256("{\(claims)}")) == expected, "\(claims)") }
    #expect(try failure(try Mint.es256("[1]")) == .malformed)
    #expect(try failure(try Mint.es256(#"{"iss":"https://issuer","exp":1800000600}"#)) { $0.audiences = [] } == nil)
  }

  @Test func whatIsNoTokenIsRefused() throws {
    let good = try Mint.es256("{\(Self.claims)}")
    let text = String(decoding: good, as: UTF8.self)
    for bad in [
      "", ".", "..", "a.b.c", text + ".x", text + "=", " " + text, text.replacingOccurrences(of: ".", with: ","),
      "e30.e30.",
    ] {
      #expect(try failure(Array(bad.utf8)) == .malformed, "\(bad.prefix(20))")
    }
    #expect(try failure(Array(repeating: 0x41, count: JWTToken.limit + 1)) == .tooLong)
    let long = try Mint.es256("{}", header: #"{"alg":"ES256","x":"\#(String(repeating: "a", count: 2000))"}"#)
    #expect(try failure(long) == .tooLong)
    for failure in JWTFailure.allCases {
      #expect(failure.description.utf8.allSatisfy { $0 >= 32 && $0 < 127 && $0 != 34 })
    }
  }

  @Test func claimsBecomeFields() throws {
    let verifier = verifier {
      $0.claimHeaders = [
        .init(claim: "sub", header: "X-User"), .init(claim: "roles", header: "X-Roles"),
        .init(claim: "evil", header: "X-Evil"),
        .init(claim: "none", header: "X-None"), .init(claim: "org.id", header: "X-Org"),
      ]
    }
    let token = try Mint.es256(
      "{\(Self.claims),\"roles\":[\"a\",\"b\"],\"evil\":\"x\\r\\nX-Admin: 1\",\"org\":{\"id\":7}}")
    let verified = try verifier.verify(try JWTToken(token), try JSONWebKeySet(try Mint.keySet()), now: now)
    #expect(String(decoding: verified.fields, as: UTF8.self) == "X-User: ann\r\nX-Roles: a,b\r\nX-Org: 7\r\n")
    #expect(verified.expires == 1_800_000_660)
  }

  @Test func keySetsAreChecked() throws {
    #expect(try JSONWebKeySet(try Mint.keySet()).count == 4)
    let problems = [
      "": "not JSON", "[]": "no list", "{\"keys\":{}}": "no list", "{\"keys\":[]}": "no key that",
      #"{"keys":[{"kty":"oct","k":"YQ"}]}"#: "no key that",
      #"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#: "not a valid public key",
      #"{"keys":[{"kty":"RSA","e":"AQAB"}]}"#: "no valid `n`",
      #"{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}]}"#: "32 octets",
      #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQ"}]}"#: "not a valid public key",
    ]
    for (text, expected) in problems {
      do throws(JSONWebKeySet.Problem) {
        _ = try JSONWebKeySet(Array(text.utf8))
        Issue.record("taken: \(text)")
      } catch {
        #expect(error.description.contains(expected), "\(error) for \(text)")
      }
    }
    let zero = String(repeating: "A", count: 43)
    #expect(throws: JSONWebKeySet.Problem.self) {
      _ = try JSONWebKeySet(Array(#"{"keys":[{"kty":"EC","crv":"P-256","x":"\#(zero)","y":"\#(zero)"}]}"#.utf8))
    }
  }

  @Test func tokensAreFoundInTheirPlaces() throws {
    func find(_ places: [JWTConfiguration.Place], query: String = "", _ fields: [(String, String)]) throws -> String? {
      let owned = fields.map { ($0.0, Array($0.1.utf8)) }
      return try Array(query.utf8).withUnsafeBytes { query in
        try JWTPlaces.find(places, query: query) { name in
          owned.filter { $0.0.utf8.elementsEqual(name) }.map { pair in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, pair.1.count), alignment: 1)
            copy.copyBytes(from: pair.1)
            return UnsafeRawBufferPointer(rebasing: copy[..<pair.1.count])
          }
        }.map { String(decoding: $0, as: UTF8.self) }
      }
    }
    let header: [JWTConfiguration.Place] = [.header("authorization")]
    #expect(try find(header, [("authorization", "Bearer a.b.c")]) == "a.b.c")
    #expect(try find(header, [("authorization", "bEARER  a")]) == "a")
    #expect(try find(header, [("authorization", "Basic YTpi")]) == nil)
    #expect(try find(header, []) == nil)
    #expect(throws: JWTFailure.repeated) {
      try find(header, [("authorization", "Bearer a"), ("authorization", "Bearer b")])
    }
    #expect(try find([.header("x-token")], [("x-token", "a.b")]) == "a.b")
    #expect(try find([.query("t")], query: "a=1&t=x.y&tt=2", []) == "x.y")
    #expect(throws: JWTFailure.repeated) { try find([.query("t")], query: "t=1&t=2", []) }
    #expect(try find([.cookie("s")], [("cookie", "a=1; s=x.y; b=2")]) == "x.y")
    #expect(throws: JWTFailure.repeated) { try find([.cookie("s")], [("cookie", "s=1"), ("cookie", "s=2")]) }
    #expect(try find([.cookie("s"), .query("t")], query: "t=q", []) == "q")
  }
}
