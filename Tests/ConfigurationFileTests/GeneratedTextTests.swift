import Foundation
import Logs
import Secrets
import Supervisor
import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct GeneratedTextTests {
  private static let full = """
    app: { command: [a, "b c", ""], port: 8080, env: { A: "x: y # z", P: "${secrets.db.password}" }, ready: { tcp: true } }
    inbound: { web: { listen: [":80", ":81"], routes: [{ match: { path: "/a/*" }, to: other, retries: 2 }] } }
    outbound: { pay: { listen: ":82", to: "http://pay", access_log: { sample: 0.5 }, retries: { on: [5xx] } } }
    clusters: { other: { endpoints: ["a:1", { address: "b:2", weight: 2 }] } }
    logs:
      sources: { f: { files: [/x, /y] } }
      transforms: [{ add: { a: "1" } }, { drop: { below: warn } }]
      sinks: { es: { elasticsearch: { url: "http://es", index: "a-${b}" } }, console: { pretty: true } }
    secrets: { stores: { env: }, values: { db: { key: DB } }, files: [{ path: /f, value: "${secrets.db.x}" }] }
    """

  @Test(arguments: ["", full, "app: { port: 1 }\ninbound: { a: { listen: \":2\" } }"])
  func explanationLoadsAsTheSameConfiguration(text: String) throws {
    let loaded = try Workspace.load(text)
    let again = try Workspace.load(loaded.explain(json: false))
    var value = again.value
    value.admin.isExplicit = loaded.value.admin.isExplicit
    #expect(value.app == loaded.value.app)
    #expect(value.traffic == loaded.value.traffic, "\(loaded.explain(json: false))")
    #expect(value.logs.sources.sorted { $0.name < $1.name } == loaded.value.logs.sources.sorted { $0.name < $1.name })
    #expect(value.logs.sinks.sorted { $0.name < $1.name } == loaded.value.logs.sinks.sorted { $0.name < $1.name })
    #expect(value.logs.transforms == loaded.value.logs.transforms)
    #expect(value.secrets == loaded.value.secrets)
    #expect(value.admin == loaded.value.admin)
    #expect(value.shutdown == loaded.value.shutdown)
    #expect(value.stateDirectory == loaded.value.stateDirectory)
  }

  @Test func explanationNamesOrigins() throws {
    let workspace = Workspace()
    workspace.write("outrider.yaml", "app: { command: [a], port: \"${PORT}\" }\n")
    let input = workspace.input(["PORT": "81", "KUBERNETES_SERVICE_HOST": "x"], command: ["b", "c d"], state: "/s")
    let lines = try ConfigurationLoader.load(input).explain(json: false).split(separator: "\n").map(String.init)
    #expect(lines.contains("  command: [b, \"c d\"]  # command line"))
    #expect(lines.contains("  port: 81  # outrider.yaml:1:28, environment PORT"))
    #expect(lines.contains("  address: 127.0.0.1  # default"))
    #expect(lines.contains("  drain_delay: 5s  # default, KUBERNETES_SERVICE_HOST is set"))
    #expect(lines.contains("state: /s  # --state"))
  }

  @Test func explanationHidesSecrets() throws {
    let text = """
      app: { env: { KEY: "${TOKEN}" } }
      outbound: { a: { listen: ":1", to: "http://x", inject: { Authorization: "Bearer hunter2", B: "${TOKEN}" } } }
      secrets: { stores: { v: { vault: { address: "http://v", auth: { approle: { role_id: hunter2, secret_id: "${TOKEN}" } } } } } }
      """
    let loaded = try Workspace.load(text, ["TOKEN": "hunter3"])
    for json in [false, true] {
      let shown = loaded.explain(json: json)
      #expect(!shown.contains("hunter"))
      #expect(shown.contains("${TOKEN}"))
      #expect(shown.contains("(hidden)"))
    }
  }

  @Test func explanationAsJSON() throws {
    let json = try Workspace.load(Self.full).explain(json: true)
    let rows = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [[String: String]])
    #expect(rows.contains { $0["path"] == "app.port" && $0["value"] == "8080" && $0["origin"] == "outrider.yaml:1:39" })
    #expect(rows.allSatisfy { $0.keys.sorted() == ["origin", "path", "value"] })
  }

  @Test func schemaIsJSONAndClosed() throws {
    let schema = try #require(
      try JSONSerialization.jsonObject(with: Data(ConfigurationSchema.json().utf8)) as? [String: Any])
    #expect(schema["$schema"] as? String == "https://json-schema.org/draft/2020-12/schema")
    #expect(schema["additionalProperties"] as? Bool == false)
    let properties = try #require(schema["properties"] as? [String: Any])
    #expect(Set(properties.keys) == Set(KeyTable.root.map(\.name)))
    let app = try #require((properties["app"] as? [String: Any])?["properties"] as? [String: Any])
    #expect(app["command"] != nil)
    #expect(app["proxy_env"] != nil)
  }

  /// `OUTRIDER_UPDATE_DOCS=1` writes the reference anew.
  @Test func documentMatchesTheKeyTable() throws {
    var root = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { root.deleteLastPathComponent() }
    let file = root.appendingPathComponent("docs/configuration.md")
    let text = try String(contentsOf: file, encoding: .utf8)
    let begin = "<!-- reference: begin -->\n"
    let end = "<!-- reference: end -->"
    let start = try #require(text.range(of: begin))
    let stop = try #require(text.range(of: end))
    let reference = ConfigurationReference.markdown()
    if ProcessInfo.processInfo.environment["OUTRIDER_UPDATE_DOCS"] != nil {
      let fresh = text[..<start.upperBound] + reference + text[stop.lowerBound...]
      try String(fresh).write(to: file, atomically: true, encoding: .utf8)
    } else {
      #expect(
        String(text[start.upperBound..<stop.lowerBound]) == reference,
        "docs/configuration.md is not what the key table says; run the test with OUTRIDER_UPDATE_DOCS=1")
    }
  }

  /// The examples of the documents are accepted.
  @Test(arguments: [
    "configuration", "tls", "observability", "logs", "sinks", "secrets", "log-transforms", "monitoring",
  ])
  func examplesOfTheDocumentsAreValid(name: String) throws {
    var root = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { root.deleteLastPathComponent() }
    let text = try String(contentsOf: root.appendingPathComponent("docs/\(name).md"), encoding: .utf8)
    let blocks = text.components(separatedBy: "```yaml\n").dropFirst().compactMap {
      $0.components(separatedBy: "```").first
    }
    #expect(blocks.count >= 1)
    for block in blocks {
      #expect(Workspace.problems(block, ["PORT": "8080"]) == "")
    }
  }

  /// Whatever can be written in `logs` has its word in the guides.
  @Test func everythingOfLogsIsDocumented() throws {
    var root = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { root.deleteLastPathComponent() }
    let text = try ["logs", "log-transforms", "sinks"].map {
      try String(contentsOf: root.appendingPathComponent("docs/\($0).md"), encoding: .utf8)
    }.joined()
    var names = (KeyTable.source + KeyTable.sinkKinds + KeyTable.transform + KeyTable.sink).map(\.name)
    names += LogSourceConfiguration.ListenFormat.allCases.map(\.rawValue)
    names += LogSourceConfiguration.Parser.allCases.map(\.rawValue)
    names += TraceLanguages.names.map(\.name) + RedactionRules.Pattern.allCases.map(\.rawValue)
    names += SpoolConfiguration.WhenFull.allCases.map(\.rawValue)
    #expect(names.count > 60)
    for name in Set(names).sorted() {
      let pattern = "(^|[^a-z_])" + name + "([^a-z_]|$)"
      #expect(text.range(of: pattern, options: .regularExpression) != nil, "`\(name)` stands in no guide")
    }
  }
}
