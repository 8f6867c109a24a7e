import Logs
import Testing
import Vocabulary

@testable import ConfigurationFile

@Suite struct SinkDecodingTests {
  func sink(_ text: String) throws -> LogSinkConfiguration.Output? {
    let secrets = "\nsecrets: { stores: { env: {} }, values: { hec: { key: HEC } } }"
    return try Workspace.value("logs: { sinks: { a: \(text) } }" + secrets).logs.sinks.first { $0.name == "a" }?.output
  }

  private let token = SecretTemplate(parts: [.secret(SecretReference(name: "hec", field: "t"))])

  @Test func http() throws {
    var output = LogSinkConfiguration.HTTPOutput(urls: ["http://a/x", "http://b"])
    output.isArray = true
    output.headers = [SinkHeader(name: "X-Key", value: .secret(token, prefix: ""))]
    #expect(
      try sink(
        "{ http: { url: [\"http://a/x\", \"http://b/\"], format: json, headers: { X-Key: \"${secrets.hec.t}\" } } }")
        == .http(output))
  }

  @Test func splunk() throws {
    var output = LogSinkConfiguration.SplunkOutput(urls: ["https://s:8088"], token: token)
    #expect(try sink("{ splunk: { url: \"https://s:8088\", token: \"${secrets.hec.t}\" } }") == .splunk(output))
    output.index = "main"
    output.sourcetype = "st"
    output.source = "so"
    output.host = "h"
    output.acknowledges = true
    let more = "index: main, sourcetype: st, source: so, host: h, ack: true"
    #expect(
      try sink("{ splunk: { url: \"https://s:8088\", token: \"${secrets.hec.t}\", \(more) } }") == .splunk(output))
  }

  @Test func lokiAndOTLP() throws {
    var loki = LogSinkConfiguration.LokiOutput(
      urls: ["http://l"], labels: [.init(name: "source", value: "${source}")])
    #expect(try sink("{ loki: { url: \"http://l\" } }") == .loki(loki))
    loki.labels = [.init(name: "app", value: "${service}-x"), .init(name: "job", value: "shop")]
    loki.tenant = "t"
    loki.labelValues = 5
    #expect(
      try sink(
        "{ loki: { url: \"http://l\", tenant: t, label_values: 5, labels: { job: shop, app: \"${service}-x\" } } }")
        == .loki(loki))
    var otlp = LogSinkConfiguration.OTLPOutput(urls: ["http://o"])
    otlp.service = "shop"
    #expect(try sink("{ otlp: { url: \"http://o\", protocol: http, service: shop } }") == .otlp(otlp))
  }

  @Test func rotatedFile() throws {
    var rotation = FileRotation()
    rotation.size = 1 << 20
    #expect(try sink("{ file: { path: /a, rotate: { size: 1MiB } } }") == .file(path: "/a", rotate: rotation))
    rotation.every = .seconds(3600)
    rotation.keep = 2
    #expect(
      try sink("{ file: { path: /a, rotate: { size: 1MiB, every: 1h, keep: 2 } } }")
        == .file(path: "/a", rotate: rotation)
    )
    #expect(try sink("{ file: { path: /a } }") == .file(path: "/a"))
  }

  @Test func syslogAndForward() throws {
    var syslog = LogSinkConfiguration.SyslogOutput(addresses: [.tcp(host: "l", port: 514)])
    #expect(try sink("{ syslog: { address: \"l:514\" } }") == .syslog(syslog))
    syslog.usesTLS = true
    syslog.facility = 3
    syslog.name = "shop"
    syslog.isText = true
    #expect(
      try sink("{ syslog: { address: \"l:514\", facility: daemon, name: shop, format: text }, tls: { ca: /ca } }")
        == .syslog(syslog))
    var forward = LogSinkConfiguration.ForwardOutput(
      addresses: [.tcp(host: "f", port: 24224), .unix(path: "/run/f")])
    forward.tag = "shop.app"
    forward.acknowledges = false
    forward.sharedKey = token
    forward.user = "u"
    forward.password = token
    let login = "shared_key: \"${secrets.hec.t}\", user: u, password: \"${secrets.hec.t}\""
    #expect(
      try sink("{ forward: { address: [\"f:24224\", \"unix:/run/f\"], tag: shop.app, ack: false, \(login) } }")
        == .forward(forward))
  }

  @Test(arguments: [
    ("{ file: { path: /a, rotate: { keep: 2 } } }", "does not say when"),
    ("{ file: { path: /a, rotate: { size: 1MiB, keep: 0 } } }", "keep"),
    ("{ syslog: {} }", "address"),
    ("{ syslog: { address: \"l:514\", facility: local9 } }", "local9"),
    ("{ forward: { address: f } }", "is not an address"),
    ("{ forward: { address: \"f:1\", user: u } }", "no `shared_key`"),
    ("{ http: {} }", "needs `url`"),
    ("{ http: { url: \"http://a\", headers: { \"a b\": x } } }", "is no name of a field"),
    ("{ http: { url: \"http://a\", headers: { Host: x } } }", "which the sink sets itself"),
    ("{ http: { url: \"http://a\", format: xml } }", "xml"),
    ("{ splunk: { url: \"http://a\" } }", "token"),
    ("{ splunk: { url: \"http://a\", token: \"${secrets.hc.t}\" } }", "did you mean `hec`?"),
    ("{ loki: { url: \"http://a\", labels: { 1a: x } } }", "is no name of a label"),
    ("{ loki: { url: \"http://a\", tenant: \"${secrets.hec.t}\" } }", "secret"),
    ("{ otlp: { url: \"http://a\", protocol: grpc } }", "grpc"),
    ("{ otlp: { url: \"http://a\" }, loki: { url: \"http://a\" } }", "says twice"),
  ])
  func refusals(text: String, message: String) {
    let secrets = "\nsecrets: { stores: { env: {} }, values: { hec: { key: HEC } } }"
    let rendered = Workspace.problems("logs: { sinks: { a: \(text) } }" + secrets)
    #expect(rendered.contains(message), "\(rendered)")
    #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(rendered)")
  }
}
