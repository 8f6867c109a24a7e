import Crypto
import CryptoExtras
import FoundationEssentials
import Vocabulary

/// What opens an age file.
package enum AgeIdentity: Sendable {
  /// A 32-byte X25519 private key.
  case x25519(SecretBytes)
  /// A passphrase (scrypt): for the edit tool and the format's vectors, never at run time.
  case passphrase(SecretBytes)

  /// A new X25519 identity from the system's random source.
  package static func generate() -> AgeIdentity {
    .x25519(SecretBytes(Array(Curve25519.KeyAgreement.PrivateKey().rawRepresentation)))
  }

  /// Parses `AGE-SECRET-KEY-1…`. The error never shows the text.
  package init(_ text: String) throws(AgeError) {
    if text.hasPrefix("AGE-SECRET-KEY-PQ-1") {
      throw .notAKey("a post-quantum identity, which this version does not read; use one of `age-keygen` without -pq")
    }
    if text.hasPrefix("AGE-PLUGIN-") {
      throw .notAKey("an identity of an age plugin, which is not supported; use one made by `age-keygen`")
    }
    guard let (prefix, bytes) = Bech32.decode(text), prefix == "age-secret-key-", bytes.count == 32,
      text.hasPrefix("AGE-SECRET-KEY-1")
    else { throw .notAKey("not an age identity (one `AGE-SECRET-KEY-1…` a line, as `age-keygen` writes it)") }
    self = .x25519(SecretBytes(bytes))
  }

  /// The identities of a file as `age-keygen` writes it: one a line, `#` comments and empty lines between.
  /// `name` is the file's name for the error.
  package static func list(_ file: [UInt8], name: String) throws(AgeError) -> [AgeIdentity] {
    if file.starts(with: AgeHeader.version) || AgeArmor.isArmored(file) {
      throw .notAKey("\(name) is itself encrypted: decrypt it first, the sidecar cannot ask for a passphrase")
    }
    var identities: [AgeIdentity] = []
    for (number, line) in file.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
      let text = String(decoding: line.last == 0x0D ? line.dropLast() : line, as: UTF8.self)
      let word = text.drop { $0 == " " || $0 == "\t" }
      if word.isEmpty || word.hasPrefix("#") { continue }
      do {
        identities.append(try AgeIdentity(text))
      } catch {
        throw .notAKey("\(name), line \(number + 1): \(error)")
      }
    }
    guard !identities.isEmpty else {
      throw .notAKey("\(name) holds no identity: make one with `outrider secrets init` or `age-keygen`")
    }
    return identities
  }

  /// `AGE-SECRET-KEY-1…`; empty for a passphrase.
  package var text: String {
    guard case .x25519(let key) = self else { return "" }
    return Bech32.encode(prefix: "age-secret-key-", key.copy()).uppercasedASCII
  }

  /// The public half; nil for a passphrase.
  package var recipient: AgeRecipient? {
    guard case .x25519(let key) = self,
      let secret = try? Curve25519.KeyAgreement.PrivateKey(rawRepresentation: key.copy())
    else { return nil }
    return AgeRecipient(key: Array(secret.publicKey.rawRepresentation))
  }

  /// The file key when this identity opens `stanza`, nil when the stanza is for somebody else.
  func unwrap(_ stanza: AgeStanza) throws(AgeError) -> SymmetricKey? {
    switch (self, stanza.type) {
    case (.x25519(let key), "X25519"): try AgeX25519.unwrap(stanza, key)
    case (.passphrase(let passphrase), "scrypt"): try AgeScrypt.unwrap(stanza, passphrase)
    default: nil
    }
  }
}

/// Whom an age file is encrypted to: an X25519 public key.
package struct AgeRecipient: Sendable, Equatable {
  /// 32 bytes.
  package var key: [UInt8]

  package init(key: [UInt8]) { self.key = key }

  /// Parses `age1…`.
  package init(_ text: String) throws(AgeError) {
    guard let (prefix, bytes) = Bech32.decode(text), prefix == "age", bytes.count == 32, text.hasPrefix("age1") else {
      throw .notAKey("`\(text.prefix(80))` is not an age recipient (`age1…`)")
    }
    key = bytes
  }

  package var text: String { Bech32.encode(prefix: "age", key) }
}

/// The X25519 recipient type. Source: C2SP age.md, "The X25519 recipient type".
enum AgeX25519 {
  private static let info = Array("age-encryption.org/v1/X25519".utf8)

  static func unwrap(_ stanza: AgeStanza, _ key: SecretBytes) throws(AgeError) -> SymmetricKey? {
    guard stanza.arguments.count == 1, let share = Base64Text.decode(Array(stanza.arguments[0].utf8)),
      share.count == 32
    else { throw .headerFailure("an X25519 stanza needs one argument of 32 bytes") }
    guard stanza.body.count == 32 else { throw .headerFailure("an X25519 stanza's body is not 32 bytes") }
    guard let secret = try? Curve25519.KeyAgreement.PrivateKey(rawRepresentation: key.copy()),
      let peer = try? Curve25519.KeyAgreement.PublicKey(rawRepresentation: share),
      let shared = try? secret.sharedSecretFromKeyAgreement(with: peer),
      !shared.withUnsafeBytes({ $0.allSatisfy { $0 == 0 } })
    else { throw .headerFailure("an X25519 share is a point of low order") }
    let wrap = shared.hkdfDerivedSymmetricKey(
      using: SHA256.self, salt: share + Array(secret.publicKey.rawRepresentation), sharedInfo: info,
      outputByteCount: 32)
    return AgeFileKey.open(stanza.body, wrap)
  }

  static func wrap(_ fileKey: SymmetricKey, for recipient: AgeRecipient) throws(AgeError) -> AgeStanza {
    let ephemeral = Curve25519.KeyAgreement.PrivateKey()
    guard let peer = try? Curve25519.KeyAgreement.PublicKey(rawRepresentation: recipient.key),
      let shared = try? ephemeral.sharedSecretFromKeyAgreement(with: peer)
    else { throw .notAKey("the recipient \(recipient.text) is a point of low order") }
    let share = Array(ephemeral.publicKey.rawRepresentation)
    let wrap = shared.hkdfDerivedSymmetricKey(
      using: SHA256.self, salt: share + recipient.key, sharedInfo: info, outputByteCount: 32)
    return AgeStanza(
      type: "X25519", arguments: [String(decoding: Base64Text.encode(share), as: UTF8.self)],
      body: try AgeFileKey.seal(fileKey, wrap))
  }
}

/// The scrypt recipient type. Source: C2SP age.md, "The scrypt recipient type".
enum AgeScrypt {
  /// The highest work factor (log2 of N) that is computed; each step doubles time and memory.
  static let limit = 22

  static func unwrap(_ stanza: AgeStanza, _ passphrase: SecretBytes) throws(AgeError) -> SymmetricKey? {
    guard stanza.arguments.count == 2, let salt = Base64Text.decode(Array(stanza.arguments[0].utf8)),
      salt.count == 16
    else { throw .headerFailure("a scrypt stanza needs a salt of 16 bytes and a work factor") }
    let digits = Array(stanza.arguments[1].utf8)
    guard digits.allSatisfy({ (0x30...0x39).contains($0) }), digits.first != 0x30, digits.count <= 3,
      let factor = Int(stanza.arguments[1]), factor <= limit
    else { throw .headerFailure("a scrypt work factor is not a decimal number of 1...\(limit)") }
    guard stanza.body.count == 32 else { throw .headerFailure("a scrypt stanza's body is not 32 bytes") }
    guard
      let wrap = try? KDF.Scrypt.deriveKey(
        from: passphrase.copy(), salt: Array("age-encryption.org/v1/scrypt".utf8) + salt, outputByteCount: 32,
        rounds: 1 << factor, blockSize: 8, parallelism: 1)
    else { throw .headerFailure("the scrypt key could not be derived: not enough memory for the work factor") }
    return AgeFileKey.open(stanza.body, wrap)
  }
}

/// The 16-byte file key in its wrapping: ChaCha20-Poly1305 with a zero nonce and a key used once.
enum AgeFileKey {
  static func open(_ body: [UInt8], _ key: SymmetricKey) -> SymmetricKey? {
    guard let nonce = try? ChaChaPoly.Nonce(data: [UInt8](repeating: 0, count: 12)),
      let box = try? ChaChaPoly.SealedBox(nonce: nonce, ciphertext: body[..<16], tag: body[16...]),
      let bytes = try? ChaChaPoly.open(box, using: key)
    else { return nil }
    return SymmetricKey(data: bytes)
  }

  static func seal(_ fileKey: SymmetricKey, _ key: SymmetricKey) throws(AgeError) -> [UInt8] {
    guard let nonce = try? ChaChaPoly.Nonce(data: [UInt8](repeating: 0, count: 12)),
      let box = try? ChaChaPoly.seal(fileKey.withUnsafeBytes { Array($0) }, using: key, nonce: nonce)
    else { throw .headerFailure("the file key could not be wrapped") }
    return Array(box.ciphertext) + Array(box.tag)
  }
}

extension String {
  /// ASCII letters in upper case; other characters as they are.
  var uppercasedASCII: String {
    String(decoding: utf8.map { (0x61...0x7A).contains($0) ? $0 - 32 : $0 }, as: UTF8.self)
  }
}
