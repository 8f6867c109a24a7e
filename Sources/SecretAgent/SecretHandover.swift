package import Logging
package import NIOCore
package import Secrets
package import Telemetry
package import Vocabulary

/// What an agent leaves to one in another process: values, logins with their leases, and what the app has not been told
/// yet, each a JSON object. They hold secrets and go from process to process through a socket only.
extension SecretInheritance {
  /// Ends the logins' own lives, so that nobody renews what a successor keeps.
  package func handedOver() async -> [JSONNode] {
    var nodes: [JSONNode] = book.known.map { known in
      .object([
        ("secret", .string(known.name)), ("fields", Self.node(known.fields)),
        ("version", known.version.map { .string($0) } ?? .null), ("expires", Self.node(known.expires)),
        ("fetched", Self.node(ledger.fetched(known.name))),
        ("rotated", Self.node(ledger.statuses.first { $0.name == known.name }?.lastRotation)),
      ])
    }
    for (name, vault) in vaults {
      vault.life.cancel()
      await vault.life.value
      nodes.append(await vault.store.handedOver(name))
    }
    let known = configuration.changeActions
    nodes.append(
      .object([
        ("pending", .array(pending.sorted().map { .string($0) })),
        ("actions", .array(actions.compactMap { known.firstIndex(of: $0) }.map { .number("\($0)") })),
      ]))
    return nodes
  }

  /// A successor serves: readers of what only this process can keep current are sent to it.
  package func outdate() { outlets.memory.leave() }

  /// Nothing is given back: it is the successor's.
  package func close() async { for vault in vaults.values { await vault.store.forget() } }

  /// The socket of this process goes, so that a successor can have its path.
  package func closeSocket() { outlets.socket.close() }

  fileprivate static func node(_ fields: [String: SecretBytes]) -> JSONNode {
    .object(fields.sorted { $0.key < $1.key }.map { ($0.key, JSONNode(secret: $0.value)) })
  }

  fileprivate static func node(_ number: Int64?) -> JSONNode { number.map { .number("\($0)") } ?? .null }
}

extension SecretAgent {
  /// The inheritance that another process handed over. What is not understood is left out: it is fetched anew.
  package static func inheritance(
    from nodes: [JSONNode], configuration: SecretsConfiguration, baseDirectory: String, metrics: MetricRegistry,
    group: any EventLoopGroup, logger: Logger, logins: KeptLogins?
  ) async throws -> SecretInheritance {
    let book = SecretBook()
    let ledger = SecretLedger(metrics: metrics, book: book)
    var vaults: [String: OpenVault] = [:]
    var pending: Set<String> = []
    var actions: [ChangeAction] = []
    let known = configuration.changeActions
    for node in nodes {
      if let name = node["secret"]?.string {
        book.adopt(
          SecretBook.Known(
            name: name, fields: node["fields"].secrets,
            version: node["version"]?.string, expires: node["expires"]?.integer))
        guard let value = configuration.values.first(where: { $0.name == name }) else { continue }
        ledger.add(name, store: value.store, source: value.source.summary, required: value.required)
        ledger.adopt(name, fetched: node["fetched"]?.integer, rotated: node["rotated"]?.integer)
      } else if let name = node["store"]?.string {
        guard case .vault(let vault) = configuration.stores.first(where: { $0.name == name })?.kind else { continue }
        let store = try makeStore(
          vault, name, book: book, baseDirectory: baseDirectory, metrics: metrics, group: group, logger: logger,
          timings: AgentTimings(), logins: logins)
        await store.adopt(node, values: configuration.values.filter { $0.store == name })
        vaults[name] = OpenVault(configuration: vault, store: store, life: Task { await store.run() })
      } else {
        pending.formUnion(node["pending"].items.compactMap(\.string))
        for index in node["actions"].items.compactMap({ $0.integer.map { Int($0) } }) where known.indices ~= index {
          actions.append(known[index])
        }
      }
    }
    let absolute = { (path: String) in path.hasPrefix("/") ? path : "\(baseDirectory)/\(path)" }
    let outlets = SecretOutlets(book: book, ledger: ledger, metrics: metrics, group: group, logger: logger)
    return SecretInheritance(
      book: book, ledger: ledger, outlets: outlets, configuration: configuration, vaults: vaults,
      files: Set(configuration.files.map { absolute($0.path) }),
      sets: (try? FileDelivery(configuration.files, absolute))?.sets ?? [], pending: pending, actions: actions,
      values: book.checkpoint())
  }
}

extension VaultStore {
  /// The login and its leases, with times as what is left of them in milliseconds.
  func handedOver(_ name: String) -> JSONNode {
    let now = SystemTime.uptime
    func left(_ end: Duration?) -> JSONNode { end.map { .number("\(max(0, ($0 - now).inMilliseconds))") } ?? .null }
    var members: [(key: String, value: JSONNode)] = [
      ("store", .string(name)), ("generation", .number("\(generation)")),
      (
        "leases",
        .array(
          leases.compactMap { key, lease in
            guard let id = lease.id, lease.schedule.expires != nil else { return nil }
            return .object([
              ("name", .string(key.name)), ("path", .string(key.path)), ("id", .string(id)),
              ("generation", .number("\(lease.generation)")), ("left", left(lease.schedule.expires)),
              ("renewable", .bool(lease.schedule.isRenewable && lease.schedule.state == .held)),
            ])
          })
      ),
      ("leftovers", .array(leftovers.map { .string($0.id) })),
      ("tokens", .array(formerTokens.map { JSONNode(secret: $0.token) })),
      (
        "certificates",
        .array(
          certificates.compactMap { key, schedule in
            schedule.expires.map {
              .object([("name", .string(key.name)), ("path", .string(key.path)), ("expires", .number("\($0)"))])
            }
          })
      ),
    ]
    if let token, schedule.state != .loggedOut {
      members.append(("token", JSONNode(secret: token)))
      members.append(("left", left(schedule.expires)))
      members.append(("renewable", .bool(schedule.state == .renewing)))
      members.append(("batch", .bool(isBatch)))
    }
    if let unwrapped {
      members.append(("wrapping", JSONNode(secret: unwrapped.wrapping)))
      members.append(("secret_id", JSONNode(secret: unwrapped.secretID)))
    }
    return .object(members)
  }

  func forget() async {
    token = nil
    unwrapped = nil
    leases = [:]
    leftovers = []
    formerTokens = []
    await client.shutdown()
  }

  /// Goes on with the login of another process; to be called before `run`.
  func adopt(_ node: JSONNode, values: [SecretValueConfiguration]) {
    let now = SystemTime.uptime
    generation = Int(node["generation"]?.integer ?? 0)
    if let wrapping = node["wrapping"]?.secret, let secretID = node["secret_id"]?.secret {
      unwrapped = (wrapping, secretID)
    }
    if let known = node["token"]?.secret {
      token = known
      isBatch = node["batch"]?.bool ?? false
      probed = now
      // Without an end the schedule takes it for endless.
      let left = node["left"]?.integer.map { Duration.milliseconds(max($0, 1)) } ?? .zero
      schedule.loggedIn(
        at: now, ttl: left, renewable: node["renewable"]?.bool ?? false, batch: isBatch, using: &random)
    }
    for lease in node["leases"].items {
      guard let name = lease["name"]?.string, let path = lease["path"]?.string, let id = lease["id"]?.string,
        let left = lease["left"]?.integer, let value = values.first(where: { $0.name == name })
      else { continue }
      var schedule = LeaseSchedule(interval: value.refresh)
      schedule.fetched(
        at: now, ttl: .milliseconds(left), renewable: lease["renewable"]?.bool ?? false, using: &random)
      leases[LeaseKey(name: name, path: path)] = HeldLease(
        id: id, generation: Int(lease["generation"]?.integer ?? 0), schedule: schedule)
    }
    leftovers = node["leftovers"].items.compactMap(\.string).map { Leftover(id: $0, due: now + timings.overlap) }
    formerTokens = node["tokens"].items.compactMap(\.secret).map { ($0, nil) }
    for certificate in node["certificates"].items {
      guard let name = certificate["name"]?.string, let path = certificate["path"]?.string,
        let expires = certificate["expires"]?.integer
      else { continue }
      var schedule = CertificateSchedule()
      schedule.issued(wall: SystemTime.now, expires: expires, using: &random)
      remember(LeaseKey(name: name, path: path), schedule)
    }
    releaseFormerTokens()
  }
}

extension SecretsConfiguration {
  /// Every change action, in a fixed order.
  fileprivate var changeActions: [ChangeAction] { values.flatMap(\.onChange) + files.flatMap(\.onChange) }
}

extension JSONNode {
  fileprivate init(secret: SecretBytes) {
    self = .string(String(decoding: Base64Text.encode(secret.copy()), as: UTF8.self))
  }

  fileprivate var secret: SecretBytes? {
    string.flatMap { Base64Text.decode(Array($0.utf8)) }.map { SecretBytes($0) }
  }
}

extension JSONNode? {
  fileprivate var items: [JSONNode] { if case .array(let items) = self { items } else { [] } }

  fileprivate var secrets: [String: SecretBytes] {
    guard case .object(let members) = self else { return [:] }
    var fields: [String: SecretBytes] = [:]
    for member in members { fields[member.key] = member.value.secret }
    return fields
  }
}
