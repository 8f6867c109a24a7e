import Logs
import Secrets
import Supervisor
import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct DefaultsTests {
  @Test func noFileAtAll() throws {
    let workspace = Workspace()
    let loaded = try ConfigurationLoader.load(workspace.input(command: ["python3", "app.py"]))
    #expect(loaded.files.isEmpty)
    #expect(loaded.value.app.command == ["python3", "app.py"])
    #expect(loaded.value.app.restart == .never)
    #expect(loaded.value.logs.sources.map(\.name) == ["app"])
    #expect(loaded.value.logs.sinks.map(\.name) == ["store", "console"])
    #expect(loaded.value.logs.sinks[0].output == .store(path: nil, keep: 256 << 20))
    #expect(loaded.value.logs.sinks[1].output == .console(pretty: false))
    #expect(loaded.value.admin == AdminConfiguration())
    #expect(loaded.value.shutdown == ShutdownConfiguration())
    #expect(loaded.value.stateDirectory == "/state")
  }

  @Test func emptyFileIsNoFile() throws {
    #expect(try Workspace.value("") == Workspace.value("# nothing\n"))
  }

  @Test func stateDirectory() throws {
    let workspace = Workspace()
    func state(_ environment: [String: String], root: Bool = false, flag: String? = nil) throws -> String {
      var input = workspace.input(environment, command: ["/usr/bin/shop", "x"], state: flag)
      input.isRoot = root
      return try ConfigurationLoader.load(input).value.stateDirectory
    }
    #expect(try state([:], root: true) == "/var/lib/outrider")
    #expect(try state(["XDG_STATE_HOME": "/s", "HOME": "/h"]) == "/s/outrider/shop")
    #expect(try state(["HOME": "/h"]) == "/h/.local/state/outrider/shop")
    workspace.write("outrider.yaml", "state: var\n")
    #expect(try state(["HOME": "/h"], root: true) == workspace.path + "/var")
    #expect(try state([:], flag: "other") == workspace.path + "/other")
  }

  @Test func drainDelayUnderAnOrchestrator() throws {
    let kubernetes = ["KUBERNETES_SERVICE_HOST": "10.0.0.1"]
    #expect(try Workspace.value("", kubernetes).shutdown.drainDelay == .seconds(5))
    #expect(try Workspace.value("shutdown: { drain_delay: 0 }", kubernetes).shutdown.drainDelay == .zero)
    #expect(try Workspace.value("").shutdown.drainDelay == .zero)
  }

  @Test func tenLines() throws {
    let value = try Workspace.value(
      """
      app: { command: [python3, app.py], port: 8080, ready: { http: /healthz } }
      inbound:
        web: { listen: ":8443" }
      outbound:
        payments: { listen: "127.0.0.1:9001", to: "http://payments.internal", retries: 2 }
      logs:
        sinks: { es: { elasticsearch: { url: "https://es:9200", index: "shop" } } }
      secrets:
        stores: { vault: { address: "https://vault:8200", auth: { approle: { role_id_file: role, secret_id_file: sid } } } }
        values: { db: { kv: secret/shop/db } }
      """)
    #expect(value.app.ready?.probe == .http(path: "/healthz"))
    #expect(value.traffic.inbound.map(\.listen) == [[.tcp(host: "", port: 8443)]])
    #expect(value.traffic.inbound[0].routes.map(\.action) == [.cluster("app")])
    let payments = value.traffic.outbound[0]
    #expect(payments.retries.attempts == 2)
    #expect(
      payments.retries.conditions == [.connectFailure, .refusedStream, .resetBeforeRequest, .gatewayError, .reset])
    #expect(payments.routes.map(\.action) == [.cluster("payments")])
    let cluster = try #require(value.traffic.clusters.first { $0.name == "payments" })
    #expect(cluster.discovery == .dns(host: "payments.internal", port: 80))
    #expect(cluster.hostHeader == "payments.internal")
    #expect(value.traffic.clusters.map(\.name).sorted() == ["app", "payments"])
    #expect(value.logs.sources.map(\.name) == ["app", "access"])
    #expect(value.logs.sinks.map(\.name) == ["es", "store"])
    #expect(value.secrets.values[0].store == "vault")
    guard case .vault(let vault) = value.secrets.stores[0].kind,
      case .approle(let mount, .file(let role), .file) = vault.auth
    else {
      Issue.record("not a vault store")
      return
    }
    #expect(mount == "approle")
    #expect(role.hasPrefix("/") && role.hasSuffix("/role"))
  }

  @Test func commandLineWins() throws {
    let workspace = Workspace()
    workspace.write("outrider.yaml", "app: { command: [a] }")
    #expect(try ConfigurationLoader.load(workspace.input()).value.app.command == ["a"])
    #expect(try ConfigurationLoader.load(workspace.input(command: ["b"])).value.app.command == ["b"])
  }

  @Test func app() throws {
    let app = try Workspace.value(
      """
      app:
        command: [a]
        env: { B: "1", A: "${X:-y}" }
        ready: { exec: [true], interval: 2s, healthy: 2 }
        restart: on-failure
        stop: { signal: SIGINT, grace: 1m }
      """
    ).app
    #expect(app.environment.map(\.name) == ["B", "A"])
    #expect(app.environment[1].value.literal == "y")
    #expect(app.ready?.probe == .exec(["true"]))
    #expect(app.ready?.interval == .seconds(2))
    #expect(app.restart == .onFailure)
    #expect(app.stopSignal == 2)
    #expect(app.stopGrace == .seconds(60))
    #expect(Workspace.problems("app: { ready: { http: /x } }").contains("`app.port` is not set"))
    #expect(Workspace.problems("app: { port: 1, ready: { http: /x, tcp: true } }").contains("names 2 probes"))
    #expect(Workspace.problems("app: { port: 1, ready: { interval: 1s } }").contains("names no probe"))
    #expect(Workspace.problems("app: { stop: { signal: SIGTREM } }").contains("did you mean `SIGTERM`?"))
  }

  @Test func compactJSON() throws {
    let json = #"{"app":{"command":["a","\u0062\/c"],"port":8080},"inbound":{"web":{"listen":":80","timeout":"1s"}}}"#
    let value = try Workspace.value(json)
    #expect(value.app.command == ["a", "b/c"])
    #expect(value.traffic.inbound[0].timeout == .seconds(1))
  }

  @Test func zeroAndEndlessTimes() throws {
    #expect(Workspace.problems("app: { port: 1, ready: { tcp: true, interval: 0 } }").contains("`0` is no time at all"))
    #expect(Workspace.problems("app: { stop: { grace: 1000000000h } }").contains("write at most `87600h`"))
    #expect(Workspace.problems("logs: { spool: { limit: 0 } }").contains("`0` is no size"))
    #expect(try Workspace.value("app: { stop: { grace: 0 } }").app.stopGrace == .zero)
  }

  @Test func adminAndThreads() throws {
    let value = try Workspace.value(
      "admin: { listen: \"127.0.0.1:0\", socket: a.sock }\nthreads: 2\ntelemetry: { metrics: { prometheus: true } }")
    #expect(value.admin.listen == .tcp(host: "127.0.0.1", port: 0))
    #expect(value.admin.isExplicit)
    #expect(value.admin.socket?.hasSuffix("/a.sock") == true)
    #expect(value.traffic.threads == 2)
    #expect(try Workspace.value("admin: { listen: false }\nthreads: auto").admin.listen == nil)
  }
}
