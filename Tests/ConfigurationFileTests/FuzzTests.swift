import Resilience
import Testing

@testable import ConfigurationFile

@Suite struct FuzzTests {
  private static let seed = """
    include: []
    app: { command: [python3, app.py], port: 8080, ready: { http: /healthz }, env: { A: "${secrets.db.password|trim}" } }
    inbound:
      web: { listen: ":8443", routes: [{ match: { path: "/a/*" }, to: app }], retries: { on: [5xx] } }
    outbound:
      payments: { listen: "127.0.0.1:9001", to: "http://payments.internal", retries: 2, access_log: { sample: 0.5 } }
    clusters: { c: { endpoints: ["a:1", { address: "[::1]:2", weight: 2 }], pool: { idle: 4s } } }
    logs:
      sources: { f: { files: [a, b], start: end } }
      transforms: [{ add: { a: b } }, { redact: { secrets: true } }]
      sinks: { es: { elasticsearch: { url: "https://es:9200", index: "shop-${x}" } }, console: { pretty: true } }
    secrets:
      stores: { vault: { address: "https://v:8200", auth: { approle: { role_id_file: r, secret_id_file: s } } } }
      values: { db: { kv: secret/shop/db, refresh: 30s, on_change: { signal: SIGHUP } } }
      files: [{ path: p, value: "${secrets.db.x}", mode: "0600" }]
    """

  private static let tokens = [
    "{", "}", "[", "]", ":", ",", "\n", "  ", "- ", "\"", "'", "${", "}", "~", "null", "&a ", "*a", "!!str ", "|\n",
    "? ",
    "#", "\t", "0", "99999999999999999999", "-1", "é", "\u{0}", "%", "@", "---\n", "...\n", "<<: ", "secrets.", "app",
    "true",
  ]

  @Test(arguments: [UInt64(1), 2, 3, 4])
  func mutationsNeverCrash(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    let original = Array(Self.seed.utf8)
    let workspace = Workspace()
    var refused = 0
    for _ in 0..<400 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...6, using: &random) { mutate(&bytes, &random) }
      workspace.write("outrider.yaml", bytes)
      do {
        let loaded = try ConfigurationLoader.load(workspace.input())
        #expect(!loaded.explain(json: true).isEmpty)
      } catch {
        refused += 1
        #expect(error.count > 0 && error.rendered.contains("error: "))
      }
    }
    #expect(refused > 100)
  }

  private func mutate(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
    let place = Int.random(in: 0...bytes.count, using: &random)
    let end = min(bytes.count, place + Int.random(in: 0...20, using: &random))
    switch Int.random(in: 0..<5, using: &random) {
    case 0: bytes.insert(contentsOf: Array((Self.tokens.randomElement(using: &random) ?? "").utf8), at: place)
    case 1: bytes.removeSubrange(place..<end)
    case 2: bytes.insert(contentsOf: bytes[place..<end], at: Int.random(in: 0...bytes.count, using: &random))
    case 3: if place < bytes.count { bytes[place] = UInt8.random(in: 0...255, using: &random) }
    default: bytes.removeSubrange(place...)
    }
  }
}
