import Traffic

/// Tokens that one loop has verified, until they expire or another version of the keys is in use.
struct TokenMemory {
  /// Octets of tokens that are kept at most.
  private static let limit = 1 << 20

  private struct Key: Hashable {
    var gate: Int
    var token: [UInt8]
  }
  private struct Entry {
    var verified: VerifiedToken
    var version: Int
  }
  private var table = RecencyTable<Key, Entry>(limit: TokenMemory.limit)

  /// What was found out about that token; nil = it has to be verified. `now` is in seconds since 1970.
  mutating func find(_ token: [UInt8], gate: Int, version: Int, now: Int64) -> VerifiedToken? {
    let key = Key(gate: gate, token: token)
    guard let entry = table.find(key) else { return nil }
    if entry.version == version, now <= entry.verified.expires { return entry.verified }
    table.remove(key)
    return nil
  }

  mutating func keep(_ verified: VerifiedToken, of token: [UInt8], gate: Int, version: Int) {
    table.set(Key(gate: gate, token: token), Entry(verified: verified, version: version), weight: token.count + 256)
  }
}
