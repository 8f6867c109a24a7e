import Glibc
import Logs
import NIOCore
import Vocabulary

/// A network sink's format and the way to its server.
struct SinkRoute {
  var format: any SinkFormat
  var transport: any SinkTransport

  /// Throws when a file of `tls` cannot be used.
  init(_ sink: LogSinkConfiguration, group: any EventLoopGroup, secrets: @escaping LogPipeline.SecretResolver) throws {
    func client(_ plan: HTTPSinkClient.Plan) throws -> HTTPSinkClient {
      try HTTPSinkClient(plan, sink, group: group, secrets: secrets)
    }
    func plan(_ urls: [String], path: String, _ headers: [SinkHeader]) -> HTTPSinkClient.Plan {
      let urls = urls.map { SinkAddress.trimmed($0, suffixes: [path]) + path }
      return HTTPSinkClient.Plan(urls: urls, headers: headers)
    }
    switch sink.output {
    case .elasticsearch(let options):
      format = BulkFormat(options)
      let pipeline = options.pipeline.map { "?pipeline=\($0)" } ?? ""
      var plan = HTTPSinkClient.Plan(
        urls: options.urls.map { SinkAddress.trimmed($0, suffixes: []) + "/_bulk" + pipeline })
      plan.contentType = "application/x-ndjson"
      switch options.authorization {
      case .none: break
      case .basic(let user, let password):
        plan.headers = [SinkHeader(name: "authorization", value: .basic(user: user, password: password))]
      case .apiKey(let key):
        plan.headers = [SinkHeader(name: "authorization", value: .secret(key, prefix: "ApiKey "))]
      }
      transport = try client(plan)
    case .http(let options):
      format = JSONLinesFormat(isArray: options.isArray)
      var plan = HTTPSinkClient.Plan(urls: options.urls, accept: "*/*", headers: options.headers)
      if !options.isArray { plan.contentType = "application/x-ndjson" }
      transport = try client(plan)
    case .splunk(let options):
      format = SplunkFormat(options, host: Self.host())
      transport = try SplunkClient(options, host: Self.host(), make: client)
    case .loki(let options):
      format = LokiFormat(options)
      var plan = plan(options.urls, path: "/loki/api/v1/push", options.headers)
      if let tenant = options.tenant { plan.plain = [("x-scope-orgid", tenant)] }
      transport = try client(plan)
    case .otlp(let options):
      var plan = plan(options.urls, path: "/v1/logs", options.headers)
      if options.isJSON {
        format = OTLPJSONFormat(options, host: Self.host())
      } else {
        format = OTLPLogsFormat(options, host: Self.host())
        plan.contentType = "application/x-protobuf"
        plan.accept = "application/x-protobuf"
      }
      transport = try client(plan)
    case .syslog(let options):
      format = SyslogFormat(options, host: Self.host())
      transport = try StreamSinkClient(
        .syslog, options.addresses, usesTLS: options.usesTLS, sink, group: group, secrets: secrets)
    case .forward(let options):
      format = ForwardFormat()
      transport = try StreamSinkClient(
        .forward(options, host: Self.host()), options.addresses, usesTLS: options.usesTLS, sink, group: group,
        secrets: secrets)
    case .store, .console, .file:
      throw LogStorageError(description: "the log sink '\(sink.name)' sends nothing over the network")
    }
  }

  /// The machine's name; `localhost` when it has none.
  private static func host() -> String {
    var name = [CChar](repeating: 0, count: 256)
    let result = gethostname(&name, 255)
    let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return result == 0 && !text.isEmpty ? text : "localhost"
  }
}
