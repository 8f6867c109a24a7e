import Secrets
import Vocabulary

extension ConfigurationDecoder {
  func secrets(_ view: TreeView) -> SecretsConfiguration {
    var secrets = SecretsConfiguration()
    let written = view["values"].entries
    secretNames = Set(written.map(\.key))
    let localKinds = ["age", "file", "env"]
    acceptsAnySecret =
      written.isEmpty && view["stores"].entries.contains { entry in localKinds.contains { entry.value[$0].exists } }
    secrets.stores = view["stores"].entries.compactMap { store($0.key, $0.value) }
    let storeNames = view["stores"].entries.map(\.key)
    secrets.values = written.compactMap { value($0.key, $0.mark, $0.value, secrets.stores, storeNames) }
    (storesInPlay, valuesInPlay) = (secrets.stores, secrets.values)
    secrets.files = view["files"].elements.compactMap(file)
    secrets.values += impliedValues
    secrets.sharedMemory = sharedMemory(view["shared_memory"])
    secrets.socket = secretSocket(view["socket"])
    checkPaths(view["files"])
    checkSets(view["files"])
    checkTokens(secrets)
    return secrets
  }

  // MARK: stores

  private func store(_ name: String, _ view: TreeView) -> SecretStoreConfiguration? {
    let kinds = KeyTable.storeKinds.filter { view[$0.name].exists }.map(\.name)
    guard let kind = kinds.first, kinds.count == 1 else {
      if !kinds.isEmpty || !KeyTable.storeKinds.contains(where: { view.isBroken($0.name) }) {
        view.error(
          "`\(view.path)` \(kinds.isEmpty ? "does not say" : "says twice") what kind of store it is",
          "keep one of vault, age, file, env")
      }
      return nil
    }
    let body = view[kind]
    switch kind {
    case "age":
      guard let file = body["file"].filePath, let identity = body["identity"].filePath else { return nil }
      return SecretStoreConfiguration(name: name, kind: .age(file: file, identity: identity))
    case "file":
      return body["directory"].filePath.map { SecretStoreConfiguration(name: name, kind: .directory($0)) }
    case "env": return SecretStoreConfiguration(name: name, kind: .environment)
    default: return vault(body).map { SecretStoreConfiguration(name: name, kind: .vault($0)) }
    }
  }

  private func vault(_ view: TreeView) -> VaultConfiguration? {
    guard var address = view["address"].text, view["auth"].exists, let auth = auth(view["auth"]) else { return nil }
    while address.hasSuffix("/") { address.removeLast() }
    var vault = VaultConfiguration(address: address, auth: auth)
    vault.namespace = view["namespace"].text
    vault.tls = clientTLS(view["tls"])
    view["revoke_at_stop"].bool.assign(to: &vault.revokesAtStop)
    if case .certificate = auth, vault.tls.certificate == nil, !view.isBroken("tls") {
      view["auth"].error("`\(view.path).auth.cert` has no certificate", "add `tls: { certificate: FILE, key: FILE }`")
    }
    return vault
  }

  private func auth(_ view: TreeView) -> VaultConfiguration.Auth? {
    let known = ["approle", "kubernetes", "jwt", "cert", "token_file", "token"]
    let methods = known.filter { view[$0].exists }
    guard let method = methods.first, methods.count == 1 else {
      if !methods.isEmpty || !known.contains(where: view.isBroken) {
        view.error(
          "`\(view.path)` names \(methods.count) ways to log in", "keep one of \(known.joined(separator: ", "))")
      }
      return nil
    }
    let body = view[method]
    switch method {
    case "token_file": return view["token_file"].filePath.map { .tokenFile($0) }
    case "token": return declared(view["token"]).map { .token($0) }
    case "cert": return .certificate(mount: body["mount"].text ?? "cert", name: body["name"].text)
    case "jwt", "kubernetes":
      guard let role = body["role"].text, !body.isBroken("jwt_file") else { return nil }
      let file = body["jwt_file"].filePath ?? KeyTable.serviceAccount
      return .jwt(mount: body["mount"].text ?? method, role: role, file: file)
    default:
      guard let role = credential(body, "role_id"), let secret = credential(body, "secret_id") else { return nil }
      let mount = body["mount"].text ?? "approle"
      switch body["wrapped"].text {
      case nil, "false"?: return .approle(mount: mount, roleID: role, secretID: secret)
      case "true"?: return .wrappedApprole(mount: mount, roleID: role, wrapping: secret, creationPath: nil)
      case let path?:
        if !path.hasPrefix("auth/") {
          body["wrapped"].error(
            "`\(body.path).wrapped` is neither `true` nor a path of an auth method",
            "write for example `auth/\(mount)/role/ROLE/secret-id`")
        }
        return .wrappedApprole(mount: mount, roleID: role, wrapping: secret, creationPath: path)
      }
    }
  }

  private func credential(_ view: TreeView, _ key: String) -> VaultConfiguration.Credential? {
    let literal = view[key].text
    let file = view["\(key)_file"].filePath
    switch (literal, file) {
    case (let literal?, nil): return .literal(literal)
    case (nil, let file?): return .file(file)
    default:
      if literal != nil || !view.isBroken(key) {
        view.error("`\(view.path)` needs either `\(key)_file` or `\(key)`", "add `\(key)_file: PATH`")
      }
      return nil
    }
  }

  /// A store's token may come from another store, not from itself.
  private func checkTokens(_ secrets: SecretsConfiguration) {
    for store in secrets.stores {
      guard case .vault(let vault) = store.kind, case .token(let token) = vault.auth else { continue }
      let own = Set(secrets.values.filter { $0.store == store.name }.map(\.name))
      for reference in token.references where own.contains(reference.name) {
        root["secrets"]["stores"][store.name].error(
          "the store `\(store.name)` needs its own secret `\(reference.name)` to log in",
          "take the token from another store")
      }
    }
  }

  // MARK: values

  private func value(
    _ name: String, _ mark: Mark, _ view: TreeView, _ stores: [SecretStoreConfiguration], _ storeNames: [String]
  ) -> SecretValueConfiguration? {
    if name.contains(where: { !($0.isASCII && ($0.isLetter || $0.isNumber)) && $0 != "_" && $0 != "-" }) {
      report.error(
        mark, "the secret's name `\(PlainText.shown(name))` cannot stand in `${secrets.NAME.FIELD}`",
        "use letters, digits, `-` and `_`")
    }
    guard let storeName = storeName(view, storeNames) else { return nil }
    guard let store = stores.first(where: { $0.name == storeName }) else { return nil }
    guard let source = source(name, view, store) else { return nil }
    var value = SecretValueConfiguration(name: name, store: storeName, source: source)
    view["refresh"].duration.assign(to: &value.refresh)
    view["required"].bool.assign(to: &value.required)
    value.onChange = changeActions(view["on_change"])
    return value
  }

  private func storeName(_ view: TreeView, _ names: [String]) -> String? {
    if let from = view["from"].text {
      if names.contains(from) { return from }
      let near = Suggestion.nearest(to: from, among: names).map { "did you mean `\($0)`? " } ?? ""
      let known = names.isEmpty ? "add it to `secrets.stores`" : "known: \(names.joined(separator: ", "))"
      view["from"].error("`\(view.path).from`: there is no store `\(PlainText.shown(from))`", near + known)
      return nil
    }
    if names.count == 1 { return names[0] }
    if view.isBroken("from") || root["secrets"].isBroken("stores") { return nil }
    if names.isEmpty {
      view.error("`\(view.path)` has no store to come from", "add `secrets.stores`, for example `stores: { env: {} }`")
    } else {
      view.error(
        "`\(view.path)` does not say which store it comes from",
        "add `from:` with one of \(names.joined(separator: ", "))")
    }
    return nil
  }

  private func source(
    _ name: String, _ view: TreeView, _ store: SecretStoreConfiguration
  ) -> SecretValueConfiguration.Source? {
    guard case .vault = store.kind else {
      for kind in ["kv", "pki", "database", "database_static"] where view[kind].exists {
        view[kind].error("`\(view.path).\(kind)` is for vault stores, and `\(store.name)` is none", "write `key: NAME`")
        return nil
      }
      return .key(view["key"].text ?? name)
    }
    if view["key"].exists {
      view["key"].error("`\(view.path).key` is for age, file and env stores", "write `kv: MOUNT/PATH`")
      return nil
    }
    let kinds = ["kv", "database", "database_static", "pki"]
    let written = kinds.filter { view[$0].exists }
    if written.count > 1 {
      view[written[1]].error(
        "`\(view.path)` says twice what to read", "keep one of \(written.map { "`\($0)`" }.joined(separator: ", "))")
      return nil
    }
    if view["pki"].exists { return certificateRequest(view).map { .pki($0) } }
    for key in ["common_name", "alt_names", "ip_sans", "uri_sans", "ttl"] where view[key].exists {
      view[key].error("`\(view.path).\(key)` is for `pki`", "add `pki: MOUNT/issue/ROLE`, or remove it")
    }
    for (key, word) in [("database", "creds"), ("database_static", "static-creds")] where view[key].exists {
      return credentialsPath(view[key], word).map { key == "database" ? .lease(path: $0) : .staticRole(path: $0) }
    }
    guard let path = view["kv"].text else {
      if !kinds.contains(where: view.isBroken) {
        view.error("`\(view.path)` does not say what to read", "add `kv: MOUNT/PATH`, for example `kv: secret/\(name)`")
      }
      return nil
    }
    let pieces = path.split(separator: "/", omittingEmptySubsequences: false)
    guard pieces.count >= 2, !pieces.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
      view["kv"].error("`\(PlainText.shown(path))` is not `MOUNT/PATH`", "write for example `secret/\(name)`")
      return nil
    }
    return .kv(path: path)
  }

  /// `MOUNT/creds/ROLE`; a mount may have slashes.
  private func credentialsPath(_ view: TreeView, _ word: String) -> String? {
    guard let path = view.text else { return nil }
    let pieces = path.split(separator: "/", omittingEmptySubsequences: false)
    let isPath = pieces.count >= 3 && !pieces.contains { $0.isEmpty || $0 == "." || $0 == ".." }
    guard isPath, pieces[pieces.count - 2] == word else {
      view.error(
        "`\(PlainText.shown(path))` is not `MOUNT/\(word)/ROLE`", "write for example `database/\(word)/app`")
      return nil
    }
    return path
  }

  // MARK: files

  private func file(_ view: TreeView) -> SecretFileConfiguration? {
    let contents = ["value", "template", "template_file"].filter { view[$0].exists }
    guard let key = contents.first, contents.count == 1 else {
      if !contents.isEmpty || !["value", "template", "template_file"].contains(where: view.isBroken) {
        view.error("`\(view.path)` has \(contents.count) contents", "keep one of value, template, template_file")
      }
      return nil
    }
    guard let path = view["path"].filePath else { return nil }
    var file = SecretFileConfiguration(path: path, content: SecretTemplate(parts: []))
    if key == "template_file" {
      guard takeTemplateFile(view[key], &file) else { return nil }
    } else if let raw = view[key].node?.scalar?.raw, BlockTemplate.isNeeded(for: raw) {
      guard let blocks = blocks(raw, at: view[key]) else { return nil }
      file.blocks = blocks
    } else {
      guard let content = declared(view[key]) else { return nil }
      file.content = content
    }
    if let mode = view["mode"].text { UInt32(mode, radix: 8).assign(to: &file.mode) }
    file.owner = view["owner"].text
    file.group = view["group"].text
    file.set = fileSet(view["set"])
    file.onChange = changeActions(view["on_change"])
    return file
  }

  /// False when it is wrong, which was reported.
  private func takeTemplateFile(_ view: TreeView, _ file: inout SecretFileConfiguration) -> Bool {
    guard let path = view.filePath else { return false }
    switch files.bytes(of: path, limit: 1 << 20) {
    case .failure(let failure):
      view.error("`\(view.path)`: cannot read \(path): \(failure.reason)", failure.wayOut)
      return false
    case .success(let bytes):
      extraFiles.append(path)
      let text = String(decoding: bytes, as: UTF8.self)
      if BlockTemplate.isNeeded(for: text) {
        let index = report.add(
          file: SourceFile(
            name: path, directory: FilePath.directory(of: path),
            lines: Self.lines(text)))
        file.blocks = blocks(text, at: view, file: index)
        return file.blocks != nil
      }
      do throws(SecretTemplate.Problem) {
        let template = try SecretTemplate.parse(text) { name in
          input.environment[name].map { .value($0) } ?? .unset
        }
        checkReferences(template, at: view)
        file.content = template
        return true
      } catch {
        view.error("`\(view.path)`: \(path), character \(error.offset + 1): \(error.message)", error.wayOut)
        return false
      }
    }
  }

  private func checkPaths(_ view: TreeView) {
    var seen: [String: TreeView] = [:]
    for element in view.elements {
      guard let path = element["path"].filePath else { continue }
      if let first = seen[path]?.fallback {
        element["path"].error(
          "`\(path)` is written twice; first at \(report.place(first))", "give one of them another path")
      }
      seen[path] = element["path"]
    }
  }
}
