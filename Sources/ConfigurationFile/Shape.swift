/// What may stand at a key: the vocabulary of the key table.
indirect enum Shape: Sendable {
  case leaf(Leaf)
  case list(Shape)
  /// A list, or one element without the brackets.
  case oneOrList(Shape)
  /// A map with names that the user chooses.
  case map(Shape)
  case record([Key])
  /// A map of NAME → record of `common` keys and one of `kinds`. A NAME that is a kind may hold that kind's keys directly.
  case variants(common: [Key], kinds: [Key])
  case leafOr(Leaf, Shape)
}

/// A single value.
indirect enum Leaf: Sendable {
  case text
  /// Text that may refer to secrets.
  case secretText
  /// Text in which `${lower_case}` names a record's field.
  case recordText
  /// 0 to ten years; 0 has a meaning of its own.
  case duration
  /// Longer than 0, at most ten years.
  case interval
  /// At least one byte.
  case size
  case integer(ClosedRange<Int>)
  /// 0...1, or percents.
  case fraction
  case boolean
  case choice([String], planned: [String] = [])
  case address
  /// A file's path; relative ones start at the configuration file's directory.
  case path
  case url
  /// `http://host:port`, a cluster's name or `app`.
  case target
  case signal
  /// Octal permission bits.
  case mode
  case headerName
  case urlPath
  /// `secrets.NAME`: a secret as a whole.
  case secretName
  /// A file's path, or `secrets.NAME`.
  case pathOrSecret
  /// `spiffe://…` or `dns:…`.
  case peerName
  case word([String], or: Leaf)
}

/// One row of the key table.
struct Key: Sendable {
  var name: String
  var shape: Shape
  /// As it would be written in the file; nil = none.
  var defaultText: String?
  var summary: String
  /// False: part of the contract, but not in this version.
  var isSupported = true
  /// Literal values are not shown by `explain`.
  var isSensitive = false
  /// The record exists, with its defaults, when it is not written.
  var isAlways = false
  var isRequired = false
  /// The default holds only when this other key is written.
  var companion: String?

  /// Written without a value it is not as if it were not written: what is left empty must not open anything.
  var isStrict = false

  var strict: Key {
    var key = self
    key.isStrict = true
    return key
  }

  func only(with companion: String) -> Key {
    var key = self
    key.companion = companion
    return key
  }

  static func key(
    _ name: String, _ shape: Shape, _ defaultText: String? = nil, _ summary: String, sensitive: Bool = false,
    required: Bool = false
  ) -> Key {
    Key(
      name: name, shape: shape, defaultText: defaultText, summary: summary, isSensitive: sensitive,
      isRequired: required)
  }

  static func key(
    _ name: String, _ leaf: Leaf, _ defaultText: String? = nil, _ summary: String, sensitive: Bool = false,
    required: Bool = false
  ) -> Key {
    key(name, .leaf(leaf), defaultText, summary, sensitive: sensitive, required: required)
  }

  /// A record whose defaults hold when it is not written.
  static func always(_ name: String, _ keys: [Key], _ summary: String) -> Key {
    Key(name: name, shape: .record(keys), defaultText: nil, summary: summary, isAlways: true)
  }

  static func planned(_ names: String...) -> [Key] {
    names.map { Key(name: $0, shape: .leaf(.text), defaultText: nil, summary: "", isSupported: false) }
  }
}
