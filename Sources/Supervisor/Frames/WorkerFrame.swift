package import Vocabulary

/// What the worker tells the supervisor. `startApp` alone may come with a descriptor.
package enum WorkerFrame: Sendable, Equatable {
  /// The first frame of every worker; `version` is `FrameLimits.version`.
  case hello(version: UInt32)
  /// How the app and the shutdown are to be run; again after every reload that changes it.
  case plan(AppPolicy)
  /// Wants these sockets, bound but not listening; the answer is `bound` or `bindFailed` with the same id.
  /// At most `FrameLimits.addresses` a request. Sockets that an earlier worker bound are handed out again.
  case bind(id: UInt32, addresses: [Address])
  /// The sockets of this earlier `bind` begin to listen.
  case listen(id: UInt32)
  /// These addresses are of no more use (a reload took them away): the supervisor closes its copies.
  case unbind([Address])
  /// A line for people: what the worker is waiting for, shown every 5 s until the next step. Empty = nothing.
  case waiting(for: String)
  /// All secrets that are required are here.
  case secretsReady
  /// Secrets, outbound listeners and log sources stand: the app may start. A respawned worker sends it as well.
  case outboundReady
  /// The answer to `prepareApp`.
  case startApp(AppSpec)
  /// The readiness of the app has changed, or is known for the first time.
  case appReady(Bool, reason: String)
  /// A secret's change action: send this signal to the app's process group.
  case actionSignal(Int32)
  /// A secret's change action: stop the app in the usual way and start it again.
  case actionRestart
  /// The answer to `closeInbound`: no inbound request is open any more.
  case inboundDrained
  /// The answer to `finish`: all is flushed, the worker ends now.
  case flushed
  /// The worker cannot go on, and a new one could not either; it has said why. Before the first `ready` the run
  /// ends with this exit code.
  case fatal(exitCode: Int32)
  /// Somebody asked for the end (`outrider quit`, `POST /quit`).
  case quit
  /// The answer to `reload`: the new configuration is in use, or the last good one was kept.
  case reloaded
  /// Somebody asked for another binary in this worker's place (`outrider upgrade`); the answer is `upgradeEnded`.
  /// `binary` is a path, empty = this one's again; the new worker must serve within `timeout`.
  case upgrade(binary: String, timeout: Duration)
  /// Of a worker that is to take over: it has read the configuration and can begin. `product` is its version.
  case checked(product: String)
  /// The answer to `openInbound`: inbound is served.
  case serving
}

/// How the supervisor is to run the app and the shutdown.
package struct AppPolicy: Sendable, Equatable {
  /// False = no app child: the run lasts until it is stopped.
  package var hasApp: Bool
  package var restart: AppConfiguration.Restart
  /// 1...64, sent to the app's process group.
  package var stopSignal: Int32
  /// From the stop signal to SIGKILL.
  package var stopGrace: Duration
  /// How long inbound goes on accepting after readiness began to fail.
  package var drainDelay: Duration
  /// How long open inbound requests may take to end.
  package var drainTimeout: Duration
  /// The whole shutdown, from the request to the exit.
  package var deadline: Duration

  package init(
    hasApp: Bool, restart: AppConfiguration.Restart = .never, stopSignal: Int32 = 15,
    stopGrace: Duration = .seconds(30), drainDelay: Duration = .zero, drainTimeout: Duration = .seconds(30),
    deadline: Duration = .seconds(60)
  ) {
    self.hasApp = hasApp
    self.restart = restart
    self.stopSignal = stopSignal
    self.stopGrace = stopGrace
    self.drainDelay = drainDelay
    self.drainTimeout = drainTimeout
    self.deadline = deadline
  }

  package init(app: AppConfiguration, shutdown: ShutdownConfiguration) {
    self.init(
      hasApp: !app.command.isEmpty, restart: app.restart, stopSignal: app.stopSignal, stopGrace: app.stopGrace,
      drainDelay: shutdown.drainDelay, drainTimeout: shutdown.drainTimeout, deadline: shutdown.deadline)
  }
}

/// One start of the app. Its environment may hold secrets: the description shows none of it.
package struct AppSpec: Sendable, Equatable, CustomStringConvertible {
  /// Not empty. A first word without a slash is looked up in the `PATH` of `environment`.
  package var arguments: [String]
  /// The whole environment, each `NAME=value`.
  package var environment: [String]
  package var workingDirectory: String?
  /// A name or a number.
  package var user: String?
  package var group: String?
  /// True gives the app descriptor 3 and `OUTRIDER_READY_FD=3`; a newline on it is `appReadyByDescriptor`.
  package var readyDescriptor: Bool

  package init(
    arguments: [String], environment: [String], workingDirectory: String? = nil, user: String? = nil,
    group: String? = nil, readyDescriptor: Bool = false
  ) {
    self.arguments = arguments
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.user = user
    self.group = group
    self.readyDescriptor = readyDescriptor
  }

  package var description: String { "AppSpec(\(arguments.first ?? ""), \(environment.count) variables)" }
}
