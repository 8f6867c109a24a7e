import Logs
import Secrets
import Supervisor
import Traffic
import Vocabulary

/// From a checked tree to values: defaults, references between parts, and what no single key can know.
final class ConfigurationDecoder {
  let input: ConfigurationInput
  let report: ProblemReport
  let root: TreeView
  let files: ConfigurationFiles
  /// Values that do not stand in the tree, by path, for the explanation.
  var overrides: [String: Explanation.Leaf] = [:]
  /// Names that exist by default, by the path of their map.
  var implied: [String: [String]] = [:]
  /// Files read besides configuration files.
  var extraFiles: [String] = []
  var secretNames: Set<String> = []
  var acceptsAnySecret = false
  /// What templates may ask for by path, and what they ask for and nobody declared.
  var storesInPlay: [SecretStoreConfiguration] = []
  var valuesInPlay: [SecretValueConfiguration] = []
  var impliedValues: [SecretValueConfiguration] = []
  /// What was decoded of `secrets`, for references to whole secrets.
  var decodedSecrets = SecretsConfiguration()

  init(input: ConfigurationInput, report: ProblemReport, root: TreeView, files: ConfigurationFiles) {
    self.files = files
    self.input = input
    self.report = report
    self.root = root
  }

  func decode() -> OutriderConfiguration {
    var value = OutriderConfiguration()
    value.secrets = secrets(root["secrets"])
    decodedSecrets = value.secrets
    value.app = app(root["app"])
    value.traffic = traffic(app: value.app)
    value.logs = logs(root["logs"], hasListeners: !(value.traffic.inbound + value.traffic.outbound).isEmpty)
    takeTelemetry(root["telemetry"], &value)
    value.admin = admin(root["admin"])
    value.traffic.reserved = value.admin.listen.map { [$0] } ?? []
    value.shutdown = shutdown(root["shutdown"])
    value.app.proxy = proxyForApp(value.traffic)
    value.stateDirectory = stateDirectory(value.app)
    AddressConflicts(decoder: self).check(value)
    return value
  }

  /// The first forward proxy that the app can reach, as a URL.
  private func proxyForApp(_ traffic: TrafficConfiguration) -> String? {
    let view = root["app"]["proxy_env"]
    guard view.bool == true else { return nil }
    for listener in traffic.outbound where listener.forwardProxy != nil {
      for case .tcp(let host, let port) in listener.listen where port > 0 {
        let isEverywhere = host.isEmpty || host == "0.0.0.0" || host == "::"
        let name = isEverywhere ? "127.0.0.1" : host.contains(":") ? "[\(host)]" : host
        return "http://\(name):\(port)"
      }
    }
    view.error(
      "`app.proxy_env` needs an outbound listener with `forward_proxy: true` on a port",
      "add `egress: { listen: \"127.0.0.1:3128\", forward_proxy: true }` to `outbound`")
    return nil
  }

  /// Reports references to secrets that nobody declares; gives the template back.
  func declared(_ view: TreeView) -> SecretTemplate? {
    guard let template = view.template else { return nil }
    checkReferences(template, at: view)
    return template
  }

  func checkReferences(_ template: SecretTemplate, at view: TreeView) {
    for reference in template.references where !secretNames.contains(reference.name) && !acceptsAnySecret {
      reportUndeclared(reference.name, at: view)
    }
  }

  func reportUndeclared(_ name: String, at view: TreeView) {
    let near = Suggestion.nearest(to: name, among: secretNames.sorted()).map { "did you mean `\($0)`? " } ?? ""
    let known =
      secretNames.isEmpty
      ? "declare it in `secrets.values`" : "declared: \(secretNames.sorted().joined(separator: ", "))"
    view.error("`\(view.path)`: the secret `\(name)` is not declared in `secrets.values`", near + known)
  }

  // MARK: app

  private func app(_ view: TreeView) -> AppConfiguration {
    var app = AppConfiguration()
    app.command = view["command"].texts
    if !input.command.isEmpty {
      app.command = input.command
      let text = "[" + input.command.map(PlainText.yaml).joined(separator: ", ") + "]"
      overrides["app.command"] = Explanation.Leaf(text: text, origin: "command line")
    }
    if app.command.first == "" {
      view["command"].error("`app.command` begins with an empty text", "write `command: [program, argument]`")
    }
    app.workingDirectory = view["working_directory"].filePath
    app.user = view["user"].text
    app.group = view["group"].text
    app.environment = view["env"].entries.compactMap { entry in
      if entry.key.contains("=") {
        report.error(entry.mark, "`\(entry.key)` is not a variable's name", "leave out `=`")
      }
      return declared(entry.value).map { AppConfiguration.Variable(name: entry.key, value: $0) }
    }
    app.port = view["port"].int
    view["address"].text.assign(to: &app.address)
    if view["ready"].exists { app.ready = ready(view["ready"], app) }
    view["restart"].choice(AppConfiguration.Restart.self).assign(to: &app.restart)
    view["stop"]["signal"].signal.assign(to: &app.stopSignal)
    view["stop"]["grace"].duration.assign(to: &app.stopGrace)
    return app
  }

  private func ready(_ view: TreeView, _ app: AppConfiguration) -> AppConfiguration.Ready? {
    var probes: [AppConfiguration.Ready.Probe] = []
    if let path = view["http"].text { probes.append(.http(path: path)) }
    if view["tcp"].bool == true { probes.append(.tcp) }
    if view["exec"].exists {
      if view["exec"].texts.isEmpty {
        view["exec"].error("`app.ready.exec` is empty", "write `exec: [program, argument]`")
      }
      probes.append(.exec(view["exec"].texts))
    }
    if view["fd"].bool == true { probes.append(.descriptor) }
    guard let probe = probes.first, probes.count == 1 else {
      let isMisread = ["http", "tcp", "exec", "fd"].contains { view[$0].exists } && probes.isEmpty
      view.error(
        probes.isEmpty ? "`app.ready` names no probe" : "`app.ready` names \(probes.count) probes",
        isMisread ? "write `tcp: true` or `fd: true`, or remove `ready`" : "keep one of `http`, `tcp`, `exec` and `fd`")
      return nil
    }
    switch probe {
    case .http, .tcp:
      if app.port == nil, !root["app"]["port"].exists {
        view.error("`app.ready` asks the app's port, but `app.port` is not set", "add `port: 8080` to `app`")
      }
    default: break
    }
    var ready = AppConfiguration.Ready(probe: probe)
    view["interval"].duration.assign(to: &ready.interval)
    view["timeout"].duration.assign(to: &ready.timeout)
    view["healthy"].int.assign(to: &ready.healthy)
    view["unhealthy"].int.assign(to: &ready.unhealthy)
    view["deadline"].duration.assign(to: &ready.deadline)
    return ready
  }

  // MARK: the rest

  private func admin(_ view: TreeView) -> AdminConfiguration {
    var admin = AdminConfiguration()
    if let text = view["listen"].text {
      admin.isExplicit = true
      admin.listen = text == "false" ? nil : Address(text)
    }
    admin.socket = view["socket"].filePath
    return admin
  }

  private func shutdown(_ view: TreeView) -> ShutdownConfiguration {
    var shutdown = ShutdownConfiguration()
    if let host = input.environment["KUBERNETES_SERVICE_HOST"], !host.isEmpty {
      shutdown.drainDelay = .seconds(5)
      if !view["drain_delay"].exists {
        overrides["shutdown.drain_delay"] = Explanation.Leaf(
          text: "5s", origin: "default, KUBERNETES_SERVICE_HOST is set")
      }
    }
    view["drain_delay"].duration.assign(to: &shutdown.drainDelay)
    view["drain_timeout"].duration.assign(to: &shutdown.drainTimeout)
    view["deadline"].duration.assign(to: &shutdown.deadline)
    return shutdown
  }

  private func stateDirectory(_ app: AppConfiguration) -> String {
    if let flag = input.state, !flag.isEmpty {
      let path = FilePath.absolute(flag, from: input.workingDirectory)
      overrides["state"] = Explanation.Leaf(text: PlainText.yaml(path), origin: "--state")
      return path
    }
    if let path = root["state"].filePath {
      return path
    }
    let path: String
    let origin: String
    if input.isRoot {
      (path, origin) = ("/var/lib/outrider", "default, as root")
    } else {
      let name = app.command.first.map(FilePath.name).flatMap { $0.isEmpty ? nil : $0 } ?? "default"
      if let base = input.environment["XDG_STATE_HOME"], base.hasPrefix("/") {
        (path, origin) = ("\(base)/outrider/\(name)", "default, XDG_STATE_HOME")
      } else {
        let home = input.environment["HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil } ?? input.workingDirectory
        (path, origin) = ("\(home)/.local/state/outrider/\(name)", "default, HOME")
      }
    }
    overrides["state"] = Explanation.Leaf(text: PlainText.yaml(path), origin: origin)
    return path
  }
}
