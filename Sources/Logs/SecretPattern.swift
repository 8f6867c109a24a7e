import Vocabulary

/// What stands for one form of a secret value where it is sought: enough to recognise it, too little to tell it. Marks and
/// hashes are keyed anew in each process.
package struct SecretPattern: Sendable, Hashable {
  /// The first four octets, times `key`.
  let mark: UInt32
  let first: UInt8
  let length: Int
  /// SipHash with the key of the process.
  let hash: Int
  /// Of a long form: the hash of sixteen octets in its middle, looked at first. A line full of what a form begins with
  /// (`----` of a PEM file) costs little.
  let probe: Int
  private static let probed = 64
  private static let probeLength = 16

  /// Odd, so that different octets have different marks.
  static let key = UInt32.random(in: .min ... .max) | 1

  /// Nil for a form that is too short to be sought.
  init?(_ form: [UInt8]) {
    guard form.count >= Redactor.minimumLength else { return nil }
    mark = form.withUnsafeBytes { $0.integer(at: 0, as: UInt32.self) } &* Self.key
    first = form[0]
    length = form.count
    hash = form.withUnsafeBytes { Self.hash($0) }
    probe = form.count < Self.probed ? 0 : form.withUnsafeBytes { Self.hash(Self.middle(of: $0)) }
  }

  private static func middle(of form: Bytes) -> Bytes {
    let start = (form.count - probeLength) / 2
    return form.part(start..<start + probeLength)
  }

  /// Whether it stands at `start` of the line, which has as many octets behind it.
  func stands(in line: Bytes, at start: Int) -> Bool {
    let form = line.part(start..<start + length)
    if length >= Self.probed, Self.hash(Self.middle(of: form)) != probe { return false }
    return Self.hash(form) == hash
  }

  static func hash(_ bytes: Bytes) -> Int {
    var hasher = Hasher()
    hasher.combine(bytes: bytes)
    return hasher.finalize()
  }
}

/// Which patterns are sought, by `NAME.FIELD`: those of the current value and of the last four before it.
package struct RedactionMemory: Sendable {
  private var current: [String: Set<SecretPattern>] = [:]
  private var former: [String: [Set<SecretPattern>]] = [:]

  package init() {}

  /// Takes current values; of names that are not among them, what is known stays.
  package mutating func learn(_ values: [(name: String, value: [UInt8])]) {
    for (name, value) in values {
      let patterns = SecretForms.patterns(of: value)
      guard patterns != current[name] else { continue }
      if let old = current[name] { former[name] = Array(([old] + (former[name] ?? [])).prefix(4)) }
      current[name] = patterns
    }
  }

  package var patterns: Set<SecretPattern> {
    former.values.joined().reduce(into: current.values.reduce(into: []) { $0.formUnion($1) }) { $0.formUnion($1) }
  }
}
