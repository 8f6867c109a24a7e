import Traffic

/// Tokens, key sets and paths, as strangers send them.
enum SecurityTargets {
  /// A token that is taken apart is made of what was sent, and no other spelling of it is taken for the same.
  static func token(_ input: UnsafeRawBufferPointer) -> String? {
    let text = Array(input)
    guard let token = try? JWTToken(text) else { return nil }
    if text.count > JWTToken.limit { return "taken above the limit" }
    if !text.starts(with: token.signed) { return "signed octets that were not sent" }
    let dots = text.filter { $0 == 0x2E }.count
    if dots != 2 || token.signed.filter({ $0 == 0x2E }).count != 1 { return "\(dots) dots" }
    for octet in text where !(octet == 0x2E || octet == 0x2D || octet == 0x5F || isAlphanumeric(octet)) {
      return "an octet outside of the alphabet"
    }
    for (tail, name) in [(Array("=".utf8), "padding"), ([0x2E], "a fourth part"), ([0x0A], "a line's end")]
    where (try? JWTToken(text + tail)) != nil {
      return "taken with \(name)"
    }
    return nil
  }

  private static func isAlphanumeric(_ octet: UInt8) -> Bool {
    (0x30...0x39).contains(octet) || (0x41...0x5A).contains(octet) || (0x61...0x7A).contains(octet)
  }

  /// A key set is refused, or has keys within its bounds that refuse a token which nobody has signed.
  static func keySet(_ input: UnsafeRawBufferPointer) -> String? {
    let text = Array(input)
    guard let keys = try? JSONWebKeySet(text) else { return nil }
    if text.count > JSONWebKeySet.limit || keys.count == 0 || keys.count > JSONWebKeySet.mostKeys {
      return "out of bounds"
    }
    // {"alg":…} with an empty payload and 64 zero octets.
    let zeros = String(repeating: "A", count: 86)
    for header in ["eyJhbGciOiJFUzI1NiJ9", "eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJFZERTQSJ9"] {
      guard let token = try? JWTToken(Array("\(header).e30.\(zeros)".utf8)) else { return "no token" }
      if (try? keys.verify(token)) != nil { return "a signature of zeros is valid" }
    }
    return nil
  }

  /// A path that is not ambiguous has a normal form without empty, `.` and `..` segments, and the quick test agrees.
  static func path(_ input: UnsafeRawBufferPointer) -> String? {
    // Request lines hold nothing else.
    guard input.first == 0x2F, input.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
    let path = NormalPath(input)
    if NormalPath.isNormal(input), path.isAmbiguous || !path.octets.elementsEqual(input) {
      return "quickly normal, and yet \(path)"
    }
    if path.octets.first != 0x2F { return "no slash" }
    if path.isAmbiguous { return nil }
    if path.octets.contains(where: { $0 == 0x5C || $0 == 0x3B || $0 < 0x20 || $0 == 0x7F }) { return "\(path)" }
    for segment in path.octets.dropFirst().split(separator: 0x2F, omittingEmptySubsequences: false).dropLast() {
      if segment.isEmpty || segment.elementsEqual(".".utf8) || segment.elementsEqual("..".utf8) { return "\(path)" }
    }
    return nil
  }
}
