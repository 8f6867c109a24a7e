import Logs
import RegularExpressions
import Secrets
import Supervisor
import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct LogsAndSecretsTests {
  @Test func readingOfSources() throws {
    let sources = try Workspace.value(
      """
      logs:
        sources:
          a: { files: /a, parse: cri, multiline: auto, fingerprint: 64B }
          b: { files: /b, parse: { regex: "^(?<ip>\\\\S+) " }, multiline: { start: "^\\\\d", timeout: 3s } }
          c: { files: /c, timestamp: { field: when, format: "%d/%b/%Y:%T %z", zone: "-02:30" } }
      """
    ).logs.sources.filter { ["a", "b", "c"].contains($0.name) }
    #expect(sources[0].parser == .cri && sources[0].multiline?.joining == .traces(.all))
    guard case .files(let files) = sources[0].input else {
      Issue.record("not files")
      return
    }
    #expect(files.fingerprint == 64)
    #expect(sources[1].pattern != nil && sources[1].multiline?.timeout == .seconds(3))
    #expect(sources[2].timestamp?.field == "when" && sources[2].zone == .fixed(-9000))
  }

  @Test func sourcesThatListen() throws {
    let sources = try Workspace.value(
      """
      logs:
        sources:
          a: { listen: "tcp:[::1]:5140", format: syslog }
          b: { listen: "udp::514" }
          c: { listen: "unix:/run/x", format: forward }
          d: { fifo: p }
      """
    ).logs.sources.filter { ["a", "b", "c", "d"].contains($0.name) }
    #expect(sources[0].input == .listen(.init(address: .tcp(host: "::1", port: 5140), format: .syslog)))
    #expect(sources[0].parser == .syslog)
    #expect(sources[1].input == .listen(.init(address: .udp(host: "", port: 514), format: .lines)))
    #expect(sources[2].input == .listen(.init(address: .unix(path: "/run/x"), format: .forward)))
    guard case .fifo(let path) = sources[3].input else {
      Issue.record("no pipe")
      return
    }
    #expect(path.hasPrefix("/tmp/") && path.hasSuffix("/p"))
  }

  @Test(arguments: [
    ("listen: \"127.0.0.1:1\"", "is no place to listen"), ("listen: \"tcp:host:1\"", "is no place to listen"),
    ("listen: \"udp::1\", format: forward", "over UDP"), ("listen: \"udp::1\", fifo: /a", "has both"),
    ("listen: \"tcp::1\", format: syslog, multiline: auto", "records of its own"), ("files: /a, fifo: /b", "has both"),
    ("fifo: /a, format: lines", "is for `listen` only"), ("fifo: /a, start: end", "is for `files` only"),
  ]) func mistakesInPlaces(_ text: String, _ complaint: String) {
    #expect(Workspace.problems("logs: { sources: { a: { \(text) } } }").contains(complaint))
  }

  @Test(arguments: [
    ("parse: { regex: \"(\" }", "is not an expression"), ("parse: { regex: \"a(b)\" }", "names no group"),
    ("parse: xml", "parse"), ("multiline: perl", "multiline"), ("multiline: { timeout: 1s }", "start"),
    ("timestamp: { format: never }", "is no format"), ("timestamp: { zone: Mars }", "is no zone"),
    ("fingerprint: 1MiB", "out of range"),
  ]) func mistakesInReading(_ text: String, _ complaint: String) {
    #expect(Workspace.problems("logs: { sources: { a: { files: /a, \(text) } } }").contains(complaint))
  }

  @Test func logs() throws {
    let logs = try Workspace.value(
      """
      logs:
        sources:
          app: { parse: json, max_record: 64KiB }
          nginx: { files: ["/var/log/nginx/*.log", rel.log], exclude: /var/log/nginx/x.log, start: beginning }
        transforms:
          - add: { service: shop }
          - remove: [a, b]
          - drop: { below: info }
          - redact: { secrets: false }
        spool: { limit: 2MiB, when_full: drop_oldest, sync: batch }
        sinks:
          es:
            elasticsearch: { url: ["https://a:9200/", "https://b:9200"], index: "shop-${service}-${ENV_NAME}-%Y", auth: { basic: { user: u, password: "${secrets.es.password}" } } }
            batch: { bytes: 1MiB, age: 2s }
            retry: { give_up: 1h }
            compress: none
            from: nginx
          console: { pretty: true, from: [app] }
      secrets: { stores: { env: {} } }
      """, ["ENV_NAME": "prod"]
    ).logs
    #expect(logs.sources.map(\.name) == ["app", "nginx"])
    #expect(logs.sources[0].parser == .json)
    #expect(logs.sources[0].maxRecord == 65536)
    guard case .files(let files) = logs.sources[1].input else {
      Issue.record("not files")
      return
    }
    #expect(files.globs[0] == "/var/log/nginx/*.log")
    #expect(files.globs[1].hasPrefix("/tmp/"))
    #expect(files.fromBeginning)
    #expect(
      logs.transforms == [
        .add(["service": "shop"]), .remove(["a", "b"]), .dropBelow(level: "info"), .redactSecrets(false),
      ])
    #expect(logs.spool.limit == 2 << 20)
    #expect(logs.spool.whenFull == .dropOldest)
    #expect(logs.spool.sync)
    #expect(logs.sinks.map(\.name) == ["es", "console", "store"])
    guard case .elasticsearch(let output) = logs.sinks[0].output else {
      Issue.record("not elasticsearch")
      return
    }
    #expect(output.urls == ["https://a:9200", "https://b:9200"])
    #expect(output.index == "shop-${service}-prod-%Y")
    #expect(
      output.authorization
        == .basic(user: "u", password: SecretTemplate(parts: [.secret(SecretReference(name: "es", field: "password"))]))
    )
    #expect(logs.sinks[0].batchBytes == 1 << 20)
    #expect(logs.sinks[0].giveUp == .seconds(3600))
    #expect(!logs.sinks[0].gzip)
    #expect(logs.sinks[0].from == ["nginx"])
    #expect(logs.sinks[1].output == .console(pretty: true))
    #expect(logs.sinks[1].from == ["app"])
  }

  @Test func kindsByName() throws {
    let short = try Workspace.value("logs: { sinks: { store: { keep: 1MiB } } }")
    let long = try Workspace.value("logs: { sinks: { store: { store: { keep: 1MiB } } } }")
    #expect(short.logs == long.logs)
    #expect(short.logs.sinks.map(\.output) == [.store(path: nil, keep: 1 << 20)])
    let stores = try Workspace.value(
      "secrets: { stores: { age: { file: /a, identity: /b }, file: { directory: /c }, env: , other: { env: {} } } }"
    ).secrets.stores
    #expect(stores.map(\.kind) == [.age(file: "/a", identity: "/b"), .directory("/c"), .environment, .environment])
  }

  @Test func secrets() throws {
    let workspace = Workspace()
    workspace.write("db.tmpl", "url=postgres://${secrets.db.user}:${secrets.db.password|urlencode}@${HOST:-db}\n")
    workspace.write(
      "outrider.yaml",
      """
      app: { command: [a], env: { PASSWORD: "${secrets.db.password}" } }
      secrets:
        stores:
          main: { vault: { address: "https://vault:8200/", namespace: ns, auth: { token: "${secrets.root.token}" } } }
          env:
        values:
          root: { from: env, key: VAULT }
          db: { from: main, kv: secret/shop/db, refresh: 5s, required: false, on_change: { signal: SIGHUP } }
        files:
          - { path: out/db.env, template_file: db.tmpl, mode: 0640, owner: app, on_change: { restart: true } }
          - { path: /run/p, value: "${secrets.db.password}" }
      """)
    let loaded = try ConfigurationLoader.load(workspace.input())
    let secrets = loaded.value.secrets
    #expect(loaded.files == [workspace.path + "/outrider.yaml", workspace.path + "/db.tmpl"])
    guard case .vault(let vault) = secrets.stores[0].kind else {
      Issue.record("not vault")
      return
    }
    #expect(vault.address == "https://vault:8200")
    #expect(vault.namespace == "ns")
    #expect(secrets.values.map(\.source) == [.key("VAULT"), .kv(path: "secret/shop/db")])
    #expect(secrets.values[1].refresh == .seconds(5))
    #expect(!secrets.values[1].required)
    #expect(secrets.values[1].onChange == [.signal(1)])
    #expect(secrets.files[0].path == workspace.path + "/out/db.env")
    #expect(secrets.files[0].mode == 0o640)
    #expect(secrets.files[0].onChange == [.restart])
    #expect(secrets.files[0].content.references.map(\.filters) == [[], ["urlencode"]])
    #expect(secrets.files[1].mode == 0o600)
  }

  @Test func deliveryOfSecrets() throws {
    let workspace = Workspace()
    workspace.write(
      "outrider.yaml",
      """
      app: { command: [a], user: shop }
      secrets:
        stores: { env: }
        values:
          db: { on_change: { exec: [reload, "-q"], http: "http://127.0.0.1:1/x", timeout: 5s } }
        shared_memory: { values: db, path: mem }
        socket: { path: /run/s.sock, uids: [1000, web] }
      """)
    let secrets = try ConfigurationLoader.load(workspace.input()).value.secrets
    #expect(
      secrets.values[0].onChange == [
        .exec(["reload", "-q"], timeout: .seconds(5)), .http("http://127.0.0.1:1/x", timeout: .seconds(5)),
      ])
    #expect(secrets.sharedMemory?.values == ["db"])
    #expect(secrets.sharedMemory?.path == workspace.path + "/mem")
    #expect(secrets.sharedMemory?.owner == "shop")
    #expect(secrets.socket?.users == ["1000", "web"])
    let action = ChangeAction.http("https://user:pass@host/x?token=hunter2", timeout: .seconds(1))
    #expect("\(action)" == "http https://host/x")
    let short = try Workspace.value("app: { user: shop }\nsecrets: { stores: { env: }, socket: { path: /s } }")
    #expect(short.secrets.socket?.users == ["shop"])
  }

  @Test func transforms() throws {
    let logs = try Workspace.value(
      """
      logs:
        transforms:
          - rename: { msg: message, a: b }
          - keep: level >= info && status in 200..599
          - drop: { where: "has x", level: [debug, trace], field: "http path", regex: 'a"b\\d' }
          - redact: { patterns: [email, { regex: "ORD-[0-9]+" }], fields: password }
          - sample: { rate: 10%, key: trace_id, seed: 3, where: "level < warn" }
          - dedupe: { window: 5s, fields: [msg, code] }
          - rate_limit: { records: 100, per: 1m, key: user }
          - route: { console: "level >= error" }
          - metric: { name: orders_total, where: "has order", labels: [shop.id] }
          - metric: { name: took_seconds, histogram: took, buckets: [0.1, 1] }
        sinks: { console: {} }
        tests:
          - { name: one, input: "{}", expect: { a: 1 }, absent: b, sinks: [console, store], dropped: false }
      """
    ).logs
    var redaction = RedactionRules()
    redaction.patterns = [.email]
    redaction.expressions = [try RegularExpression("ORD-[0-9]+")]
    redaction.fields = ["password"]
    var sample = SampleRule(rate: 0.1)
    (sample.key, sample.seed, sample.condition) = (FieldPath("trace_id"), 3, try LogCondition("level < warn"))
    var dedupe = DedupeRule()
    (dedupe.window, dedupe.fields) = (.seconds(5), [FieldPath("msg"), FieldPath("code")])
    var limit = RateLimitRule(records: 100)
    (limit.per, limit.key) = (.seconds(60), FieldPath("user"))
    var orders = LogMetricRule(name: "orders_total")
    (orders.condition, orders.labels) = (try LogCondition("has order"), [FieldPath("shop.id")])
    var took = LogMetricRule(name: "took_seconds")
    (took.histogram, took.buckets) = (FieldPath("took"), [0.1, 1])
    let drop = "(has x) && level in [debug, trace] && `http path` =~ \"a\\\"b\\\\d\""
    #expect(
      logs.transforms == [
        .rename([RenameRule(from: "msg", to: "message"), RenameRule(from: "a", to: "b")]),
        .filter(try LogCondition("level >= info && status in 200..599"), keep: true),
        .filter(try LogCondition(drop), keep: false), .redact(redaction), .sample(sample), .dedupe(dedupe),
        .rateLimit(limit), .route([RouteRule(sink: "console", condition: try LogCondition("level >= error"))]),
        .metric(orders), .metric(took),
      ])
    #expect(logs.tests.map(\.name) == ["one"])
    #expect(logs.tests[0].expect == [LogTest.Expectation(field: "a", value: "1")])
  }

  @Test func theCaretStandsUnderTheFaultOfACondition() throws {
    for text in ["'status >= 5 & a'", "\"status >= 5 & a\"", "status >= 5 & a"] {
      let problems = Workspace.problems("logs: { transforms: [{ keep: \(text) }] }")
      let lines = problems.split(separator: "\n")
      let caret = try #require(lines.first { $0.hasSuffix("^") }).count
      let source = try #require(lines.first { $0.contains("transforms: [") })
      #expect(Array(source)[caret - 1] == "&", "\(problems)")
      #expect(problems.contains("did you mean `&&`?"))
    }
  }

  @Test func templatesWithBlocks() throws {
    let workspace = Workspace()
    workspace.write(
      "a.ctmpl",
      "{{ with secret \"secret/data/shop/db\" }}{{ .Data.data.user }}{{ end }}\n{{ with secret \"kv/new\" }}{{ .Data.x }}{{ end }}"
    )
    workspace.write(
      "outrider.yaml",
      """
      secrets:
        stores: { vault: { address: "http://v", auth: { token_file: t } } }
        values:
          db: { kv: secret/shop/db }
          web: { pki: pki/issue/web, common_name: web.internal }
        files:
          - { path: /run/a, template_file: a.ctmpl }
          - { path: /run/b, template: '{{ with pkiCert "pki/issue/web" "common_name=web.internal" }}{{ .Key }}{{ end }}' }
          - { path: /run/c, template: '{{ with secret "db" }}{{ .Data.user }}{{ end }}${secrets.web.certificate}' }
      """)
    let loaded = try ConfigurationLoader.load(workspace.input())
    let secrets = loaded.value.secrets
    #expect(secrets.files.map(\.secretNames) == [["db", "kv/new"], ["web"], ["db", "web"]])
    #expect(secrets.values.map(\.name) == ["db", "web", "kv/new"])
    #expect(secrets.values[2].source == .kv(path: "kv/new"))
    #expect(loaded.files == [workspace.path + "/outrider.yaml", workspace.path + "/a.ctmpl"])
  }

  @Test(arguments: [
    (
      "secrets: { stores: { env: }, values: { db: {} }, files: [{ path: a, template: '{{ secret \"a/b\" }}' }] }",
      "outrider.yaml:1:83: error: `secrets.files[0].template`: no secret is read from `a/b`"
    ),
    (
      "secrets: { stores: { env: }, values: { db: {} }, files: [{ path: a, template: \"x\\n {{ frob }}\" }] }",
      "line 2, column 5 of the text: the function `frob`"
    ),
    (
      "secrets: { stores: { env: }, values: { db: {} }, files: [{ path: a/x, set: s, value: x }, { path: b/y, set: s, value: y }] }",
      "the files of the set `s` are in"
    ),
    (
      "secrets: { stores: { env: }, values: { db: {} }, files: [{ path: a/x, set: a.b, value: x }] }",
      "`secrets.files[0].set` is not a name"
    ),
    ("secrets: { stores: { env: }, values: { db: {} }, shared_memory: { values: [dv] } }", "did you mean `db`?"),
    ("secrets: { stores: { env: }, values: { db: {} }, shared_memory: { values: [] } }", "names no secret"),
    ("secrets: { stores: { env: }, values: { db: { on_change: { exec: [] } } } }", "is empty"),
    ("secrets: { socket: { uids: [1] } }", "`path`"),
    ("logs: { sinks: { a: {} } }", "does not say what kind of sink"),
    ("logs: { sinks: { a: { elasticsearch: { index: a } } } }", "needs `url`"),
    ("logs: { sinks: { a: { console: {}, from: [ap] } } }", "did you mean `app`?"),
    ("logs: { sinks: { console: { prety: true } } }", "unknown key `prety` in `logs.sinks.console`"),
    ("logs: { sources: { a: {} } }", "does not say what to read"),
    ("logs: { sources: { a: { from: app, files: [a] } } }", "both `from` and `files`"),
    ("logs: { sources: { app: { start: end } } }", "is for `files` only"),
    ("logs: { transforms: [{ add: { a: b }, remove: [c] }] }", "holds 2 transforms"),
    ("logs: { transforms: [{ drop: { below: inof } }] }", "did you mean `info`?"),
    ("logs: { transforms: [{ drop: {} }] }", "says nothing"),
    ("logs: { transforms: [{ keep: 'level >= inof' }] }", "`inof` is no level"),
    ("logs: { transforms: [{ keep: { regex: '(' } }] }", "logs.transforms[0].keep.regex"),
    ("logs: { transforms: [{ rename: { '@timestamp': t } }] }", "own time keeps its name"),
    ("logs: { transforms: [{ redact: { patterns: [emial] } }] }", "did you mean `email`?"),
    ("logs: { transforms: [{ redact: { patterns: [{ regex: '[' }] } }] }", "man pcre2pattern"),
    ("logs: { transforms: [{ sample: { rate: 2 } }] }", "is not a fraction"),
    ("logs: { transforms: [{ sample: {} }] }", "needs `rate`"),
    ("logs: { transforms: [{ rate_limit: { records: 0 } }] }", "logs.transforms[0].rate_limit.records"),
    ("logs: { transforms: [{ route: { stroe: 'has a' } }] }", "did you mean `store`?"),
    ("logs: { transforms: [{ route: { store: 'has' } }] }", "a field's name is wanted"),
    ("logs: { transforms: [{ metric: { name: 1a } }] }", "no metric's name"),
    ("logs: { transforms: [{ metric: { name: outrider_x } }] }", "are the sidecar's"),
    ("logs: { transforms: [{ metric: { name: a, labels: [b.c, b_c] } }] }", "twice the same"),
    ("logs: { transforms: [{ metric: { name: a, histogram: b, buckets: [2, 1] } }] }", "no ascending numbers"),
    ("logs: { tests: [{ name: t, input: x, source: ap }] }", "there is no source `ap`"),
    ("logs: { tests: [{ name: t, input: x, sinks: [es] }] }", "there is no such sink"),
    ("logs: { tests: [{ name: t }] }", "needs `input`"),
    ("secrets: { values: { a: { key: a } } }", "has no store to come from"),
    (
      "secrets: { stores: { env: {}, file: { directory: a } }, values: { a: { key: a } } }", "which store it comes from"
    ),
    ("secrets: { stores: { env: {} }, values: { a: { from: evn } } }", "did you mean `env`?"),
    ("secrets: { stores: { env: {} }, values: { a: { kv: a/b } } }", "is for vault stores"),
    (
      "secrets: { stores: { vault: { address: \"http://v\", auth: { token_file: t } } }, values: { a: {} } }",
      "add `kv: MOUNT/PATH`"
    ),
    (
      "secrets: { stores: { vault: { address: \"http://v\", auth: { token_file: t } } }, values: { a: { kv: b } } }",
      "is not `MOUNT/PATH`"
    ),
    ("secrets: { stores: { vault: { address: \"http://v\", auth: {} } } }", "names 0 ways to log in"),
    ("secrets: { stores: { vault: { address: v, auth: { token_file: t } } } }", "is not a URL"),
    ("secrets: { stores: { vault: { address: \"http://v\", auth: { approle: { role_id: a } } } } }", "secret_id_file"),
    (
      "secrets: { stores: { vault: { address: \"http://v\", auth: { token: \"${secrets.a.b}\" } } }, values: { a: { kv: a/b } } }",
      "needs its own secret"
    ),
    (
      "secrets: { stores: { env: {} }, values: { db: {} }, files: [{ path: a, value: \"${secrets.dv.x}\" }] }",
      "did you mean `db`?"
    ),
    ("secrets: { files: [{ path: a }] }", "has 0 contents"),
    ("secrets: { files: [{ path: a, value: b, mode: \"0999\" }] }", "is not a file mode"),
    ("secrets: { files: [{ path: a, value: b }, { path: ./a, value: c }] }", "is written twice"),
    ("app: { env: { A: \"${secrets.db}\" } }", "does not name a secret's field"),
  ])
  func refusals(text: String, message: String) {
    let rendered = Workspace.problems(text)
    #expect(rendered.contains(message), "\(rendered)")
    #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(rendered)")
  }
}
