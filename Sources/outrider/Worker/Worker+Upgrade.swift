import Admin
import AsyncHTTPClient
import Glibc
import LogShipper
import Logging
import SecretAgent
import Supervisor
import Telemetry
import TrafficProxy
import Vocabulary

/// Giving the place to another worker while traffic goes on.
extension Worker {
  /// What a worker that hands over has given, so that another successor can be given the same when the first one fails.
  struct Given: Sendable {
    var secrets: [String]
    /// What the agent left; it stays, because requests in flight still use the values.
    var inheritance: SecretInheritance
    var metrics: [MetricRegistry.Retained]
    var writer: HandoverWriter
  }

  /// `POST /upgrade`: asks the supervisor and waits for the outcome.
  func upgrade(_ binary: String, within timeout: Duration) async -> AdminEndpoints.Outcome {
    guard !isStopping else { return .init(status: 503, text: "the sidecar is stopping") }
    guard upgrading == nil, !isGiving else { return .init(status: 409, text: "another upgrade is under way") }
    return await withCheckedContinuation { continuation in
      upgrading = continuation
      link.send(.upgrade(binary: binary, timeout: timeout))
    }
  }

  func upgradeEnded(_ outcome: UpgradeOutcome, _ text: String) async {
    // Whoever is answered finds the new worker at the control socket.
    if isGiving { for listener in adminListeners.values { await listener.close(grace: .seconds(2)) } }
    let status =
      switch outcome {
      case .succeeded: 200
      case .failed: 502
      case .refused: 409
      }
    upgrading?.resume(returning: .init(status: status, text: text))
    upgrading = nil
  }

  /// Lets go of logs, secrets and the state directory, and gives the successor what it needs. Traffic goes on here as
  /// well as there, until `leave`.
  func handOver(to socket: CInt) async {
    isGiving = true
    _ = await reloading?.value
    let writer = HandoverWriter(socket)
    let retained = metrics.retained()
    if given == nil {
      if logsStarted { await logs.handOver(timeout: .seconds(2)) }
      let inheritance = await agent.handOver()
      inheritance.closeSocket()
      let secrets = await inheritance.handedOver().map(\.json)
      given = Given(secrets: secrets, inheritance: inheritance, metrics: retained, writer: writer)
      close(lock)
    } else {
      given?.metrics = retained
      given?.writer = writer
    }
    let secrets = given?.secrets ?? []
    await writer.use { writer in
      writer.write(HandoverLine.secrets, secrets.map(\.utf8))
      writer.write(HandoverLine.metrics, retained.map(\.json.utf8))
      writer.write(HandoverLine.released, [[UInt8]()])
    }
  }

  /// The successor serves: ends what is open, tells what was counted and recorded meanwhile, and exits.
  func leave(_ timeout: Duration) async {
    guard let given else { return }
    probing?.cancel()
    let writer = given.writer
    logs.forwardAccess { lines in
      writer.write(HandoverLine.access, lines.dropLast().split(separator: 10, omittingEmptySubsequences: true))
    }
    given.inheritance.outdate()
    let cut = await proxy.leave(timeout: timeout)
    if cut > 0 {
      logger.warning("upgrade: \(cut) requests were cut after \(DurationText.format(timeout))")
    }
    await proxy.close()
    await logs.endForwarding()
    let rest = metrics.retained(since: given.metrics)
    await writer.use { $0.write(HandoverLine.metrics, rest.map(\.json.utf8)) }
    await given.inheritance.close()
    await tracer?.end()
    await shutDownClients()
    ended = true
    link.leave()
  }
}
