package import Vocabulary

/// A certificate with its key, as the PKI engine issued it: one set, that changes as a whole.
package struct VaultCertificate: Equatable, Sendable, CustomStringConvertible {
  /// `certificate`, `private_key`, `issuing_ca`, and `ca_chain` when the server sent one; PEM.
  package var fields: [String: SecretBytes]
  /// As the server writes it, hexadecimal with colons.
  package var serial: String
  /// Seconds since 1970.
  package var notBefore: Int64?
  package var expires: Int64
  package var description: String { "<certificate \(serial)>" }

  /// From the reply of `MOUNT/issue/ROLE`, or of `MOUNT/sign/ROLE` with the key that was made here (PEM).
  package init(issue reply: JSONNode, key local: String? = nil) throws(VaultFailure) {
    guard let data = reply["data"], let certificate = data["certificate"]?.string,
      let key = local.map(JSONNode.string) ?? data["private_key"], key.isText, let expires = data["expiration"]?.integer
    else {
      throw .malformed("the reply has no `data` with `certificate`, `private_key` and `expiration`")
    }
    self.expires = Int64(min(max(0, expires), 1 << 40))
    notBefore = data["not_before"]?.integer.map { Int64($0) }
    serial = data["serial_number"]?.string ?? ""
    fields = ["certificate": SecretBytes(certificate), "private_key": SecretBytes(key)]
    if let issuer = data["issuing_ca"]?.string { fields["issuing_ca"] = SecretBytes(issuer) }
    if case .array(let chain)? = data["ca_chain"] {
      let text = chain.compactMap(\.string).joined(separator: "\n")
      if !text.isEmpty { fields["ca_chain"] = SecretBytes(text) }
    }
  }
}

extension CertificateRequest {
  /// The body for `MOUNT/issue/ROLE`.
  package var body: JSONNode { body(signing: nil) }

  /// The body for `MOUNT/issue/ROLE`, or with a signing request (PEM) for `MOUNT/sign/ROLE`, as the API takes it: lists
  /// are text with commas.
  package func body(signing: String?) -> JSONNode {
    var members: [(key: String, value: JSONNode)] = [("common_name", .string(commonName)), ("format", .string("pem"))]
    members.append(signing.map { ("csr", .string($0)) } ?? ("private_key_format", .string("pkcs8")))
    for (key, list) in [("alt_names", altNames), ("ip_sans", ipSANs), ("uri_sans", uriSANs)] where !list.isEmpty {
      members.append((key, .string(list.joined(separator: ","))))
    }
    if let ttl { members.append(("ttl", .string("\(ttl.components.seconds)s"))) }
    return .object(members)
  }
}
