import Glibc
import Secrets

/// Makes and changes the age store from the command line. Every change replaces the file atomically.
package enum AgeStoreEditor {
  /// Creates an empty store encrypted to the identity, and the identity file (0600) when it is not there. Returns the
  /// public key. An existing store is never overwritten.
  @discardableResult
  package static func initialize(file: String, identity: String) throws(FileFailure) -> String {
    guard PlainFile.signature(file) == nil else {
      throw FileFailure("\(file) exists already; change it with `outrider secrets set`, or remove it first")
    }
    if PlainFile.signature(identity) == nil {
      let key = AgeIdentity.generate()
      try PlainFile.replace(identity, Array(identityText(key).utf8), mode: 0o600)
    }
    let recipients = try keys(identity).recipients
    try write(StoreContent().serialized, file: file, recipients: recipients, armored: false)
    return recipients.first?.text ?? ""
  }

  /// Sets one field of a secret and keeps everything else.
  package static func set(
    _ name: String, _ field: String = "value", _ value: String, file: String, identity: String
  ) throws(FileFailure) {
    guard !name.isEmpty, !field.isEmpty else { throw FileFailure("a secret and its field need a name") }
    var store = try readForWriting(file: file, identity: identity)
    store.content.set(name, field, value)
    try write(store.content.serialized, file: file, recipients: store.recipients, armored: store.armored)
  }

  /// The whole content as text, for an editor.
  package static func plaintext(file: String, identity: String) throws(FileFailure) -> [UInt8] {
    try read(file: file, identity: identity).plaintext
  }

  /// Replaces the whole content by text from an editor, after checking that it can be read.
  package static func replace(_ plaintext: [UInt8], file: String, identity: String) throws(FileFailure) {
    let store = try readForWriting(file: file, identity: identity)
    do throws(StoreContentError) {
      _ = try StoreContent(parsing: plaintext)
    } catch {
      throw FileFailure("\(file) is unchanged: \(error)")
    }
    try write(plaintext, file: file, recipients: store.recipients, armored: store.armored)
  }

  /// Encrypts the store to a new identity and drops the old ones. At every step the identity file opens the store,
  /// so a crash in between loses nothing. Returns the new public key.
  @discardableResult
  package static func rotateKey(file: String, identity: String) throws(FileFailure) -> String {
    let store = try readForWriting(file: file, identity: identity)
    let old = try keys(identity)
    let key = AgeIdentity.generate()
    let others = store.recipients.dropFirst(old.identities.count)
    let new = key.recipient.map { [$0] } ?? []
    let text = identityText(key) + others.map { "# recipient: \($0.text)\n" }.joined()
    let both = text + old.identities.map { $0.text + "\n" }.joined()
    let mode = PlainFile.mode(identity) ?? 0o600
    try PlainFile.replace(identity, Array(both.utf8), mode: mode)
    try write(store.plaintext, file: file, recipients: new + others, armored: store.armored)
    do {
      guard try AgeFile.open(try PlainFile.read(file), [key]) == store.plaintext else { throw AgeError.noMatch }
    } catch {
      throw FileFailure("\(file) does not open with its new identity; \(identity) holds the old one and the new one")
    }
    try PlainFile.replace(identity, Array(text.utf8), mode: mode)
    return new.first?.text ?? ""
  }

  private static func identityText(_ key: AgeIdentity) -> String {
    "# created: \(SystemTime.text(SystemTime.now))\n# public key: \(key.recipient?.text ?? "")\n\(key.text)\n"
  }

  static func readForWriting(file: String, identity: String) throws(FileFailure) -> Opened {
    let store = try read(file: file, identity: identity)
    guard store.stanzas <= store.recipients.count else {
      throw FileFailure(
        "\(file) is encrypted to \(store.stanzas) recipients, but \(identity) names \(store.recipients.count): "
          + "changing it would lock the others out. Add a line `# recipient: age1…` to \(identity) for each of them")
    }
    return store
  }

  /// The value of a field.
  package static func get(
    _ name: String, _ field: String = "value", file: String, identity: String
  ) throws(FileFailure) -> String {
    let content = try read(file: file, identity: identity).content
    guard let fields = content.fields(name) else {
      throw FileFailure("\(file) has no secret `\(name)`; `outrider secrets ls` lists them")
    }
    guard let value = fields.first(where: { $0.field == field })?.value else {
      let known = fields.map { "`\($0.field)`" }.joined(separator: ", ")
      throw FileFailure("the secret `\(name)` has no field `\(field)`; it has \(known)")
    }
    return value
  }

  /// Names and fields, without values.
  package static func list(file: String, identity: String) throws(FileFailure) -> [(name: String, fields: [String])] {
    try read(file: file, identity: identity).content.secrets.map { ($0.name, $0.fields.map(\.field)) }
  }

  struct Opened {
    var content: StoreContent
    var plaintext: [UInt8]
    var recipients: [AgeRecipient]
    var stanzas: Int
    var armored: Bool
  }

  static func read(file: String, identity: String) throws(FileFailure) -> Opened {
    let keys = try keys(identity)
    let bytes: [UInt8]
    do throws(FileFailure) {
      bytes = try PlainFile.read(file)
    } catch {
      guard error.code == ENOENT else { throw error }
      throw FileFailure("the age store \(file) does not exist; make it with `outrider secrets init`", code: ENOENT)
    }
    let armored = AgeArmor.isArmored(bytes)
    do {
      let header = try AgeHeader(parsing: armored ? AgeArmor.read(bytes) : bytes)
      let plaintext = try AgeFile.open(bytes, keys.identities)
      return Opened(
        content: try StoreContent(parsing: plaintext), plaintext: plaintext, recipients: keys.recipients,
        stanzas: header.stanzas.count { $0.type == "X25519" }, armored: armored)
    } catch let error as AgeError {
      throw FileFailure(error.explained(file: file, identity: identity))
    } catch {
      throw FileFailure("\(file): \(error)")
    }
  }

  private static func keys(
    _ path: String
  ) throws(FileFailure) -> (identities: [AgeIdentity], recipients: [AgeRecipient]) {
    let bytes: [UInt8]
    do throws(FileFailure) {
      bytes = try PlainFile.read(path)
    } catch {
      guard error.code == ENOENT else { throw error }
      throw FileFailure(
        "the age identity \(path) does not exist; make one with `outrider secrets init` or `age-keygen -o \(path)`",
        code: ENOENT)
    }
    do throws(AgeError) {
      let identities = try AgeIdentity.list(bytes, name: path)
      var recipients = identities.compactMap(\.recipient)
      for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
        guard line.hasPrefix("# recipient: ") else { continue }
        recipients.append(try AgeRecipient(String(line.dropFirst(13))))
      }
      return (identities, recipients)
    } catch {
      throw FileFailure("\(error)")
    }
  }

  private static func write(
    _ plaintext: [UInt8], file: String, recipients: [AgeRecipient], armored: Bool
  ) throws(FileFailure) {
    let bytes: [UInt8]
    do throws(AgeError) {
      bytes = try AgeFile.seal(plaintext, to: recipients, armored: armored)
    } catch {
      throw FileFailure("\(file): \(error)")
    }
    try PlainFile.replace(file, bytes, mode: PlainFile.mode(file) ?? 0o600)
  }
}
