/// Why an age file was not opened. The texts never hold plaintext or key material.
package enum AgeError: Error, Equatable, CustomStringConvertible {
  /// The text header breaks the grammar, or a stanza breaks its type's rules.
  case headerFailure(String)
  /// The file key is right and the header was changed.
  case hmacFailure
  /// The payload was changed, cut short or continued.
  case payloadFailure(String)
  /// The PEM-like armor breaks its grammar.
  case armorFailure(String)
  /// No stanza opens with any of the identities.
  case noMatch
  /// Text that is not an `AGE-SECRET-KEY-1…` identity or an `age1…` recipient.
  case notAKey(String)

  package var description: String {
    switch self {
    case .headerFailure(let detail): "not a valid age header: \(detail)"
    case .hmacFailure: "the age header was changed after encryption (its HMAC does not fit)"
    case .payloadFailure(let detail): "the encrypted payload is damaged: \(detail)"
    case .armorFailure(let detail): "not valid age armor: \(detail)"
    case .noMatch: "none of the identities opens the file"
    case .notAKey(let detail): detail
    }
  }

  /// The message for a user, with the two files by name.
  package func explained(file: String, identity: String) -> String {
    switch self {
    case .noMatch:
      "none of the identities in \(identity) opens \(file): encrypt it to the public key of that identity "
        + "(`age-keygen -y \(identity)` prints it) or name the identity file that it was encrypted for"
    default: "\(file): \(self)"
    }
  }
}
