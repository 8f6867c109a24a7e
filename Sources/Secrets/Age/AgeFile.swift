import Crypto
import FoundationEssentials
import Vocabulary

/// Whole age v1 files in memory. Source: C2SP age.md.
package enum AgeFile {
  /// Opens a binary or armored file with the first identity that fits a stanza. The plaintext is given out only when
  /// every chunk of it is authenticated and the last one is marked as such. `armored` nil: found by the first line.
  package static func open(
    _ file: [UInt8], _ identities: [AgeIdentity], armored: Bool? = nil
  ) throws(AgeError) -> [UInt8] {
    let binary = armored ?? AgeArmor.isArmored(file) ? try AgeArmor.read(file) : file
    let header = try AgeHeader(parsing: binary)
    let fileKey = try key(of: header, identities)
    let mac = HKDF<SHA256>.deriveKey(inputKeyMaterial: fileKey, info: Array("header".utf8), outputByteCount: 32)
    guard
      HMAC<SHA256>.isValidAuthenticationCode(header.mac, authenticating: header.authenticated, using: mac)
    else { throw .hmacFailure }
    return try AgeStream.open(binary[header.length...], fileKey)
  }

  /// Encrypts to one or more recipients with a fresh file key.
  package static func seal(
    _ plaintext: [UInt8], to recipients: [AgeRecipient], armored: Bool = false
  ) throws(AgeError) -> [UInt8] {
    guard !recipients.isEmpty else { throw .notAKey("there is no recipient to encrypt to") }
    let fileKey = SymmetricKey(size: .bits128)
    var stanzas: [AgeStanza] = []
    for recipient in recipients { stanzas.append(try AgeX25519.wrap(fileKey, for: recipient)) }
    let header = AgeHeader(stanzas: stanzas)
    let key = HKDF<SHA256>.deriveKey(inputKeyMaterial: fileKey, info: Array("header".utf8), outputByteCount: 32)
    let mac = HMAC<SHA256>.authenticationCode(for: header.authenticated, using: key)
    var file = header.authenticated + [0x20] + Base64Text.encode(Array(mac)) + [0x0A]
    file += try AgeStream.seal(plaintext, fileKey)
    return armored ? AgeArmor.write(file) : file
  }

  private static func key(of header: AgeHeader, _ identities: [AgeIdentity]) throws(AgeError) -> SymmetricKey {
    if header.stanzas.contains(where: { $0.type == "scrypt" }), header.stanzas.count > 1 {
      throw .headerFailure("a scrypt stanza must be the only one")
    }
    for identity in identities {
      for stanza in header.stanzas {
        if let key = try identity.unwrap(stanza) { return key }
      }
    }
    throw .noMatch
  }
}

/// The payload: a 16-byte nonce and STREAM chunks of 64 KiB, each with a 16-byte tag; the counter is 11 bytes
/// big-endian and the last nonce byte marks the final chunk. Source: C2SP age.md, "Payload".
enum AgeStream {
  static let chunk = 64 << 10
  static let tag = 16

  static func open(_ payload: ArraySlice<UInt8>, _ fileKey: SymmetricKey) throws(AgeError) -> [UInt8] {
    guard payload.count >= 16 else { throw .headerFailure("the file ends before the payload's nonce") }
    let key = key(fileKey, nonce: payload.prefix(16))
    var rest = payload.dropFirst(16)
    var plaintext: [UInt8] = []
    plaintext.reserveCapacity(rest.count)
    var counter: UInt64 = 0
    while true {
      let sealed = rest.prefix(chunk + tag)
      rest = rest.dropFirst(sealed.count)
      guard sealed.count >= tag else { throw .payloadFailure("chunk \(counter) is cut short") }
      guard sealed.count > tag || counter == 0 else { throw .payloadFailure("the last chunk is empty") }
      guard let nonce = nonce(counter, final: rest.isEmpty),
        let box = try? ChaChaPoly.SealedBox(nonce: nonce, ciphertext: sealed.dropLast(tag), tag: sealed.suffix(tag)),
        let bytes = try? ChaChaPoly.open(box, using: key)
      else {
        for index in plaintext.indices { plaintext[index] = 0 }
        throw .payloadFailure("chunk \(counter) does not authenticate: the file was changed or cut short")
      }
      plaintext += bytes
      if rest.isEmpty { return plaintext }
      counter += 1
    }
  }

  static func seal(_ plaintext: [UInt8], _ fileKey: SymmetricKey) throws(AgeError) -> [UInt8] {
    let random = SymmetricKey(size: .bits128).withUnsafeBytes { Array($0) }
    let key = key(fileKey, nonce: random[...])
    var payload = random
    var rest = plaintext[...]
    var counter: UInt64 = 0
    repeat {
      let piece = rest.prefix(chunk)
      rest = rest.dropFirst(piece.count)
      guard let nonce = nonce(counter, final: rest.isEmpty),
        let box = try? ChaChaPoly.seal(piece, using: key, nonce: nonce)
      else { throw .payloadFailure("chunk \(counter) could not be encrypted") }
      payload += box.ciphertext
      payload += box.tag
      counter += 1
    } while !rest.isEmpty
    return payload
  }

  private static func key(_ fileKey: SymmetricKey, nonce: ArraySlice<UInt8>) -> SymmetricKey {
    HKDF<SHA256>.deriveKey(
      inputKeyMaterial: fileKey, salt: Array(nonce), info: Array("payload".utf8), outputByteCount: 32)
  }

  private static func nonce(_ counter: UInt64, final: Bool) -> ChaChaPoly.Nonce? {
    var bytes: [UInt8] = [0, 0, 0]
    for shift in stride(from: UInt64(56), through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: counter >> shift))
    }
    bytes.append(final ? 1 : 0)
    return try? ChaChaPoly.Nonce(data: bytes)
  }
}
