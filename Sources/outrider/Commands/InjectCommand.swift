import ArgumentParser
import Glibc
import Injection
import InjectionWebhook
import Supervisor
import Vocabulary

/// What `inject` and `injector` add.
struct SidecarOptions: ParsableArguments {
  @Option(help: "The sidecar's image.")
  var image = "outrider:\(ProductVersion.text)"

  @Option(help: "The ConfigMap with outrider.yaml, in the pod's namespace.")
  var configMap = "outrider"

  @Option(help: "A directory where the app writes log files: becomes a volume that the sidecar reads.")
  var logs: String?

  var settings: InjectionSettings {
    var settings = InjectionSettings(image: image)
    settings.configMap = configMap
    settings.logs = logs
    return settings
  }
}

struct InjectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inject", abstract: "Add the sidecar to Kubernetes manifests, or take it out.",
    discussion: """
      Reads manifests of pods and of what makes pods (also several documents in a file, also a List, also JSON) and \
      prints them with the sidecar; everything else stays as it was, comments and order too. A manifest that has its \
      sidecar already is not changed.

      Annotations of a pod template win over options: outrider.dev/inject ("false": left alone), outrider.dev/image, \
      outrider.dev/config, outrider.dev/logs.

      Exit codes: 0; 64 wrong options; 65 a manifest that cannot be used; 66 a file that cannot be read or written.
      """)

  @Option(
    name: [.customShort("f"), .customLong("filename")], help: "A manifest; - is standard input. May be repeated.")
  var files: [String] = ["-"]

  @Flag(help: "Take out what inject has added.")
  var uninject = false

  @Flag(help: "Write the files instead of printing them.")
  var inPlace = false

  @OptionGroup var sidecar: SidecarOptions

  func validate() throws {
    if inPlace, files.contains("-") { throw ValidationError("`--in-place` needs files: name them with -f") }
  }

  func run() throws {
    var outcomes: [(file: String, text: String, isChanged: Bool)] = []
    for file in files {
      let text = try Self.read(file)
      do throws(InjectionError) {
        let outcome =
          try uninject ? ManifestInjection.uninject(text) : ManifestInjection.inject(text, sidecar.settings)
        for line in outcome.notes { StandardError.write("\(Self.shown(file)): \(line)\n") }
        if outcome.notes.isEmpty { StandardError.write("\(Self.shown(file)): nothing in it makes pods\n") }
        outcomes.append((file, outcome.text, outcome.changed > 0))
      } catch {
        StandardError.write("outrider inject: \(Self.shown(file)): \(error)\n")
        throw ExitCode(65)
      }
    }
    if inPlace {
      for outcome in outcomes where outcome.isChanged { try Self.write(outcome.text, to: outcome.file) }
    } else {
      for (index, outcome) in outcomes.enumerated() {
        if index > 0 { print("---") }
        print(outcome.text, terminator: outcome.text.hasSuffix("\n") || outcomes.count == 1 ? "" : "\n")
      }
    }
  }

  private static func shown(_ file: String) -> String { file == "-" ? "standard input" : file }

  private static func read(_ file: String) throws -> String {
    guard let stream = fopen(file == "-" ? "/dev/stdin" : file, "r") else { throw failure(file, "cannot be read") }
    defer { fclose(stream) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&chunk, 1, chunk.count, stream), count > 0 {
      bytes += chunk[..<count]
      if bytes.count > 64 << 20 { break }
    }
    if ferror(stream) != 0 { throw failure(file, "cannot be read") }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      StandardError.write("outrider inject: \(shown(file)): not UTF-8 text; save it as such\n")
      throw ExitCode(65)
    }
    return text
  }

  /// As a whole or not at all.
  private static func write(_ text: String, to file: String) throws {
    var info = stat()
    let mode = stat(file, &info) == 0 ? info.st_mode & 0o7777 : 0o644
    let fresh = file + ".outrider-new"
    let descriptor = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw failure(file, "cannot be written") }
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count <= 0 { break }
      done += count
    }
    close(descriptor)
    guard done == bytes.count, rename(fresh, file) == 0 else {
      let error = failure(file, "cannot be written")
      unlink(fresh)
      throw error
    }
  }

  private static func failure(_ file: String, _ what: String) -> ExitCode {
    StandardError.write("outrider inject: \(shown(file)) \(what): \(String(cString: strerror(errno)))\n")
    return ExitCode(66)
  }
}

struct InjectorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "injector", abstract: "Serve the Kubernetes admission webhook that adds the sidecar to new pods.",
    discussion: """
      POST /mutate takes AdmissionReview v1 over TLS; /readyz, /livez and /metrics are beside it. A pod is left alone \
      when its annotation outrider.dev/inject says "false", when it uses its node's network, or when its namespace or \
      labels are not selected here. It is never refused: what cannot be done is a warning.
      """)

  @Option(help: "Where to listen.")
  var listen = ":8443"

  @Option(help: "The certificate chain, PEM; read again when it changes.")
  var certificate: String

  @Option(help: "Its private key, PEM.")
  var key: String

  @OptionGroup var sidecar: SidecarOptions

  @Option(name: .customLong("namespace"), help: "Only pods of this namespace; may be repeated.")
  var namespaces: [String] = []

  @Option(name: .customLong("exclude-namespace"), help: "No pods of this namespace; may be repeated.")
  var excluded: [String] = []

  @Option(name: .customLong("label"), help: "Only pods with this label, as NAME or NAME=VALUE; may be repeated.")
  var labels: [String] = []

  func validate() throws {
    if Address(listen) == nil { throw ValidationError("`--listen \(listen)` is not an address; write :8443") }
  }

  func run() throws {
    guard let address = Address(listen) else { return }
    var selection = AdmissionReview.Selection()
    selection.namespaces = Set(namespaces)
    selection.excludedNamespaces.formUnion(excluded)
    selection.excludedNamespaces.subtract(namespaces)
    selection.labels = labels.map { label in
      let parts = label.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
    }
    // Before any other thread exists: all of them leave these signals to this one.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    let server = WebhookServer(
      .init(
        listen: address, certificate: certificate, key: key, settings: sidecar.settings, selection: selection)
    ) { StandardError.write("outrider injector: \($0)\n") }
    do {
      let place = try server.start()
      StandardError.write("outrider injector: serves at \(place)\n")
    } catch {
      StandardError.write(
        "outrider injector: cannot serve at \(listen) with \(certificate) and \(key): \(error); "
          + "check the files (PEM, readable) and the address\n")
      throw ExitCode(1)
    }
    var number: CInt = 0
    sigwait(&signals, &number)
    StandardError.write("outrider injector: stopping\n")
    try server.stop()
  }
}
