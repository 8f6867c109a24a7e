package import Telemetry

/// What the admin API asks of the rest of the worker. Every closure may be called from any task.
package struct AdminEndpoints: Sendable {
  /// Whether something is ready, and if not, what it waits for.
  package struct Readiness: Sendable {
    package var isReady: Bool
    /// One line for a person; empty when ready.
    package var reason: String

    package init(isReady: Bool, reason: String = "") {
      self.isReady = isReady
      self.reason = reason
    }
  }

  /// What a command did: an HTTP status, and one line for a person.
  package struct Outcome: Sendable {
    package var status: Int
    package var text: String

    package init(status: Int = 200, text: String) {
      self.status = status
      self.text = text
    }
  }

  /// `/readyz`: sidecar and app.
  package var ready: @Sendable () -> Readiness
  /// `/readyz/sidecar`: configuration, secrets, listeners and logs, without the app.
  package var sidecarReady: @Sendable () -> Readiness
  /// `/readyz/outbound`: the app may use its outbound listeners and secrets.
  package var outboundReady: @Sendable () -> Readiness
  /// `/healthz/app`: a probe of the app made now, past the proxy path.
  package var probeApp: @Sendable () async -> Readiness
  /// `/metrics`: Prometheus text.
  package var metrics: @Sendable () async -> String
  /// `/status`: a JSON object.
  package var status: @Sendable () async -> String
  /// `POST /reload`.
  package var reload: @Sendable () async -> Outcome
  /// `POST /quit`.
  package var quit: @Sendable () -> Void
  /// `POST /drain?target=…`, and with `undo` back into service: `inbound`, `outbound`, `all` or one listener.
  package var drain: @Sendable (_ target: String, _ undo: Bool) -> Outcome

  /// `POST /upgrade?binary=PATH&timeout=30000`: another binary in the worker's place, within so many milliseconds.
  package var upgrade: @Sendable (_ binary: String, _ timeout: Duration) async -> Outcome = { _, _ in
    Outcome(status: 503, text: "there is no supervisor")
  }
  /// `POST /bypass?for=10m` turns the bypass on, `off=1` (nil) off again.
  package var bypass: @Sendable (_ time: String?) -> Outcome = { _ in Outcome(status: 404, text: "there is no bypass") }

  /// `/tap`: those who watch requests.
  package var taps = TapHub()
  /// `/requests` and `/requests?id=ID`: JSON objects, newest first; without an id those of the newest failures.
  package var stories: @Sendable (_ id: String?) async -> [String] = { _ in [] }

  package init(
    ready: @escaping @Sendable () -> Readiness, sidecarReady: @escaping @Sendable () -> Readiness,
    outboundReady: @escaping @Sendable () -> Readiness, probeApp: @escaping @Sendable () async -> Readiness,
    metrics: @escaping @Sendable () async -> String, status: @escaping @Sendable () async -> String,
    reload: @escaping @Sendable () async -> Outcome, quit: @escaping @Sendable () -> Void,
    drain: @escaping @Sendable (_ target: String, _ undo: Bool) -> Outcome
  ) {
    self.ready = ready
    self.sidecarReady = sidecarReady
    self.outboundReady = outboundReady
    self.probeApp = probeApp
    self.metrics = metrics
    self.status = status
    self.reload = reload
    self.quit = quit
    self.drain = drain
  }
}
