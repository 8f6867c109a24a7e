import ArgumentParser
import ConfigurationFile
import Glibc
import Supervisor
import Vocabulary

struct InitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Write a commented configuration to start from, for the app at hand.",
    discussion: """
      Without a command after -- the working directory tells how the app starts, where it can: a Procfile, package.json, \
      manage.py, app.py or main.py. A file that exists is never overwritten.
      """)

  @Option(name: .long, help: "The file to write.")
  var config = "outrider.yaml"

  @Option(help: "The port that the app listens on.")
  var port: Int?

  @Option(help: "The address that clients connect to, when the app has a port.")
  var listen = ":8000"

  @Option(help: "The path that tells by HTTP whether the app is ready, such as /healthz.")
  var ready: String?

  @Option(help: "Log files to read beside the app's output, such as '/var/log/app/*.log'; may be repeated.")
  var logs: [String] = []

  @Argument(parsing: .postTerminator, help: "The app's command, after --.")
  var command: [String] = []

  func validate() throws {
    if let port, !(1...65535).contains(port) { throw ValidationError("`--port \(port)` is no port; write 1 to 65535") }
    if Address(listen) == nil {
      throw ValidationError("`--listen \(listen)` is no address; write one such as :8000 or 127.0.0.1:8000")
    }
    if let ready, !ready.hasPrefix("/") {
      throw ValidationError("`--ready \(ready)` is no path; write one such as /healthz")
    }
    if ready != nil, port == nil {
      throw ValidationError("`--ready` asks the app over HTTP: name its port with --port")
    }
  }

  func run() throws {
    let found = command.isEmpty ? Self.commandHere() : command
    let text = StarterFile(command: found, port: port, listen: listen, ready: ready, logs: logs).text
    let file = open(config, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard file >= 0 else {
      let reason =
        errno == EEXIST
        ? "it exists, and is left as it is; name another with --config" : String(cString: strerror(errno))
      StandardError.write("outrider: cannot write \(config): \(reason)")
      throw ExitCode(1)
    }
    defer { close(file) }
    let bytes = Array(text.utf8)
    guard write(file, bytes, bytes.count) == bytes.count, fsync(file) == 0 else {
      let reason = String(cString: strerror(errno))
      unlink(config)
      StandardError.write("outrider: cannot write \(config): \(reason)")
      throw ExitCode(1)
    }
    let input = ConfigurationInput(
      path: config, environment: ProcessFacts.environment, workingDirectory: ProcessFacts.workingDirectory,
      isRoot: geteuid() == 0)
    do {
      _ = try ConfigurationLoader.load(input)
    } catch {
      StandardError.write("\(config) is written, and does not fit yet:\n\(error.rendered)")
      throw ExitCode(78)
    }
    let next = config == "outrider.yaml" ? "" : " --config \(config)"
    print("\(config) is written and valid; `outrider run\(next)\(found.isEmpty ? " -- CMD" : "")` starts it")
  }

  /// How the app in the working directory is started; empty = nothing that is known.
  private static func commandHere() -> [String] {
    if let text = AppProcesses.text("Procfile"),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("web:") })
    {
      let words = line.dropFirst(4).split(separator: " ").map(String.init)
      // What a shell would have to read is its business.
      let isPlain = !words.contains { $0.contains("$") || $0.contains("\"") || $0.contains("'") || $0.contains("&") }
      return isPlain ? words : ["sh", "-c", String(line.dropFirst(4)).trimmed]
    }
    let known: [(file: String, command: [String])] = [
      ("package.json", ["npm", "start"]), ("manage.py", ["python3", "manage.py", "runserver"]),
      ("app.py", ["python3", "app.py"]), ("main.py", ["python3", "main.py"]),
    ]
    return known.first { access($0.file, F_OK) == 0 }?.command ?? []
  }
}

/// The text of a configuration to start from.
struct StarterFile {
  let command: [String]
  let port: Int?
  let listen: String
  let ready: String?
  let logs: [String]

  var text: String {
    [
      "# Outrider's configuration. `outrider validate` checks it, `outrider explain` shows every default.", appPart,
      trafficPart, logsPart, secretsPart,
    ]
    .joined(separator: "\n") + "\n"
  }

  private var appPart: String {
    var lines = ["app:"]
    lines.append(
      command.isEmpty
        ? "  # command: [python3, app.py]   # or after `outrider run --`" : "  command: \(Self.list(command))")
    lines.append(
      port.map { "  port: \($0)" }
        ?? "  # port: 8080                   # where the app listens; opens the part `inbound`")
    if let ready {
      lines.append("  ready: { http: \(Self.quoted(ready)) }")
    } else {
      lines.append("  # ready: { http: /healthz }    # or tcp: true, exec: [CMD], fd: true")
    }
    lines.append("  # restart: on-failure          # never (the sidecar ends with the app), on-failure, always")
    lines.append("  restart: never\n")
    return lines.joined(separator: "\n")
  }

  private var trafficPart: String {
    let isOff = port == nil ? "# " : ""
    return """
      # Who comes to the app: clients connect here, and the app sees them from 127.0.0.1.
      \(isOff)inbound:
      \(isOff)  web: { listen: \(Self.quoted(listen)) }
      #   web: { listen: ":8443", tls: { certificate: tls.crt, key: tls.key } }

      # Where the app goes: it asks 127.0.0.1:9001, and the sidecar has TLS, retries and time limits.
      # outbound:
      #   payments: { listen: "127.0.0.1:9001", to: "https://payments.internal", retries: 2 }

      """
  }

  private var logsPart: String {
    var lines = ["# The app's output is kept on this machine: `outrider logs --follow`."]
    if logs.isEmpty {
      lines.append("# logs:\n#   sources:\n#     files: { files: [\"/var/log/app/*.log\"] }")
    } else {
      lines.append("logs:\n  sources:\n    app: { from: app }\n    files: { files: \(Self.list(logs)) }")
    }
    lines.append("#   sinks:\n#     search: { elasticsearch: { url: \"https://es:9200\", index: app } }\n")
    return lines.joined(separator: "\n")
  }

  private var secretsPart: String {
    """
    # Secrets: from here into files, the app's environment (app.env) and headers (inject).
    # secrets:
    #   stores: { local: { age: { file: secrets.age, identity: identity.txt } } }
    #   values: { db: { from: local, key: db } }
    #   files: [{ path: /run/app/db-password, value: "${secrets.db.password}" }]
    """
  }

  private static func list(_ words: [String]) -> String { "[" + words.map(quoted).joined(separator: ", ") + "]" }

  /// A JSON string is one of YAML; `${` begins an expansion there.
  private static func quoted(_ text: String) -> String {
    JSONNode.string(text.replacing("${", with: "$${")).json
  }
}

extension String {
  fileprivate var trimmed: String {
    var text = self[...]
    while text.first?.isWhitespace == true { text = text.dropFirst() }
    while text.last?.isWhitespace == true { text = text.dropLast() }
    return String(text)
  }
}
