import Logging
import NIOCore
import Synchronization
import Telemetry
import Traffic
import Vocabulary

/// The night switch: inbound connections go to the app octet for octet, past everything that the proxy does, until a
/// time that was named. Carries out what `BypassSwitch` decides.
final class Bypass: Sendable {
  private struct State {
    var machine = BypassSwitch()
    var timer: Task<Void, Never>?
  }

  /// Asked for each accepted connection.
  let isOn = Atomic(false)
  let open = Atomic(0)
  private let state = Mutex(State())
  private let began = ContinuousClock.now
  private let metrics: MetricRegistry

  init(_ metrics: MetricRegistry) { self.metrics = metrics }

  private struct Cells: Sendable {
    let active: Gauge
    let connections: Counter
  }

  /// There from the first use on.
  private let cells = Mutex<Cells?>(nil)

  private var series: Cells {
    cells.withLock { cells in
      let made =
        cells
        ?? Cells(
          active: metrics.gauge("outrider_bypass_active", "1 while inbound connections pass the proxy by."),
          connections: metrics.counter("outrider_bypass_connections_total", "Connections that passed the proxy by."))
      cells = made
      return made
    }
  }

  func countConnection() { series.connections.add() }

  /// nil = off.
  var left: Duration? { state.withLock { $0.machine.until }.map { $0 - now } }

  private var now: Duration { began.duration(to: .now) }

  func turnOn(for time: Duration, _ shared: ProxyShared) {
    let now = now
    perform(state.withLock { $0.machine.turnOn(for: time, at: now) }, shared)
    let timer = Task { [weak self, weak shared] in
      while let self, let shared, let next = self.state.withLock({ $0.machine.nextDeadline }) {
        do { try await Task.sleep(until: self.began + next) } catch { return }
        let now = self.now
        self.perform(self.state.withLock { $0.machine.tick(at: now) }, shared)
      }
    }
    exchange(timer)
  }

  /// False when it was off.
  func turnOff(_ shared: ProxyShared) -> Bool {
    exchange(nil)
    let actions = state.withLock { $0.machine.turnOff() }
    perform(actions, shared)
    return !actions.isEmpty
  }

  /// Nothing is waited for any more.
  func stop() { exchange(nil) }

  private func exchange(_ timer: Task<Void, Never>?) {
    let old = state.withLock { state in
      defer { state.timer = timer }
      return state.timer
    }
    old?.cancel()
  }

  private func perform(_ actions: [BypassSwitch.Action], _ shared: ProxyShared) {
    for action in actions {
      switch action {
      case .begin:
        isOn.store(true, ordering: .relaxed)
        series.active.set(1)
        // Clients of open connections come back soon, and then pass by as well.
        shared.onEveryLoop { loop in
          for listener in loop.listeners.values where listener.compiled.isInbound {
            loop.endConnections(of: listener)
          }
        }
      case .end(let expired):
        isOn.store(false, ordering: .relaxed)
        series.active.set(0)
        shared.onEveryLoop { $0.endSplices() }
        let reason = expired ? "its time is over" : "it was turned off"
        shared.logger.warning("bypass is off, \(reason): inbound connections are handled again")
      case .warn(let left):
        let time = DurationText.format(.seconds(left.components.seconds))
        shared.logger.warning(
          "bypass is ON for another \(time): inbound connections go to the app unseen, without TLS, checks, limits, retries and records; `outrider bypass off` ends it"
        )
      }
    }
  }
}

extension TrafficProxy {
  package struct BypassStatus: Sendable {
    /// nil = off.
    package var left: Duration?
    /// That pass by now.
    package var connections: Int
  }

  package var bypassStatus: BypassStatus {
    BypassStatus(left: shared.bypass.left, connections: shared.bypass.open.load(ordering: .relaxed))
  }

  /// Inbound connections that are accepted from now on go to the app octet for octet. Open ones end with their next
  /// answer. A worker that takes over begins without it.
  package func bypass(for time: Duration) { shared.bypass.turnOn(for: time, shared) }

  /// Back to normal; connections that pass by end when they are idle, after 30 s at the latest. False = it was off.
  package func endBypass() -> Bool { shared.bypass.turnOff(shared) }
}
