package import Vocabulary

/// A token that was found good.
package struct VerifiedToken: Sendable {
  package var claims: JSONNode
  /// The last second since 1970 at which it is good, the leeway included.
  package var expires: Int64
  /// `Name: value` lines for the upstream, made of claims.
  package var fields: [UInt8]

  package init(claims: JSONNode, expires: Int64, fields: [UInt8]) {
    self.claims = claims
    self.expires = expires
    self.fields = fields
  }
}

/// The checks of one `jwt`, as configured (RFC 7519 section 7.2).
package struct JWTVerifier: Sendable {
  package let configuration: JWTConfiguration
  private let leeway: Int64

  package init(_ configuration: JWTConfiguration) {
    self.configuration = configuration
    leeway = configuration.leeway.components.seconds
  }

  /// Checks signature and claims; `now` is in seconds since 1970. The payload is looked at only once it is known whose it is.
  package func verify(_ token: JWTToken, _ keys: JSONWebKeySet, now: Int64) throws(JWTFailure) -> VerifiedToken {
    guard configuration.algorithms.contains(token.algorithm) else { throw .algorithm }
    try keys.verify(token)
    guard let claims = try? JSONParser.parse(token.payload), case .object = claims else { throw .malformed }
    let expiry = try date("exp", claims)
    guard let expiry else { throw .noExpiry }
    guard now <= expiry + leeway else { throw .expired }
    if let start = try date("nbf", claims), now < start - leeway { throw .notYetValid }
    if let issued = try date("iat", claims), now < issued - leeway { throw .issuedInFuture }
    guard claims["iss"]?.string == configuration.issuer else { throw .issuer }
    if !configuration.audiences.isEmpty {
      let found = claims["aud"].map { JWTClaims.texts($0, of: "aud") } ?? []
      guard found.contains(where: configuration.audiences.contains) else { throw .audience }
    }
    return VerifiedToken(claims: claims, expires: expiry + leeway, fields: fields(claims))
  }

  private func date(_ name: String, _ claims: JSONNode) throws(JWTFailure) -> Int64? {
    guard let node = claims[name] else { return nil }
    guard let date = JWTClaims.date(node) else { throw .malformed }
    return date
  }

  /// Values that no field can hold are left out.
  private func fields(_ claims: JSONNode) -> [UInt8] {
    var lines: [UInt8] = []
    for pair in configuration.claimHeaders {
      guard let node = JWTClaims.find(pair.claim, in: claims) else { continue }
      let text: String
      switch node {
      case .null: continue
      case .object: text = node.json
      case .array: text = JWTClaims.texts(node, of: "").joined(separator: ",")
      default: text = node.text
      }
      guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { continue }
      lines += Array(pair.header.utf8) + [0x3A, 0x20] + Array(text.utf8) + [13, 10]
    }
    return lines
  }
}

/// Where a request carries its token.
package enum JWTPlaces {
  /// The token of the first place that holds something; nil = none does. `query` stands behind the path, without `?`;
  /// `fields` gives every value of the fields of a lower-case name.
  package static func find(
    _ places: [JWTConfiguration.Place], query: UnsafeRawBufferPointer, fields: RBACPolicy.Fields
  ) throws(JWTFailure) -> [UInt8]? {
    for place in places {
      let found: [ArraySlice<UInt8>] =
        switch place {
        case .header(let name): header(name.lowercased(), fields)
        case .query(let name): pairs(Array(query), separator: 0x26, name)
        case .cookie(let name): values("cookie", fields).flatMap { pairs($0, separator: 0x3B, name) }
        }
      guard let first = found.first else { continue }
      guard found.count == 1 else { throw .repeated }
      return Array(first)
    }
    return nil
  }

  private static func values(_ name: String, _ fields: RBACPolicy.Fields) -> [[UInt8]] {
    Array(name.utf8).withUnsafeBytes { fields($0).map { Array($0) } }
  }

  private static func header(_ name: String, _ fields: RBACPolicy.Fields) -> [ArraySlice<UInt8>] {
    let scheme = Array("bearer ".utf8)
    return values(name, fields).compactMap { value in
      let isBearer = value.count >= scheme.count && zip(value, scheme).allSatisfy { $0 | 0x20 == $1 }
      // Another scheme is no token (RFC 6750 section 2.1).
      guard isBearer || name != "authorization" else { return nil }
      return (isBearer ? value.dropFirst(scheme.count) : value[...]).drop { $0 == 0x20 }
    }
  }

  private static func pairs(_ text: [UInt8], separator: UInt8, _ name: String) -> [ArraySlice<UInt8>] {
    text.split(separator: separator).compactMap { pair in
      let pair = separator == 0x3B ? pair.drop { $0 == 0x20 } : pair
      guard let equals = pair.firstIndex(of: 0x3D), pair[..<equals].elementsEqual(name.utf8) else { return nil }
      return pair[(equals + 1)...]
    }
  }
}
