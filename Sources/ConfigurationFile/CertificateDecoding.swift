import Secrets

extension ConfigurationDecoder {
  /// A secret of the PKI engine.
  func certificateRequest(_ view: TreeView) -> CertificateRequest? {
    guard let path = view["pki"].text else { return nil }
    let pieces = path.split(separator: "/", omittingEmptySubsequences: false)
    let isPath = pieces.count >= 3 && !pieces.contains { $0.isEmpty || $0 == "." || $0 == ".." }
    guard isPath, ["issue", "sign"].contains(pieces[pieces.count - 2]) else {
      view["pki"].error(
        "`\(PlainText.shown(path))` is not `MOUNT/issue/ROLE` or `MOUNT/sign/ROLE`", "write for example `pki/issue/web`"
      )
      return nil
    }
    guard let name = view["common_name"].text, !name.isEmpty else {
      if !view.isBroken("common_name") {
        view.error("`\(view.path)` has no `common_name`", "add `common_name: web.internal`")
      }
      return nil
    }
    var request = CertificateRequest(path: path, commonName: name)
    request.altNames = list(view["alt_names"])
    request.ipSANs = list(view["ip_sans"]) { Endpoint.isLiteral($0) ? nil : "an IP address" }
    request.uriSANs = list(view["uri_sans"]) { $0.contains(":") ? nil : "a URI" }
    request.ttl = view["ttl"].duration
    return request
  }

  /// The server takes lists as text with commas between, so that no element may hold one.
  private func list(_ view: TreeView, _ wanted: (String) -> String? = { _ in nil }) -> [String] {
    view.elements.compactMap { element in
      guard let text = element.text else { return nil }
      if text.isEmpty || text.contains(",") {
        element.error("`\(element.path)` is empty or holds a comma", "write a list: `[a, b]`")
      } else if let kind = wanted(text) {
        element.error("`\(PlainText.shown(text))` is not \(kind)", "write \(kind)")
      }
      return text
    }
  }
}
