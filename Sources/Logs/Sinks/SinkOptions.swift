package import Vocabulary

/// A field of a sink's requests.
package struct SinkHeader: Sendable, Equatable {
  package enum Value: Sendable, Equatable {
    /// `prefix` and the secret's value.
    case secret(SecretTemplate, prefix: String)
    case basic(user: String, password: SecretTemplate)
  }
  package var name: String
  package var value: Value

  package init(name: String, value: Value) {
    self.name = name
    self.value = value
  }
}

extension LogSinkConfiguration {
  package struct HTTPOutput: Sendable, Equatable {
    package var urls: [String]
    /// True: a JSON array; false: NDJSON.
    package var isArray = false
    package var headers: [SinkHeader] = []
    package init(urls: [String]) { self.urls = urls }
  }

  package struct SplunkOutput: Sendable, Equatable {
    package var urls: [String]
    package var token: SecretTemplate
    package var index: String? = nil
    package var sourcetype = "_json"
    /// nil = the name of the record's source.
    package var source: String? = nil
    /// nil = the machine's name.
    package var host: String? = nil
    package var acknowledges = false
    /// Lines as the app wrote them, to `/services/collector/raw`.
    package var isRaw = false
    package init(urls: [String], token: SecretTemplate) {
      self.urls = urls
      self.token = token
    }
  }

  package struct LokiOutput: Sendable, Equatable {
    package struct Label: Sendable, Equatable {
      package var name: String
      /// May hold `${field}`.
      package var value: String
      package init(name: String, value: String) {
        self.name = name
        self.value = value
      }
    }
    package var urls: [String]
    /// Never empty, sorted by name.
    package var labels: [Label]
    package var tenant: String? = nil
    /// Different values of one label; further ones become `other`.
    package var labelValues = 100
    package var headers: [SinkHeader] = []
    package init(urls: [String], labels: [Label]) {
      self.urls = urls
      self.labels = labels
    }
  }

  package struct OTLPOutput: Sendable, Equatable {
    package var urls: [String]
    /// `service.name`; nil = the name of the record's source.
    package var service: String? = nil
    /// JSON in place of protobuf.
    package var isJSON = false
    package var headers: [SinkHeader] = []
    package init(urls: [String]) { self.urls = urls }
  }

  package struct SyslogOutput: Sendable, Equatable {
    package var addresses: [Address]
    package var usesTLS = false
    /// RFC 5424 section 6.2.1, 0...23.
    package var facility = 16
    /// APP-NAME; nil = the name of the record's source.
    package var name: String? = nil
    /// True: the message alone; false: the record as JSON.
    package var isText = false
    package init(addresses: [Address]) { self.addresses = addresses }
  }

  package struct ForwardOutput: Sendable, Equatable {
    package var addresses: [Address]
    package var usesTLS = false
    package var tag = "outrider"
    package var acknowledges = true
    package var sharedKey: SecretTemplate? = nil
    package var user = ""
    package var password: SecretTemplate? = nil
    package init(addresses: [Address]) { self.addresses = addresses }
  }
}
