import Secrets
import Supervisor

/// The environment of one start of the app.
enum AppEnvironment {
  /// The service manager speaks with the sidecar, not with the app: what an app that finds these would do (say that it
  /// is ready, take sockets) is not meant for it.
  private static let ofServiceManager = [
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
  ]

  /// The sidecar's own environment with the proxy's variables and then `app.env` on top, each `NAME=value`. Errors name references, never values.
  static func render(_ app: AppConfiguration, base: [String: String], book: SecretBook) throws -> [String] {
    var result = base
    for name in ofServiceManager { result[name] = nil }
    if let proxy = app.proxy {
      for (name, value) in [("http_proxy", proxy), ("https_proxy", proxy), ("no_proxy", "localhost,127.0.0.1,::1")] {
        result[name] = value
        result[name.uppercased()] = value
      }
    }
    for variable in app.environment {
      guard let bytes = book.resolve(variable.value) else {
        throw StartFailure(
          description: "app.env.\(variable.name): \(variable.value) has no value: the secret or its field is missing; "
            + "look at `outrider status`", exitCode: ExitStatus.configuration)
      }
      guard !bytes.contains(0) else {
        throw StartFailure(
          description: "app.env.\(variable.name): \(variable.value) holds a NUL byte, which no environment can carry; "
            + "deliver it as a file", exitCode: ExitStatus.configuration)
      }
      result[variable.name] = String(decoding: bytes, as: UTF8.self)
    }
    return result.map { "\($0.key)=\($0.value)" }.sorted()
  }
}
