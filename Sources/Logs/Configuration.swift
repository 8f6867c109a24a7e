package import RegularExpressions
package import Vocabulary

/// Everything the log pipeline is told: validated, defaults filled in.
package struct LogsConfiguration: Sendable, Equatable {
  /// `app` and `access` exist by default.
  package var sources: [LogSourceConfiguration] = []
  package var transforms: [LogTransform] = []
  package var spool = SpoolConfiguration()
  /// `store` exists by default; `console` too when the file names no sinks.
  package var sinks: [LogSinkConfiguration] = []
  /// What `outrider validate --test` checks; nothing else looks at it.
  package var tests: [LogTest] = []
  package init() {}
}

package struct LogSourceConfiguration: Sendable, Equatable {
  package enum Input: Sendable, Equatable {
    /// The app's stdout and stderr.
    case app
    /// The sidecar's access records.
    case access
    case files(FilesInput)
    /// A named pipe; made when it is not there.
    case fifo(String)
    case listen(ListenInput)
    /// systemd's journal.
    case journal(JournalInput)
  }
  package struct JournalInput: Sendable, Equatable {
    /// Units whose entries are read; empty = all.
    package var units: [String] = []
    /// `FIELD=VALUE`, as `journalctl` takes them.
    package var matches: [String] = []
    /// Where journal files are; nil = the system's place.
    package var directory: String? = nil
    package var fromBeginning = false
    package init() {}
  }
  package struct ListenInput: Sendable, Equatable {
    package var address: ListenAddress
    package var format: ListenFormat
    /// nil = plaintext.
    package var tls: LogListenerTLS? = nil
    package init(address: ListenAddress, format: ListenFormat) {
      self.address = address
      self.format = format
    }
  }
  package enum ListenFormat: String, Sendable, CaseIterable { case lines, syslog, forward, http, otlp }
  package struct FilesInput: Sendable, Equatable {
    package var globs: [String]
    package var exclude: [String] = []
    package var fromBeginning = false
    package var rotateWait: Duration = .seconds(5)
    /// Bytes of a file's beginning by which it is known.
    package var fingerprint = 1024
    package init(globs: [String]) { self.globs = globs }
  }
  package enum Parser: String, Sendable, CaseIterable { case auto, json, logfmt, none, cri, docker, syslog }
  package var name: String
  package var input: Input
  package var parser: Parser = .auto
  /// In place of `parser`: named groups become fields.
  package var pattern: RegularExpression? = nil
  /// nil: every line is a record.
  package var multiline: MultilineConfiguration? = nil
  package var timestamp: TimestampRule? = nil
  /// Where times without a zone are from.
  package var zone: TimestampFormat.Zone = .local
  package var maxRecord = 1 << 20
  package init(name: String, input: Input) {
    self.name = name
    self.input = input
  }
}

/// In order, each a pure function on a record.
package enum LogTransform: Sendable, Equatable {
  case add([String: String])
  case remove([String])
  case rename([RenameRule])
  /// Drops records whose level is below the given one (`trace debug info warn error fatal`).
  case dropBelow(level: String)
  /// Keeps, or drops, what matches.
  case filter(LogCondition, keep: Bool)
  /// `false` switches secret redaction off; it is on when no transform says otherwise.
  case redactSecrets(Bool)
  case redact(RedactionRules)
  case sample(SampleRule)
  case dedupe(DedupeRule)
  case rateLimit(RateLimitRule)
  /// Looked at by the sinks.
  case route([RouteRule])
  case metric(LogMetricRule)
}

/// How a log source that listens ends TLS.
package struct LogListenerTLS: Sendable, Equatable {
  package enum Certificate: Sendable, Equatable {
    /// A secret's name.
    case secret(String)
    /// Paths of PEM files.
    case files(certificate: String, key: String)
  }
  package enum Authorities: Sendable, Equatable {
    case secret(String)
    case file(String)
  }
  package var certificate: Certificate
  /// What a client's certificate must be signed by; nil = none is asked for.
  package var clientCA: Authorities? = nil
  /// TLS 1.3 only.
  package var isModern = false
  package init(certificate: Certificate) { self.certificate = certificate }
}

/// Where a log source listens.
package enum ListenAddress: Sendable, Hashable, CustomStringConvertible {
  case unix(path: String)
  /// `host` is a literal address; empty means all interfaces.
  case tcp(host: String, port: Int)
  case udp(host: String, port: Int)

  /// Parses `unix:/path`, `tcp:host:port` and `udp:host:port`; nil for anything else.
  package init?(_ text: String) {
    if text.hasPrefix("unix:"), case .unix(let path)? = Address(text) {
      self = .unix(path: path)
      return
    }
    let isUDP = text.hasPrefix("udp:")
    guard isUDP || text.hasPrefix("tcp:"), case .tcp(let host, let port)? = Address(String(text.dropFirst(4))),
      port > 0,
      host.isEmpty || host == "localhost" || IPAddress(host) != nil
    else { return nil }
    self = isUDP ? .udp(host: host, port: port) : .tcp(host: host, port: port)
  }

  package var isTCP: Bool { if case .tcp = self { true } else { false } }

  package var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let host, let port): "tcp:\(Address.tcp(host: host, port: port))"
    case .udp(let host, let port): "udp:\(Address.tcp(host: host, port: port))"
    }
  }
}

package struct SpoolConfiguration: Sendable, Equatable {
  package enum WhenFull: String, Sendable, CaseIterable {
    case block
    case dropOldest = "drop_oldest"
    case dropNewest = "drop_newest"
  }
  /// nil = `spool/` under the state directory.
  package var path: String? = nil
  package var limit = 1 << 30
  package var whenFull: WhenFull = .block
  /// True: fdatasync after each appended batch.
  package var sync = false
  package init() {}
}

package struct LogSinkConfiguration: Sendable, Equatable {
  package enum Output: Sendable, Equatable {
    case elasticsearch(ElasticsearchOutput)
    case http(HTTPOutput)
    case splunk(SplunkOutput)
    case loki(LokiOutput)
    case otlp(OTLPOutput)
    case syslog(SyslogOutput)
    case forward(ForwardOutput)
    case store(path: String?, keep: Int)
    /// Lines go to the stream they came from; `pretty` adds time, level and colour.
    case console(pretty: Bool)
    case file(path: String, rotate: FileRotation? = nil)

    /// Whether records leave in requests that can fail.
    package var isRemote: Bool {
      switch self {
      case .store, .console, .file: false
      default: true
      }
    }
  }
  package struct ElasticsearchOutput: Sendable, Equatable {
    package enum Authorization: Sendable, Equatable {
      case none
      case basic(user: String, password: SecretTemplate)
      case apiKey(SecretTemplate)
    }
    package var urls: [String]
    /// May hold strftime sequences (`shop-%Y.%m.%d`) and `${field}`.
    package var index: String
    package var dataStream = false
    package var deterministicID = true
    package var pipeline: String? = nil
    package var authorization: Authorization = .none
    package init(urls: [String], index: String) {
      self.urls = urls
      self.index = index
    }
  }
  package var name: String
  package var output: Output
  /// Names of sources; empty = all.
  package var from: [String] = []
  package var batchBytes = 5 << 20
  package var batchRecords = 10_000
  package var batchAge: Duration = .seconds(1)
  package var gzip = true
  package var retryInitial: Duration = .seconds(1)
  package var retryMax: Duration = .seconds(60)
  /// nil = never.
  package var giveUp: Duration? = nil
  /// nil = `dead-letter/NAME.ndjson` under the state directory.
  package var deadLetter: String? = nil
  package var concurrency = 1
  package var tls = ClientTLSConfiguration()
  package init(name: String, output: Output) {
    self.name = name
    self.output = output
  }
}
