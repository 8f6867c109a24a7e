/// Why a message is malformed (RFC 9113 sections 8.1 to 8.5): an error of its stream, of type PROTOCOL_ERROR.
package enum MessageProblem: UInt8, Error, Sendable, Equatable, CaseIterable {
  case invalidName, invalidValue
  case unknownPseudoField, repeatedPseudoField, misplacedPseudoField, missingPseudoField
  case invalidMethod, invalidScheme, invalidPath, invalidAuthority, differingHost, invalidProtocol, invalidStatus
  case connectionSpecificField, invalidTE
  case invalidContentLength, contentLengthMismatch, unexpectedBody
  case trailersWithoutEnd, informationalWithEnd, dataBeforeHead
  case tooLarge

  /// What was wrong, for records and for the details of an answer.
  package var reason: StaticString {
    switch self {
    case .invalidName: "a field name is not a token in lower case"
    case .invalidValue: "a field value holds a control octet or begins or ends with white space"
    case .unknownPseudoField: "a pseudo-field that is not defined"
    case .repeatedPseudoField: "a pseudo-field is given twice"
    case .misplacedPseudoField: "a pseudo-field after a field, in trailers, or of the other direction"
    case .missingPseudoField: "a pseudo-field that the message needs is missing"
    case .invalidMethod: ":method is not a token"
    case .invalidScheme: ":scheme is neither http nor https"
    case .invalidPath: ":path is not valid"
    case .invalidAuthority: ":authority or host is not valid"
    case .differingHost: ":authority and host differ"
    case .invalidProtocol: ":protocol is not a token, or not offered here"
    case .invalidStatus: ":status is not a number of three digits, or 101"
    case .connectionSpecificField: "a connection-specific field"
    case .invalidTE: "te is not trailers"
    case .invalidContentLength: "content-length is not a number, or is given twice with different values"
    case .contentLengthMismatch: "content-length is not the length of the content"
    case .unexpectedBody: "content where there can be none"
    case .trailersWithoutEnd: "a second head that does not end the stream"
    case .informationalWithEnd: "an informational response that ends the stream"
    case .dataBeforeHead: "content before the head"
    case .tooLarge: "more fields than the limit"
    }
  }
}

/// What a head says beyond its octets. Valid until the next call of `next`.
package struct MessageFacts: Sendable, Equatable {
  /// The length that the head promises, or nil.
  package var contentLength: UInt64?
  /// A response's status, 100 to 999; 0 for a request.
  package var status = 0
  /// The request was sent to an https URI.
  package var isHTTPS = false
  /// `te: trailers` (RFC 9110 section 10.1.4).
  package var acceptsTrailers = false
  /// CONNECT without :protocol, or an answer that agrees to it: DATA frames are a tunnel's octets.
  package var isTunnel = false
  /// CONNECT with :protocol (RFC 8441), or an answer that agrees to it. The head is an Upgrade request or a 101.
  package var isExtendedConnect = false
  /// The names to keep never-indexed on the next hop.
  package var sensitive = SensitiveNames()

  package init() {}
}
