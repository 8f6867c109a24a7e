import Admin
import ConfigurationFile
import Traffic
import TrafficProxy
import Vocabulary

extension Worker {
  nonisolated var bypassStatus: WorkerStatus.Bypass? {
    let status = proxy.bypassStatus
    return status.left.map { .init(secondsLeft: max($0, .zero).components.seconds, connections: status.connections) }
  }

  /// `text` is the time for which it is turned on; nil turns it off.
  nonisolated func bypass(_ text: String?) -> AdminEndpoints.Outcome {
    guard let text else {
      return .init(text: proxy.endBypass() ? "bypass is off: inbound connections are handled again" : "bypass was off")
    }
    guard let time = DurationText.parse(text), time > .zero, time <= BypassSwitch.longest else {
      return .init(status: 400, text: "`for=\(text)` is no time up to 24h; write one such as 10m")
    }
    let value = facts.now.loaded.value
    guard let app = Self.address(of: value.app) else {
      return .init(status: 409, text: "there is no app to pass connections to; name its port as app.port")
    }
    guard !value.traffic.inbound.isEmpty else {
      return .init(status: 409, text: "there is no inbound listener to pass by")
    }
    proxy.bypass(for: time)
    let secured = value.traffic.inbound.filter { $0.tls != nil }.map { "inbound.\($0.name)" }
    let note =
      secured.isEmpty
      ? "" : "; the app itself must speak TLS on \(secured.joined(separator: ", ")), or clients fail there"
    return .init(
      text: "bypass is ON for \(DurationText.format(time)): new inbound connections go to \(app) unseen\(note)")
  }
}
