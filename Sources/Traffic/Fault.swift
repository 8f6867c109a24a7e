package import Vocabulary

/// Every error that the proxy answers by itself: its status, its RFC 9209 error type, its response flag and its blame.
package enum Fault: UInt8, Sendable, CaseIterable {
  case badRequest, notHTTP, headTooLarge, versionNotSupported, requestTimeout
  case noRoute, connectRefusedByPolicy, destinationDenied, noEndpoint, missingSecret
  /// There are endpoints, and health checks or outlier detection have left none of them.
  case noneAvailable
  case overflow, dnsFailure
  /// Memory is nearly used up.
  case overload
  case connectionRefused, connectionTimeout, connectionReset, upstreamProtocol
  case routeTimeout, tryTimeout, streamIdle
  /// The upstream's certificate is expired or names somebody else; no authority here signed it; it did not take ours.
  case tlsCertificate, tlsUntrusted, tlsRefused
  /// The TLS handshake failed otherwise; the sidecar's own certificate or authorities are not there.
  case tlsProtocol, tlsUnavailable
  /// A rate limit; the rules; a token that is missing or not good, or meant for others.
  case rateLimited, accessDenied, unauthenticated, wrongAudience
  /// Tokens cannot be verified, for want of keys; the authorization service was not reached, or said no.
  case keysUnavailable, authorizerFailed, authorizerDenied
  /// Failed on purpose; the status is the configuration's.
  case injected

  package var status: Int {
    switch self {
    case .badRequest, .notHTTP: 400
    case .headTooLarge: 431
    case .versionNotSupported: 505
    case .requestTimeout: 408
    case .noRoute: 404
    case .connectRefusedByPolicy: 405
    case .destinationDenied, .accessDenied, .wrongAudience, .authorizerFailed, .authorizerDenied: 403
    case .rateLimited: 429
    case .unauthenticated: 401
    case .keysUnavailable, .injected, .overload: 503
    case .noEndpoint, .noneAvailable, .missingSecret, .overflow, .dnsFailure, .connectionRefused: 503
    case .tlsCertificate, .tlsUntrusted, .tlsRefused, .tlsProtocol, .tlsUnavailable: 503
    case .connectionReset, .upstreamProtocol: 502
    case .connectionTimeout, .routeTimeout, .tryTimeout, .streamIdle: 504
    }
  }

  /// The `error` parameter of `Proxy-Status` (RFC 9209 section 2.3).
  package var proxyError: StaticString {
    switch self {
    case .badRequest, .notHTTP, .headTooLarge, .versionNotSupported: "http_request_error"
    case .requestTimeout: "http_request_error"
    case .noRoute: "destination_not_found"
    case .connectRefusedByPolicy, .destinationDenied, .accessDenied, .unauthenticated, .wrongAudience,
      .authorizerFailed, .authorizerDenied, .rateLimited:
      "http_request_denied"
    case .keysUnavailable: "proxy_configuration_error"
    case .injected, .overload: "proxy_internal_error"
    case .noEndpoint, .noneAvailable: "destination_unavailable"
    case .missingSecret: "proxy_configuration_error"
    case .overflow: "connection_limit_reached"
    case .dnsFailure: "dns_error"
    case .connectionRefused: "connection_refused"
    case .connectionTimeout: "connection_timeout"
    case .connectionReset: "connection_terminated"
    case .upstreamProtocol: "http_protocol_error"
    case .routeTimeout, .tryTimeout, .streamIdle: "http_response_timeout"
    case .tlsCertificate, .tlsUntrusted: "tls_certificate_error"
    case .tlsRefused: "tls_alert_received"
    case .tlsProtocol: "tls_protocol_error"
    case .tlsUnavailable: "proxy_configuration_error"
    }
  }

  /// The response flag of access records, in Envoy's words.
  package var flag: StaticString {
    switch self {
    case .badRequest, .notHTTP, .headTooLarge, .versionNotSupported, .connectRefusedByPolicy: "DPE"
    case .destinationDenied, .accessDenied, .unauthenticated, .wrongAudience, .keysUnavailable, .authorizerFailed,
      .authorizerDenied:
      "UAEX"
    case .rateLimited: "RL"
    case .injected: "FI"
    case .requestTimeout: "DT"
    case .noRoute: "NR"
    case .noEndpoint, .noneAvailable: "UH"
    case .missingSecret: "CF"
    case .overflow: "UO"
    case .overload: "OM"
    case .dnsFailure: "DF"
    case .connectionRefused, .connectionTimeout: "UF"
    case .tlsCertificate, .tlsUntrusted, .tlsRefused, .tlsProtocol, .tlsUnavailable: "UF"
    case .connectionReset: "UC"
    case .upstreamProtocol: "UPE"
    case .routeTimeout, .tryTimeout: "UT"
    case .streamIdle: "SI"
    }
  }

  /// A stable word for programs.
  package var reason: StaticString {
    switch self {
    case .badRequest: "bad_request"
    case .notHTTP: "not_http"
    case .headTooLarge: "head_too_large"
    case .versionNotSupported: "version_not_supported"
    case .requestTimeout: "request_timeout"
    case .noRoute: "no_route"
    case .connectRefusedByPolicy: "connect_not_allowed"
    case .destinationDenied: "destination_denied"
    case .noEndpoint: "no_endpoint"
    case .noneAvailable: "no_healthy_endpoint"
    case .missingSecret: "missing_secret"
    case .overflow: "overflow"
    case .overload: "overload"
    case .dnsFailure: "dns_failure"
    case .connectionRefused: "connection_refused"
    case .connectionTimeout: "connection_timeout"
    case .connectionReset: "connection_reset"
    case .upstreamProtocol: "upstream_protocol_error"
    case .routeTimeout: "route_timeout"
    case .tryTimeout: "try_timeout"
    case .streamIdle: "stream_idle"
    case .tlsCertificate: "tls_certificate_invalid"
    case .tlsUntrusted: "tls_certificate_untrusted"
    case .tlsRefused: "tls_certificate_refused"
    case .tlsProtocol: "tls_handshake_failed"
    case .tlsUnavailable: "tls_not_ready"
    case .rateLimited: "rate_limited"
    case .accessDenied: "access_denied"
    case .unauthenticated: "unauthenticated"
    case .wrongAudience: "wrong_audience"
    case .keysUnavailable: "keys_unavailable"
    case .authorizerFailed: "authorization_failed"
    case .authorizerDenied: "authorization_denied"
    case .injected: "fault_injected"
    }
  }

  /// Whose fault it is; `toApp` tells that the upstream is the app itself.
  package func blame(toApp: Bool) -> Blame {
    switch self {
    case .badRequest, .notHTTP, .headTooLarge, .versionNotSupported, .requestTimeout, .connectRefusedByPolicy,
      .destinationDenied, .rateLimited, .accessDenied, .unauthenticated, .wrongAudience, .authorizerDenied:
      .client
    case .noRoute, .noEndpoint, .missingSecret, .tlsUntrusted, .tlsRefused, .tlsUnavailable, .keysUnavailable:
      .config
    case .overflow, .overload, .injected: .sidecar
    case .authorizerFailed: .upstream
    case .dnsFailure, .connectionRefused, .connectionTimeout, .connectionReset, .upstreamProtocol, .routeTimeout,
      .tryTimeout, .streamIdle, .tlsCertificate, .tlsProtocol, .noneAvailable:
      toApp ? .app : .upstream
    }
  }

  /// The way out, for a person.
  package func hint(toApp: Bool) -> StaticString {
    switch self {
    case .badRequest: "the request breaks RFC 9112; the sidecar closed the connection to stay safe"
    case .notHTTP: "give other protocols a listener with `protocol: tcp`; TLS needs `tls` on the listener"
    case .headTooLarge: "send fewer or smaller fields"
    case .versionNotSupported: "speak HTTP/1.1 on this listener"
    case .requestTimeout: "the request head did not arrive in time; see the listener's head timeout"
    case .noRoute: "no route of the listener matches; add one, or a `to`"
    case .connectRefusedByPolicy: "CONNECT is not enabled on this listener"
    case .destinationDenied: "the forward proxy does not lead there; see `forward_proxy` of the listener"
    case .noEndpoint: toApp ? "no app address is configured; set `app.port`" : "the cluster has no endpoints"
    case .noneAvailable: "every endpoint is unhealthy or ejected; `outrider status` says why"
    case .missingSecret: "a secret that a field is injected from is missing; see `outrider status`"
    case .overflow: "the cluster's limits are reached; raise its `limits` or add endpoints"
    case .overload: "raise the limit of memory, or take fewer connections (`limits` of the listener)"
    case .dnsFailure: "the cluster's name does not resolve; check the name and the resolver"
    case .connectionRefused:
      toApp
        ? "the app does not accept connections at its address; is it running and listening?"
        : "the upstream does not accept connections; check its address and whether it runs"
    case .connectionTimeout: "no connection in time; check address, firewall and `connect_timeout`"
    case .connectionReset:
      toApp
        ? "the app closed the connection without a full response; see its log"
        : "the upstream closed the connection without a full response"
    case .upstreamProtocol: "the response breaks RFC 9112"
    case .routeTimeout: "no response head in time; see `timeout`"
    case .tryTimeout: "no response head in time; see `retries.per_try_timeout`"
    case .streamIdle: "no progress in time; see `idle_timeout`"
    case .tlsCertificate: "renew or correct the upstream's certificate, or say in `tls.match` which names it may have"
    case .tlsUntrusted: "name the authority that signs the upstream's certificates in the cluster's `tls.ca`"
    case .tlsRefused: "the upstream does not take the client certificate; see the cluster's `tls.from`"
    case .tlsProtocol: "does the upstream speak TLS 1.2 or 1.3 on this port?"
    case .tlsUnavailable:
      "a secret that the cluster's `tls` takes its certificate from is missing; see `outrider status`"
    case .rateLimited: "wait as long as Retry-After says; see `limits.rate`"
    case .accessDenied: "see `authorize.rbac` of the listener and of the route"
    case .unauthenticated: "send a token that is valid here; see `authorize.jwt`"
    case .wrongAudience: "ask the issuer for a token for this service; see `authorize.jwt.audiences`"
    case .keysUnavailable: "the key set of `authorize.jwt.jwks` is not there; see the sidecar's log"
    case .authorizerFailed: "the service of `authorize.external` gave no answer in time; it fails closed"
    case .authorizerDenied: "the service of `authorize.external` does not allow it"
    case .injected: "this failure is made on purpose; see `fault`"
    }
  }
}
