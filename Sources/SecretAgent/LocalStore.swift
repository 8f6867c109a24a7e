import Glibc
import Secrets
import Vocabulary

/// A store on this machine: an age file, a directory of files or the environment.
struct LocalStore: Sendable {
  enum Kind: Sendable {
    case age(file: String, identity: String)
    case directory(String)
    case environment
  }

  var name: String
  var kind: Kind

  /// The fields of the wanted keys, or of all when `keys` is nil (never the whole environment).
  func load(_ keys: [String]?) throws(FileFailure) -> [String: [String: SecretBytes]] {
    switch kind {
    case .age(let file, let identity): return try Self.age(file, identity, keys)
    case .directory(let path):
      guard let keys else { return try Self.directory(path, try PlainFile.list(path)) }
      return try Self.directory(path, keys)
    case .environment: return try Self.environment(keys ?? [])
    }
  }

  /// Changes when the store may have changed; `keys` nil = all.
  func signature(_ keys: [String]?) -> [PlainFile.Signature?] {
    switch kind {
    case .age(let file, let identity): [PlainFile.signature(file), PlainFile.signature(identity)]
    case .environment: []
    case .directory(let path):
      (keys ?? (try? PlainFile.list(path)) ?? []).flatMap { key -> [PlainFile.Signature?] in
        let place = "\(path)/\(key)"
        let names = PlainFile.isDirectory(place) ? (try? PlainFile.list(place)) ?? [] : []
        return [PlainFile.signature(place)] + names.map { PlainFile.signature("\(place)/\($0)") }
      }
    }
  }

  private static func age(
    _ file: String, _ identity: String, _ keys: [String]?
  ) throws(FileFailure) -> [String: [String: SecretBytes]] {
    let content = try AgeStoreEditor.read(file: file, identity: identity).content
    let known = content.names
    var secrets: [String: [String: SecretBytes]] = [:]
    for key in keys ?? known {
      guard let fields = content.fields(key) else {
        let list = known.isEmpty ? "it is empty" : "it holds " + known.map { "`\($0)`" }.joined(separator: ", ")
        throw FileFailure("\(file) has no secret `\(key)`; \(list). Add it with `outrider secrets set \(key)`")
      }
      secrets[key] = Dictionary(fields.map { ($0.field, SecretBytes($0.value)) }) { first, _ in first }
    }
    return secrets
  }

  private static func directory(_ path: String, _ keys: [String]) throws(FileFailure)
    -> [String: [String: SecretBytes]]
  {
    var secrets: [String: [String: SecretBytes]] = [:]
    for key in keys {
      let place = "\(path)/\(key)"
      guard PlainFile.isDirectory(place) else {
        secrets[key] = ["value": try read(place)]
        continue
      }
      var fields: [String: SecretBytes] = [:]
      for field in try PlainFile.list(place) where !PlainFile.isDirectory("\(place)/\(field)") {
        fields[field] = try read("\(place)/\(field)")
      }
      guard !fields.isEmpty else { throw FileFailure("\(place) holds no file; a secret has one file for each field") }
      secrets[key] = fields
    }
    return secrets
  }

  private static func read(_ path: String) throws(FileFailure) -> SecretBytes {
    let bytes = try PlainFile.read(path)
    defer { bytes.erase() }
    return SecretBytes(bytes)
  }

  private static func environment(_ keys: [String]) throws(FileFailure) -> [String: [String: SecretBytes]] {
    var secrets: [String: [String: SecretBytes]] = [:]
    for key in keys {
      guard let value = getenv(key) else {
        throw FileFailure("the environment variable \(key) is not set; set it before starting the sidecar")
      }
      secrets[key] = ["value": SecretBytes(String(cString: value))]
    }
    return secrets
  }
}
