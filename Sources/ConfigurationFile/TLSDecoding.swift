import Secrets
import Traffic

extension ConfigurationDecoder {
  /// A listener's `tls`.
  func listenerTLS(_ view: TreeView) -> ListenerTLSConfiguration? {
    guard view.exists else { return nil }
    let hosts = view["sni"].entries.compactMap { host($0.key, $0.mark, $0.value) }
    let certificate = certificate(view, required: view["sni"].entries.isEmpty)
    var tls = ListenerTLSConfiguration(certificate: certificate)
    tls.hosts = hosts
    tls.clientCA = trust(view["client_ca"])
    tls.match = peers(view["match"])
    view["min_version"].choice(TLSVersionBound.self).assign(to: &tls.minimumVersion)
    view["permissive"].bool.assign(to: &tls.permissive)
    tls.clientCertificate = view["client_ca"].exists ? .required : .none
    view["client_certificate"].choice(ListenerTLSConfiguration.ClientCertificate.self)
      .assign(to: &tls.clientCertificate)
    checkClients(&tls, view)
    return certificate == nil && hosts.isEmpty ? nil : tls
  }

  private func checkClients(_ tls: inout ListenerTLSConfiguration, _ view: TreeView) {
    if tls.clientCertificate == .none {
      for key in ["client_ca", "match"] where view[key].exists {
        view[key].error(
          "`\(view.path).\(key)` is about client certificates, and none is asked for",
          "add `client_certificate: required`\(key == "match" ? " and `client_ca`" : "")")
      }
      tls.clientCA = nil
      return
    }
    guard tls.clientCA == nil, !view.isBroken("client_ca"), !view["client_ca"].exists else { return }
    if case .secret(let name)? = tls.certificate, isPKI(name) {
      tls.clientCA = .secret(name)
    } else {
      view.error(
        "`\(view.path)` asks for client certificates, but does not say who signs them",
        "add `client_ca: FILE` or `client_ca: secrets.NAME`")
    }
  }

  private func host(_ name: String, _ mark: Mark, _ view: TreeView) -> ListenerTLSConfiguration.Host? {
    let pattern = name.lowercased()
    let rest = pattern.hasPrefix("*.") ? pattern.dropFirst(2) : pattern[...]
    if rest.isEmpty || rest.hasPrefix(".") || rest.contains(where: { "*/: ".contains($0) || !$0.isASCII }) {
      report.error(
        mark, "`\(PlainText.shown(name))` is not a host", "write `api.example.com` or `*.example.com`, without a port")
      return nil
    }
    return certificate(view, required: true).map { ListenerTLSConfiguration.Host(pattern: pattern, certificate: $0) }
  }

  /// A cluster's `tls`.
  func clusterTLS(_ view: TreeView) -> ClusterTLSConfiguration? {
    guard view.exists else { return nil }
    if view.isScalar { return view.bool == true ? ClusterTLSConfiguration() : nil }
    var tls = ClusterTLSConfiguration()
    tls.serverName = view["sni"].text
    if let name = tls.serverName, !isHostName(name) {
      view["sni"].error("`\(PlainText.shown(name))` is not a host name", "write for example `payments.internal`")
    }
    trust(view["ca"]).assign(to: &tls.trust)
    tls.certificate = certificate(view, required: false)
    tls.match = peers(view["match"])
    view["verify"].bool.assign(to: &tls.verify)
    if !tls.verify {
      for key in ["ca", "match"] where view[key].exists {
        view[key].error(
          "`\(view.path).\(key)` has no effect with `verify: false`", "remove `verify: false`, which trusts everybody")
      }
    }
    return tls
  }

  private func isHostName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 255 && !Endpoint.isLiteral(name)
      && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x2F && $0 != 0x3A && $0 != 0x2A }
  }

  // MARK: Sources

  func certificate(_ view: TreeView, required: Bool) -> CertificateSource? {
    let hasFiles = view["certificate"].exists || view["key"].exists
    if view["from"].exists, hasFiles {
      view.error("`\(view.path)` has both `from` and files", "keep `from`, or `certificate` and `key`")
      return nil
    }
    if view["from"].exists { return certificateSecret(view["from"]).map { .secret($0) } }
    guard let certificate = view["certificate"].filePath, let key = view["key"].filePath else {
      let isBroken = ["from", "certificate", "key"].contains { view.isBroken($0) }
      if hasFiles, !isBroken {
        let missing = view["key"].exists ? "certificate" : "key"
        view.error("`\(view.path)` has no `\(missing)`", "add `\(missing): FILE`")
      } else if required, !isBroken {
        view.error(
          "`\(view.path)` has no certificate", "add `from: secrets.NAME`, or `certificate: FILE` and `key: FILE`")
      }
      return nil
    }
    return .files(certificate: certificate, key: key)
  }

  func trust(_ view: TreeView) -> TrustSource? {
    guard let text = view.text else { return nil }
    if text.hasPrefix("secrets.") { return certificateSecret(view).map { .secret($0) } }
    return view.filePath.map { .file($0) }
  }

  private func peers(_ view: TreeView) -> [PeerPattern] {
    view.elements.compactMap { $0.text.flatMap { PeerPattern($0) } }
  }

  /// The name of `secrets.NAME`, when it is declared and may hold a certificate.
  private func certificateSecret(_ view: TreeView) -> String? {
    guard let text = view.text else { return nil }
    let name = String(text.dropFirst("secrets.".count))
    guard secretNames.contains(name) || acceptsAnySecret else {
      reportUndeclared(name, at: view)
      return nil
    }
    guard let value = decodedSecrets.values.first(where: { $0.name == name }) else { return name }
    let kind = decodedSecrets.stores.first { $0.name == value.store }?.kind
    if kind == .environment {
      view.error(
        "`\(view.path)`: the secret `\(name)` is one value of the environment, not a certificate with its key",
        "use a `pki` secret, or one with the fields `certificate` and `private_key` (or `tls.crt` and `tls.key`)")
      return nil
    }
    return name
  }

  private func isPKI(_ name: String) -> Bool {
    decodedSecrets.values.contains { value in
      if value.name == name, case .pki = value.source { true } else { false }
    }
  }
}
