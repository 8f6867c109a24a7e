import Synchronization
package import Vocabulary

/// Current values of every secret by name, with a change stream. TLS contexts, header injection, sink
/// credentials, delivery and the log redactor read it. Any thread.
package final class SecretBook: Sendable {
  fileprivate struct Entry {
    var fields: [String: SecretBytes]
    var version: String?
    var expires: Int64?
  }

  private struct State {
    var entries: [String: Entry] = [:]
    var followers: [@Sendable ([String]) -> Void] = []
  }

  private let state = Mutex(State())

  package init() {}

  /// Stores a secret's fields. `version` is the store's own; `expires` is in seconds since 1970. Followers hear of it
  /// when a value differs from the current one. Returns whether it did.
  @discardableResult
  package func publish(
    _ name: String, _ fields: [String: SecretBytes], version: String? = nil, expires: Int64? = nil
  ) -> Bool {
    publish([(name, fields, version, expires)]).contains(name)
  }

  /// Stores several secrets as one change and returns the names of those that changed.
  @discardableResult
  package func publish(
    _ secrets: [(name: String, fields: [String: SecretBytes], version: String?, expires: Int64?)]
  ) -> [String] {
    let (changed, followers) = state.withLock { state in
      var changed: [String] = []
      for secret in secrets {
        var entry = state.entries[secret.name] ?? Entry(fields: [:])
        if state.entries[secret.name] == nil || entry.fields != secret.fields {
          entry.fields = secret.fields
          changed.append(secret.name)
        }
        entry.version = secret.version
        entry.expires = secret.expires
        state.entries[secret.name] = entry
      }
      return (changed, state.followers)
    }
    if !changed.isEmpty { for follower in followers { follower(changed) } }
    return changed
  }

  /// Every value as it stands at one moment.
  package struct Checkpoint: Sendable {
    fileprivate var entries: [String: Entry]
  }

  package func checkpoint() -> Checkpoint { state.withLock { Checkpoint(entries: $0.entries) } }

  /// Puts the values of a checkpoint back in place of later ones. Names that the checkpoint has not stay. Followers hear of what changed.
  package func restore(_ checkpoint: Checkpoint) {
    let (changed, followers) = state.withLock { state in
      var changed: [String] = []
      for (name, old) in checkpoint.entries where state.entries[name]?.fields != old.fields {
        state.entries[name] = old
        changed.append(name)
      }
      return (changed.sorted(), state.followers)
    }
    if !changed.isEmpty { for follower in followers { follower(changed) } }
  }

  /// A secret as it is handed to another process.
  package struct Known: Sendable {
    package var name: String
    package var fields: [String: SecretBytes]
    package var version: String?
    package var expires: Int64?

    package init(
      name: String, fields: [String: SecretBytes], version: String?, expires: Int64?
    ) {
      self.name = name
      self.fields = fields
      self.version = version
      self.expires = expires
    }
  }

  package var known: [Known] {
    state.withLock { state in
      state.entries.map { name, entry in
        Known(
          name: name, fields: entry.fields, version: entry.version, expires: entry.expires)
      }
    }
  }

  /// A secret that another process knew. Followers are not told.
  package func adopt(_ known: Known) {
    let entry = Entry(
      fields: known.fields, version: known.version, expires: known.expires)
    state.withLock { $0.entries[known.name] = entry }
  }

  /// Calls `follower` with the names of changed secrets, on the publisher's thread, after the change is visible.
  /// It must not block.
  package func follow(_ follower: @escaping @Sendable ([String]) -> Void) {
    state.withLock { $0.followers.append(follower) }
  }

  /// Drops every value; buffers are zeroed when their last reader lets go. Followers are not told.
  package func forget() { state.withLock { $0.entries = [:] } }

  package var names: [String] { state.withLock { $0.entries.keys.sorted() } }

  /// The fields of a secret, or nil when it is not there (yet).
  package func fields(_ name: String) -> [String: SecretBytes]? { state.withLock { $0.entries[name]?.fields } }

  package func version(_ name: String) -> String? { state.withLock { $0.entries[name]?.version } }

  /// Seconds since 1970.
  package func expires(_ name: String) -> Int64? { state.withLock { $0.entries[name]?.expires } }

  /// The text with values in place, which is the caller's to erase, or why it cannot be made. The error names secrets and fields, never values.
  package func render(_ template: SecretTemplate) throws(SecretTemplateError) -> [UInt8] {
    var text = ErasingText()
    for part in template.parts {
      switch part {
      case .literal(let piece): text.append(piece.utf8)
      case .secret(let reference):
        let value: [UInt8]
        do throws(SecretTemplateError) {
          value = try self.value(of: reference)
        } catch {
          text.bytes.erase()
          throw error
        }
        text.append(value)
        value.erase()
      }
    }
    return text.bytes
  }

  /// The text with values in place, or nil when a secret or field is missing; `reason(_:)` tells which.
  package func resolve(_ template: SecretTemplate) -> [UInt8]? { try? render(template) }

  /// Why `resolve` gives nil; nil when it does not.
  package func reason(_ template: SecretTemplate) -> String? {
    do throws(SecretTemplateError) {
      try render(template).erase()
      return nil
    } catch {
      return error.description
    }
  }

  /// Every value by `NAME.FIELD`, empty ones and certificates (which are public) left out: what a log redactor looks for.
  /// The arrays are the caller's to erase.
  package func redactions() -> [(name: String, value: [UInt8])] {
    state.withLock { state in
      var values: [(name: String, value: [UInt8])] = []
      for (name, entry) in state.entries {
        for (field, value) in entry.fields where value.count > 0 && !value.isCertificate {
          values.append(("\(name).\(field)", value.copy()))
        }
      }
      return values.sorted { ($0.name, $0.value.count) < ($1.name, $1.value.count) }
    }
  }

  private func value(of reference: SecretReference) throws(SecretTemplateError) -> [UInt8] {
    var filters = reference.filters[...]
    let fallback = filters.first.flatMap(SecretFilter.fallback)
    if fallback != nil { filters = filters.dropFirst() }
    var value: [UInt8]
    if let fields = fields(reference.name), let bytes = fields[reference.field] {
      value = bytes.copy()
    } else if let fallback {
      value = fallback
    } else if let fields = fields(reference.name) {
      let known = fields.keys.sorted().map { "`\($0)`" }.joined(separator: ", ")
      throw SecretTemplateError(
        reference, "secret `\(reference.name)` has no field `\(reference.field)`; it has \(known)")
    } else {
      throw SecretTemplateError(
        reference, "secret `\(reference.name)` is not there (yet): see `outrider status`")
    }
    for filter in filters {
      let before = value
      defer { before.erase() }
      value = try SecretFilter.apply(filter, to: before, of: reference)
    }
    return value
  }
}

/// Why a template has no text.
package struct SecretTemplateError: Error, Equatable, CustomStringConvertible {
  package var reference: SecretReference
  package var reason: String
  package var description: String { "\(reference): \(reason)" }

  init(_ reference: SecretReference, _ reason: String) {
    self.reference = reference
    self.reason = reason
  }
}

/// What may follow a reference after `|`.
package enum SecretFilter {
  /// The known filters; `default:TEXT` besides, which must come first.
  package static let names = ["base64d", "json", "urlencode", "trim", "upper"]

  static func fallback(_ filter: String) -> [UInt8]? {
    filter.hasPrefix("default:") ? Array(filter.utf8.dropFirst(8)) : nil
  }

  static func apply(_ filter: String, to value: [UInt8], of reference: SecretReference) throws(SecretTemplateError)
    -> [UInt8]
  {
    switch filter {
    case "base64d":
      let text = trim(value)
      defer { text.erase() }
      guard let bytes = Base64Text.decode(text, padded: true) ?? Base64Text.decode(text) else {
        throw SecretTemplateError(reference, "the value is not base64")
      }
      return bytes
    case "json":
      guard value.withUnsafeBytes({ UTF8Octets.isText($0) }) else {
        throw SecretTemplateError(reference, "the value is not UTF-8, so it has no JSON form; use it without `|json`")
      }
      return JSONNode.quote(value)
    case "urlencode":
      var text = ErasingText(capacity: value.count * 3)
      for byte in value { text.append(percent(byte)) }
      return text.bytes
    case "trim": return trim(value)
    case "upper": return value.map { (0x61...0x7A).contains($0) ? $0 - 32 : $0 }
    default:
      throw SecretTemplateError(reference, "unknown filter `\(filter)`; known are \(names.joined(separator: ", "))")
    }
  }

  private static func trim(_ value: [UInt8]) -> [UInt8] {
    let isSpace = { (byte: UInt8) in byte == 0x20 || (0x09...0x0D).contains(byte) }
    let start = value.drop(while: isSpace)
    guard let end = start.lastIndex(where: { !isSpace($0) }) else { return [] }
    return start[...end].map { $0 }
  }

  /// RFC 3986 section 2.3: everything but unreserved characters is escaped.
  private static func percent(_ byte: UInt8) -> [UInt8] {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: return [byte]
    default:
      let digits = Array("0123456789ABCDEF".utf8)
      return [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
    }
  }
}
