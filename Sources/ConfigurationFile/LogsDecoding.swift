import Logs
import Vocabulary

extension ConfigurationDecoder {
  func logs(_ view: TreeView, hasListeners: Bool) -> LogsConfiguration {
    var logs = LogsConfiguration()
    logs.sources = sources(view["sources"], hasListeners)
    logs.transforms = view["transforms"].elements.flatMap(transform)
    logs.spool.path = view["spool"]["path"].filePath
    view["spool"]["limit"].size.assign(to: &logs.spool.limit)
    view["spool"]["when_full"].choice(SpoolConfiguration.WhenFull.self).assign(to: &logs.spool.whenFull)
    logs.spool.sync = view["spool"]["sync"].text == "batch"
    logs.sinks = sinks(view["sinks"], sources: logs.sources.map(\.name))
    checkRoutes(view["transforms"], logs.sinks.map(\.name))
    logs.tests = view["tests"].elements.compactMap { test($0, logs) }
    return logs
  }

  // MARK: sources

  private func sources(_ view: TreeView, _ hasListeners: Bool) -> [LogSourceConfiguration] {
    var sources = view.entries.compactMap { source($0.key, $0.value) }
    let inputs = sources.map(\.input)
    let broken = Set(view.entries.map(\.key)).subtracting(sources.map(\.name))
    var added: [String] = []
    if hasListeners, !inputs.contains(.access), !broken.contains("access"),
      !sources.contains(where: { $0.name == "access" })
    {
      added.append("access")
      sources.insert(LogSourceConfiguration(name: "access", input: .access), at: 0)
    }
    if !inputs.contains(.app), !broken.contains("app"), !sources.contains(where: { $0.name == "app" }) {
      added.insert("app", at: 0)
      sources.insert(LogSourceConfiguration(name: "app", input: .app), at: 0)
    }
    implied["logs.sources"] = added
    for name in added + sources.map(\.name) where !view[name]["from"].exists && ["app", "access"].contains(name) {
      if !view[name]["files"].exists {
        overrides["logs.sources.\(name).from"] = Explanation.Leaf(text: name, origin: "default")
      }
    }
    return sources
  }

  private func source(_ name: String, _ view: TreeView) -> LogSourceConfiguration? {
    guard let input = input(name, view) else { return nil }
    var source = LogSourceConfiguration(name: name, input: input)
    reading(view, &source)
    view["max_record"].size.assign(to: &source.maxRecord)
    if source.maxRecord < 1024 || source.maxRecord > 64 << 20 {
      view["max_record"].error("`\(view.path).max_record` is out of range", "write a size from 1KiB to 64MiB")
    }
    return source
  }

  private func input(_ name: String, _ view: TreeView) -> LogSourceConfiguration.Input? {
    let isNamed = ["app", "access"].contains(name)
    let isElsewhere = ["files", "fifo", "listen", "journald"].contains { view[$0].exists }
    let kind = view["from"].text ?? (isNamed && !isElsewhere ? name : nil)
    if view["files"].exists {
      guard only("files", view) else { return nil }
      var files = LogSourceConfiguration.FilesInput(globs: view["files"].elements.compactMap(\.filePath))
      if files.globs.isEmpty { view.error("`\(view.path).files` is empty", "write `files: [/var/log/app/*.log]`") }
      files.exclude = view["exclude"].elements.compactMap(\.filePath)
      files.fromBeginning = view["start"].text == "beginning"
      view["rotate_wait"].duration.assign(to: &files.rotateWait)
      view["fingerprint"].size.assign(to: &files.fingerprint)
      if !(16...FileCheckpoint.headLimit).contains(files.fingerprint) {
        view["fingerprint"].error("`\(view.path).fingerprint` is out of range", "write a size from 16B to 64KiB")
      }
      return .files(files)
    }
    for key in ["exclude", "start", "rotate_wait", "fingerprint"] where view[key].exists {
      view[key].error("`\(view[key].path)` is for `files` only", "remove it, or add `files`")
    }
    for key in ["format", "tls"] where !view["listen"].exists && view[key].exists {
      view[key].error("`\(view[key].path)` is for `listen` only", "remove it, or add `listen`")
    }
    if view["fifo"].exists { return only("fifo", view) ? view["fifo"].filePath.map { .fifo($0) } : nil }
    if view["listen"].exists { return only("listen", view) ? listen(view).map { .listen($0) } : nil }
    if view["journald"].exists { return only("journald", view) ? .journal(journal(view)) : nil }
    switch kind {
    case "app": return .app
    case "access": return .access
    default:
      if !["from", "files", "fifo", "listen", "journald"].contains(where: view.isBroken) {
        view.error(
          "`\(view.path)` does not say what to read",
          "add `files: [PATTERN]`, `fifo: PATH`, `listen: tcp:HOST:PORT`, `journald: {}`, `from: app` or `from: access`"
        )
      }
      return nil
    }
  }

  // MARK: sinks

  private func sinks(_ view: TreeView, sources: [String]) -> [LogSinkConfiguration] {
    var sinks = view.entries.compactMap { sink($0.key, $0.value, sources) }
    let names = view.entries.map(\.key)
    var added: [String] = []
    let hasStore = sinks.contains { if case .store = $0.output { true } else { false } }
    if !hasStore, !names.contains("store") {
      added.append("store")
      sinks.append(LogSinkConfiguration(name: "store", output: .store(path: nil, keep: 256 << 20)))
    }
    if names.isEmpty {
      added.append("console")
      sinks.append(LogSinkConfiguration(name: "console", output: .console(pretty: false)))
    }
    implied["logs.sinks"] = added
    return sinks
  }

  private func sink(_ name: String, _ view: TreeView, _ sources: [String]) -> LogSinkConfiguration? {
    let kinds = KeyTable.sinkKinds.filter { view[$0.name].exists }.map(\.name)
    guard let kind = kinds.first, kinds.count == 1 else {
      if !kinds.isEmpty || !KeyTable.sinkKinds.contains(where: { view.isBroken($0.name) }) {
        let known = KeyTable.sinkKinds.filter(\.isSupported).map(\.name).joined(separator: ", ")
        view.error(
          "`\(view.path)` \(kinds.isEmpty ? "does not say" : "says twice") what kind of sink it is",
          "keep one of \(known)")
      }
      return nil
    }
    if name.contains("/") || name.hasPrefix(".") {
      view.error("the sink's name `\(PlainText.shown(name))` cannot name a file", "use letters, digits, `-` and `_`")
    }
    guard let output = output(kind, view[kind], hasTLS: view["tls"].exists) else { return nil }
    var sink = LogSinkConfiguration(name: name, output: output)
    sink.from = view["from"].elements.compactMap { element in
      guard let text = element.text else { return nil }
      if !sources.contains(text) {
        let near = Suggestion.nearest(to: text, among: sources).map { "did you mean `\($0)`? " } ?? ""
        element.error(
          "`\(element.path)`: there is no source `\(PlainText.shown(text))`",
          near + "known: \(sources.joined(separator: ", "))")
      }
      return text
    }
    delivery(view, &sink)
    return sink
  }

  private func delivery(_ view: TreeView, _ sink: inout LogSinkConfiguration) {
    view["batch"]["bytes"].size.assign(to: &sink.batchBytes)
    view["batch"]["records"].int.assign(to: &sink.batchRecords)
    view["batch"]["age"].duration.assign(to: &sink.batchAge)
    sink.gzip = (view["compress"].text ?? "gzip") == "gzip"
    view["retry"]["initial"].duration.assign(to: &sink.retryInitial)
    view["retry"]["max"].duration.assign(to: &sink.retryMax)
    sink.giveUp = view["retry"]["give_up"].duration
    sink.deadLetter = view["dead_letter"].filePath
    view["concurrency"].int.assign(to: &sink.concurrency)
    sink.tls = clientTLS(view["tls"])
  }

  func clientTLS(_ view: TreeView) -> ClientTLSConfiguration {
    var tls = ClientTLSConfiguration()
    tls.ca = view["ca"].filePath
    tls.certificate = view["certificate"].filePath
    tls.key = view["key"].filePath
    view["verify"].bool.assign(to: &tls.verify)
    if (tls.certificate == nil) != (tls.key == nil) {
      view.error("`\(view.path)` needs `certificate` and `key` together", "add the other one")
    }
    return tls
  }

  private func output(_ kind: String, _ view: TreeView, hasTLS: Bool) -> LogSinkConfiguration.Output? {
    switch kind {
    case "store": return .store(path: view["path"].filePath, keep: view["keep"].size ?? 256 << 20)
    case "console": return .console(pretty: view["pretty"].bool ?? false)
    case "file": return view["path"].filePath.map { .file(path: $0, rotate: rotation(view["rotate"])) }
    case "http", "splunk", "loki", "otlp": return networkSink(kind, view)
    case "syslog": return syslogSink(view, hasTLS: hasTLS)
    case "forward": return forwardSink(view, hasTLS: hasTLS)
    default: return elasticsearch(view)
    }
  }

  private func elasticsearch(_ view: TreeView) -> LogSinkConfiguration.Output? {
    guard let urls = sinkURLs(view, example: "https://host:9200") else { return nil }
    var output = LogSinkConfiguration.ElasticsearchOutput(urls: urls, index: view["index"].text ?? "")
    view["data_stream"].bool.assign(to: &output.dataStream)
    output.deterministicID = (view["id"].text ?? "deterministic") == "deterministic"
    output.pipeline = view["pipeline"].text
    let auth = view["auth"]
    if auth["basic"].exists, auth["api_key"].exists {
      auth.error("`\(auth.path)` names two ways to log in", "keep `basic` or `api_key`")
    }
    if let user = auth["basic"]["user"].text, let password = declared(auth["basic"]["password"]) {
      output.authorization = .basic(user: user, password: password)
    } else if let key = declared(auth["api_key"]) {
      output.authorization = .apiKey(key)
    }
    return .elasticsearch(output)
  }
}
