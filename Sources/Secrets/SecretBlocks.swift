package import Vocabulary

/// A file's template with `{{ … }}` blocks, and which secret each of its calls means.
package struct SecretBlocks: Sendable, Equatable {
  package var template: BlockTemplate
  /// Names of secrets by `BlockTemplate.Source.key`.
  package var names: [String: String]

  package init(template: BlockTemplate, names: [String: String]) {
    self.template = template
    self.names = names
  }
}

extension SecretFileConfiguration {
  /// Names of the secrets that the content is made of.
  package var secretNames: Set<String> {
    guard let blocks else { return Set(content.references.map(\.name)) }
    return Set(blocks.names.values).union(blocks.template.references.map(\.name))
  }
}

extension SecretBook {
  /// The text of a template with blocks. The error names places, secrets and fields, never values.
  package func render(
    _ blocks: SecretBlocks, environment: @escaping (String) -> String?
  ) throws(BlockTemplate.Problem) -> [UInt8] {
    var lent: [TemplateValue] = []
    defer { for value in lent { value.erase() } }
    return try blocks.template.render(
      .init(
        source: { source in
          guard let name = blocks.names[source.key] else { return .failure(.init("`\(source.path)` is not known")) }
          guard let value = self.templateValue(name) else {
            return .failure(.init("secret `\(name)` is not there (yet)"))
          }
          lent.append(value)
          return .success(value)
        },
        text: { template in
          do throws(SecretTemplateError) {
            let text = try self.render(template)
            lent.append(.string(text))
            return .success(text)
          } catch {
            return .failure(.init(error.description))
          }
        }, environment: environment))
  }

  /// A secret as Vault Agent's templates see it: its fields below `.Data` and, as KV v2 has them, below `.Data.data`; those of
  /// a certificate also by the names of `pkiCert`.
  private func templateValue(_ name: String) -> TemplateValue? {
    guard let fields = fields(name) else { return nil }
    var entries = fields.map { TemplateValue.Entry($0.key, .string($0.value.copy())) }
    entries.sort { $0.key < $1.key }
    let plain = entries
    var certificate: [TemplateValue.Entry] = []
    for (field, shown) in [("certificate", "Cert"), ("private_key", "Key"), ("issuing_ca", "CA")] {
      if let value = fields[field] { certificate.append(.init(shown, .string(value.copy()))) }
    }
    let version = TemplateValue.map([.init("version", .text(version(name) ?? ""))])
    let additions = certificate + [.init("data", .map(plain)), .init("metadata", version)]
    for addition in additions where !entries.contains(where: { $0.key == addition.key }) { entries.append(addition) }
    return .map([.init("Data", .map(entries))] + certificate)
  }
}
