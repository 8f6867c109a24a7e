import ArgumentParser
import ConfigurationFile
import Glibc
import Supervisor
import Vocabulary

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Look for what is wrong, or soon will be, and say the way out.",
    discussion: """
      Checks the configuration, the app, ports, files and their permissions, the state directory, certificates and limits, \
      and what a running sidecar says of the app, upstreams, secrets and log sinks.

      Exit codes: 0 nothing is wrong (warnings do not count), 1 something is, 78 the configuration is invalid.
      """)
  @OptionGroup var options: CommonOptions

  @Argument(parsing: .postTerminator, help: "The app's command, after --, as given to `outrider run`.")
  var command: [String] = []

  func run() throws {
    var findings = Findings()
    let loaded: LoadedConfiguration
    do {
      loaded = try ConfigurationLoader.load(options.input(command: command))
    } catch {
      findings.error("configuration", error.rendered, "correct these places; `outrider explain` shows what is in use")
      try show(findings)
      throw ExitCode(78)
    }
    let files = loaded.files.isEmpty ? "no file, the defaults" : loaded.files.joined(separator: ", ")
    findings.ok("configuration", "valid: \(files)")
    let status = running(loaded, &findings)
    let host = HostCheck(loaded: loaded, status: status)
    host.permissions(&findings)
    host.stateDirectory(&findings)
    host.app(&findings)
    host.ports(&findings)
    host.certificates(&findings)
    host.limits(&findings)
    if let status { RunningCheck(status: status, configuration: loaded.value).all(&findings) }
    try show(findings)
    if findings.count(.error) > 0 { throw ExitCode(1) }
  }

  private func show(_ findings: Findings) throws {
    switch options.output {
    case .text: print(findings.rendered())
    case .json: print(try findings.json())
    }
  }

  /// The status of the sidecar of that state directory; nil = none runs.
  private func running(_ loaded: LoadedConfiguration, _ findings: inout Findings) -> WorkerStatus? {
    let socket = loaded.value.admin.socket ?? loaded.value.stateDirectory + "/outrider.sock"
    guard access(socket, F_OK) == 0 else {
      findings.ok("sidecar", "none runs here (no \(socket)); what only a running one knows is not looked at")
      return nil
    }
    do {
      let status = try WorkerStatus.read(socket)
      findings.ok("sidecar", "worker \(status.pid) is \(status.state), up \(Int(status.uptimeSeconds)) s")
      return status
    } catch {
      findings.error(
        "sidecar", "\(socket) is there and does not answer: \(error)",
        "a sidecar that was killed leaves it behind, and the next start replaces it; of one that runs, read the standard error"
      )
      return nil
    }
  }
}
