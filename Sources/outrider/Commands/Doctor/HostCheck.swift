import ConfigurationFile
import Glibc
import Logs
import Secrets
import Supervisor
import Telemetry
import Traffic
import TrafficProxy
import Vocabulary

/// What files, sockets and limits of this machine say, with or without a sidecar that runs.
struct HostCheck {
  /// A connection that is proxied takes two; with the sidecar's own this is for some 2,000 of them.
  static let leastDescriptors: UInt64 = 4096
  static let leastMemory = 48.0 * 1024 * 1024
  static let leastTasks: Double = 64
  static let certificateWarning: Int64 = 14 * 86400

  let loaded: LoadedConfiguration
  /// nil = no sidecar runs.
  let status: WorkerStatus?
  private var value: OutriderConfiguration { loaded.value }

  init(loaded: LoadedConfiguration, status: WorkerStatus?) {
    self.loaded = loaded
    self.status = status
  }

  // MARK: Files

  func permissions(_ findings: inout Findings) {
    var bad = 0
    for path in loaded.files {
      guard let mode = Self.mode(path), mode & 0o022 != 0 else { continue }
      bad += 1
      findings.warning(
        "permissions", "\(path) can be changed by others than its owner (mode \(Self.octal(mode)))",
        "`chmod go-w \(path)`: who changes it decides what runs as the app")
    }
    for path in Set(keyFiles).sorted() {
      guard let mode = Self.mode(path) else {
        bad += 1
        findings.error(
          "permissions", "\(path) cannot be read: \(String(cString: strerror(errno)))",
          "correct the path in the configuration, or let this user read it")
        continue
      }
      // Mounted by an orchestrator, a group may have to read it.
      guard mode & 0o007 != 0 else { continue }
      bad += 1
      findings.warning(
        "permissions", "everybody on this machine can read \(path), which holds a key (mode \(Self.octal(mode)))",
        "`chmod 600 \(path)`")
    }
    if bad == 0 { findings.ok("permissions", "configuration and key files are closed to others") }
  }

  /// Files whose content is secret.
  private var keyFiles: [String] {
    var paths = tlsSources.compactMap { if case .files(_, let key) = $0 { key } else { nil } }
    for store in value.secrets.stores {
      switch store.kind {
      case .age(_, let identity): paths.append(identity)
      case .vault(let vault):
        if case .tokenFile(let path) = vault.auth { paths.append(path) }
        if case .approle(_, _, .file(let path)) = vault.auth { paths.append(path) }
      case .directory, .environment: break
      }
    }
    return paths
  }

  private var tlsSources: [CertificateSource] {
    let listeners = (value.traffic.inbound + value.traffic.outbound).compactMap(\.tls)
    return listeners.flatMap { [$0.certificate].compactMap { $0 } + $0.hosts.map(\.certificate) }
      + value.traffic.clusters.compactMap { $0.tls?.certificate }
  }

  private static func mode(_ path: String) -> mode_t? {
    var info = stat()
    return stat(path, &info) == 0 ? info.st_mode & 0o7777 : nil
  }

  private static func octal(_ mode: mode_t) -> String { "0" + String(mode, radix: 8) }

  func stateDirectory(_ findings: inout Findings) {
    let path = value.stateDirectory
    // Of a directory that is not there yet, the first parent that is.
    var place = path
    while access(place, F_OK) != 0, let slash = place.lastIndex(of: "/"), slash != place.startIndex {
      place = String(place[..<slash])
    }
    guard access(place, W_OK | X_OK) == 0 else {
      return findings.error(
        "state", "\(place) cannot be written by this user: \(String(cString: strerror(errno)))",
        "run as the user of the sidecar, `chown` it, or name another directory with --state or `state:`")
    }
    if place == path, let mode = Self.mode(path), mode & 0o077 != 0 {
      findings.warning(
        "state", "\(path) is open to others (mode \(Self.octal(mode))), and holds logs and the control socket",
        "`chmod 700 \(path)`")
    }
    var info = statvfs()
    guard statvfs(place, &info) == 0 else { return }
    let free = Int(info.f_bavail) * Int(info.f_frsize)
    if info.f_files > 0, info.f_favail < 100 {
      findings.error("state", "the disk of \(path) has no inodes left", "remove files there, or name another directory")
    } else if free < 64 << 20 {
      findings.error(
        "state", "the disk of \(path) has \(free >> 20) MiB left: log records wait for room",
        "make room, or name another directory with --state")
    } else if free < value.logs.spool.limit {
      findings.warning(
        "state",
        "the disk of \(path) has \(free >> 20) MiB left, and the spool may take \(value.logs.spool.limit >> 20) MiB",
        "make room, or lower logs.spool.limit")
    } else {
      findings.ok("state", "\(path) can be written, \(free >> 20) MiB are free")
    }
  }

  // MARK: The app

  func app(_ findings: inout Findings) {
    guard let program = value.app.command.first else { return }
    if let directory = value.app.workingDirectory, access(directory, X_OK) != 0 {
      findings.error(
        "app", "its working directory \(directory) cannot be used: \(String(cString: strerror(errno)))",
        "correct app.working_directory")
    }
    if program.contains("/") {
      // A relative one is looked for in its working directory, which `run` does.
      guard program.hasPrefix("/"), access(program, X_OK) != 0 else { return }
      return findings.error(
        "app", "\(program) cannot be executed: \(String(cString: strerror(errno)))",
        "correct app.command, or `chmod +x` it")
    }
    let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/local/bin:/usr/bin:/bin"
    let candidates: [String] = path.split(separator: ":").map { "\($0)/\(program)" }
    let found = candidates.first { access($0, X_OK) == 0 }
    if let found {
      findings.ok("app", "\(program) is \(found)")
    } else {
      findings.error("app", "\(program) is not in the PATH \(path)", "give its full path in app.command")
    }
  }

  // MARK: Certificates

  func certificates(_ findings: inout Findings) {
    let now = Int64(time(nil))
    for source in Set(tlsSources).sorted(by: { $0.description < $1.description }) where source.secretName == nil {
      do {
        let left = try CertificateCheck.expiry(source) - now
        if left < Self.certificateWarning {
          findings.warning(
            "certificates", "\(source) expires in \(max(0, left / 86400)) days",
            "renew it: the sidecar takes changed files without a restart")
        } else {
          findings.ok("certificates", "\(source) is valid for \(left / 86400) days")
        }
      } catch {
        findings.error("certificates", "\(error)", "renew or correct it: clients cannot connect there")
      }
    }
  }
}
