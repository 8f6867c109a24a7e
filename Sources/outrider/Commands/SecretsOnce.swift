import CLinux
import ConfigurationFile
import Glibc
import Logging
import NIOCore
import NIOPosix
import SecretAgent
import Supervisor
import Telemetry
import Vocabulary

/// `outrider run --once`: secrets into files, and the end. The exit code says how it went: 0 every file is written, 78 waiting
/// would not help, 1 the secrets did not come in time.
enum SecretsOnce {
  static func run(_ options: CommonOptions, limit: Duration) throws -> Int32 {
    let loaded = try options.load()
    if outrider_harden("outrider") != 0 {
      StandardError.write("outrider: warning: this process cannot be made undumpable")
    }
    let directory = ProcessFacts.workingDirectory
    return try blocking {
      let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
      let agent = SecretAgent(
        configuration: loaded.value.secrets, baseDirectory: directory, metrics: MetricRegistry(), group: group,
        logger: Logger(label: "outrider", factory: { _ in StandardErrorLog() }), onAction: { _ in true })
      let outcome = await agent.renderOnce(within: limit)
      try? await group.shutdownGracefully()
      switch outcome {
      case .written(let count):
        StandardError.write("outrider: \(count) \(count == 1 ? "file is" : "files are") written")
        return 0
      case .late(let reason):
        StandardError.write("outrider: \(reason)")
        return ExitStatus.unavailable
      case .failed(let reason):
        StandardError.write("outrider: \(reason)")
        return ExitStatus.configuration
      }
    }
  }
}
