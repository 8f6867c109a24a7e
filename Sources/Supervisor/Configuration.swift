package import Vocabulary

/// The app: what to run, how to know that it is ready, how to stop it.
package struct AppConfiguration: Sendable, Equatable {
  package enum Restart: String, Sendable, CaseIterable {
    case never, always
    case onFailure = "on-failure"
  }
  package struct Ready: Sendable, Equatable {
    package enum Probe: Sendable, Equatable {
      case http(path: String)
      case tcp
      case exec([String])
      /// A newline on the descriptor named in `OUTRIDER_READY_FD`.
      case descriptor
    }
    package var probe: Probe
    package var interval: Duration = .seconds(1)
    package var timeout: Duration = .milliseconds(500)
    package var healthy = 1
    package var unhealthy = 3
    package var deadline: Duration = .seconds(60)
    package init(probe: Probe) { self.probe = probe }
  }
  package struct Variable: Sendable, Equatable {
    package var name: String
    package var value: SecretTemplate
    package init(name: String, value: SecretTemplate) {
      self.name = name
      self.value = value
    }
  }
  /// Empty = no app child (separate container).
  package var command: [String] = []
  package var workingDirectory: String? = nil
  package var user: String? = nil
  package var group: String? = nil
  package var environment: [Variable] = []
  /// The URL of the forward proxy that the app is told of; nil = none.
  package var proxy: String? = nil
  package var port: Int? = nil
  package var address = "127.0.0.1"
  /// nil = ready once started.
  package var ready: Ready? = nil
  package var restart: Restart = .never
  package var stopSignal: Int32 = 15
  package var stopGrace: Duration = .seconds(30)
  package init() {}
}

package struct ShutdownConfiguration: Sendable, Equatable {
  /// 5 s under an orchestrator (`KUBERNETES_SERVICE_HOST` is set), else 0.
  package var drainDelay: Duration = .zero
  package var drainTimeout: Duration = .seconds(30)
  package var deadline: Duration = .seconds(60)
  package init() {}
}

package struct AdminConfiguration: Sendable, Equatable {
  /// nil = switched off.
  package var listen: Address? = .tcp(host: "127.0.0.1", port: 15000)
  /// nil = `outrider.sock` under the state directory.
  package var socket: String? = nil
  /// True when the file or command line named `listen`.
  package var isExplicit = false
  package init() {}
}
