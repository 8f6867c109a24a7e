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

  @Test(arguments: [
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
