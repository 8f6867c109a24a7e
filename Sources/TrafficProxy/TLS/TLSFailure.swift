import NIOCore
import NIOSSL
import Traffic

/// Why a TLS connection is not to be used, for attribution.
struct TLSFailure: Error, Equatable {
  var fault: Fault
  var detail: String

  init(_ fault: Fault, _ detail: String) {
    self.fault = fault
    self.detail = detail
  }

  /// What an error of the TLS engine means for a connection to an upstream; nil when it says nothing about TLS.
  /// `certificate` is the peer's, `trust` what it is checked against.
  init?(upstream error: any Error, certificate: NIOSSLCertificate? = nil, trust: TrustSource? = nil) {
    guard let reason = HandshakeReason(error) else { return nil }
    switch reason {
    case .untrusted:
      guard let certificate else { return nil }
      self = Self.unverified(certificate, trust ?? .system)
    case .certificateRefused:
      self.init(.tlsRefused, "the upstream refused the client certificate (\(Self.words(error)))")
    case .closed: self.init(.tlsProtocol, "the upstream closed the connection during the TLS handshake")
    default: self.init(.tlsProtocol, "the TLS handshake failed: \(Self.words(error))")
    }
  }

  /// What is wrong with a certificate that could not be verified.
  static func unverified(_ certificate: NIOSSLCertificate, _ trust: TrustSource) -> TLSFailure {
    let now = Moment.now
    if Int64(certificate.notValidAfter) <= now {
      let time = Moment.text(Int64(certificate.notValidAfter))
      return TLSFailure(.tlsCertificate, "the certificate of \(certificate.subject) expired at \(time)")
    }
    if Int64(certificate.notValidBefore) > now {
      let time = Moment.text(Int64(certificate.notValidBefore))
      return TLSFailure(.tlsCertificate, "the certificate of \(certificate.subject) is not valid before \(time)")
    }
    return TLSFailure(
      .tlsUntrusted,
      "the certificate of \(certificate.subject), issued by \(certificate.issuer), cannot be verified with \(trust)")
  }

  /// How a certificate that could not be verified is counted.
  var verificationReason: HandshakeReason { fault == .tlsCertificate ? .expired : .untrusted }

  /// The TLS engine's words for an error, in lower case: `wrong version number`.
  static func words(_ error: any Error) -> String {
    let text = HandshakeReason.engineText(error)
    return text.isEmpty ? "\(error)" : text.lowercased().split(separator: "_").joined(separator: " ")
  }
}

/// Why a handshake failed: the label of a metric.
enum HandshakeReason: String, CaseIterable {
  /// It took too long.
  case timeout
  /// The peer closed the connection.
  case closed
  /// No certificate was sent where one is required.
  case noCertificate = "no_certificate"
  /// No authority that is trusted here signed the peer's certificate.
  case untrusted
  /// The peer's certificate is not valid any more, or not yet.
  case expired
  /// The peer's certificate has none of the names that `match` allows.
  case mismatch
  /// The peer does not take our certificate.
  case certificateRefused = "certificate_refused"
  /// What came was not TLS.
  case plaintext
  /// No version, cipher or protocol in common.
  case negotiation
  /// There is no certificate here for the name asked for, or not yet.
  case unavailable
  case other

  /// The failure that an error of the TLS engine stands for; nil when it is none.
  init?(_ error: any Error) {
    switch error {
    case let error as NIOSSLError:
      switch error {
      case .handshakeFailed(let inner): self = Self.of(inner)
      case .noCertificateToValidate: self = .noCertificate
      default: return nil
      }
    case let error as BoringSSLError: self = Self.of(error)
    default: return nil
    }
  }

  private static func of(_ error: BoringSSLError) -> HandshakeReason {
    guard case .sslError(let stack) = error else { return error == .zeroReturn ? .closed : .other }
    if stack == [.eofDuringHandshake] || stack == [.eofDuringAdditionalCertficiateChainValidation] { return .closed }
    let text = Self.text(of: stack)
    for (word, reason) in Self.words where text.contains(word) { return reason }
    return .other
  }

  private static let words: [(String, HandshakeReason)] = [
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", .noCertificate), ("CERTIFICATE_VERIFY_FAILED", .untrusted),
    ("ALERT_UNKNOWN_CA", .certificateRefused), ("ALERT_BAD_CERTIFICATE", .certificateRefused),
    ("ALERT_CERTIFICATE", .certificateRefused), ("ALERT_UNSUPPORTED_CERTIFICATE", .certificateRefused),
    ("ALERT_NO_CERTIFICATE", .certificateRefused), ("ALERT_UNKNOWN_CERTIFICATE", .certificateRefused),
    ("ALERT_ACCESS_DENIED", .certificateRefused), ("ALERT_DECRYPT_ERROR", .certificateRefused),
    ("HTTP_REQUEST", .plaintext), ("HTTPS_PROXY_REQUEST", .plaintext), ("WRONG_VERSION_NUMBER", .plaintext),
    ("UNSUPPORTED_PROTOCOL", .negotiation), ("NO_SHARED_CIPHER", .negotiation), ("NO_SHARED_GROUP", .negotiation),
    ("ALERT_PROTOCOL_VERSION", .negotiation), ("ALERT_HANDSHAKE_FAILURE", .negotiation),
    ("APPLICATION_PROTOCOL", .negotiation), ("NO_CIPHERS_AVAILABLE", .negotiation),
  ]

  /// The engine's own name of the first error, for example `CERTIFICATE_VERIFY_FAILED`; empty = none.
  static func engineText(_ error: any Error) -> String {
    var inner = error as? BoringSSLError
    if case .handshakeFailed(let found)? = error as? NIOSSLError { inner = found }
    guard case .sslError(let stack)? = inner else { return "" }
    return text(of: stack)
  }

  /// `error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at …` gives its last part.
  private static func text(of stack: NIOBoringSSLErrorStack) -> String {
    guard let first = stack.first else { return "" }
    let line = first.description
    guard let marker = line.split(separator: ":").last(where: { $0.contains(" at ") && $0.first?.isUppercase == true })
    else { return line.hasPrefix("Error: ") ? String(line.dropFirst(7)) : line }
    return String(marker.prefix { $0 != " " })
  }
}

/// The end of a connection without `close_notify` (RFC 8446 section 6.1).
enum TLSEnd {
  static func isUnclean(_ error: any Error) -> Bool { error as? NIOSSLError == .uncleanShutdown }
}
