/// Why a head or a body's framing was refused. Each is final: the connection cannot be used any more.
package enum HeadError: Error, Sendable, Equatable, CaseIterable {
  case bareLineFeed, bareCarriageReturn, controlOctet
  case invalidMethod, invalidTarget, invalidVersion, unsupportedVersion, invalidStatus
  case invalidFieldName, whitespaceBeforeColon, foldedField
  case invalidContentLength, differingContentLengths, lengthAndTransferEncoding
  case unknownTransferCoding, transferEncodingInHTTP10
  case missingHost, invalidHost
  case invalidConnection
  case headTooLarge, tooManyFields
  case invalidChunkSize, chunkTooLarge, invalidChunkExtension, chunkExtensionTooLong, invalidChunkEnd
  case invalidTrailer, trailerTooLarge

  /// The status that a server answers with (RFC 9110 section 15.5, RFC 6585 section 5).
  package var status: Int {
    switch self {
    case .headTooLarge, .tooManyFields: 431
    case .unsupportedVersion: 505
    default: 400
    }
  }

  /// What was wrong, for the error's body and the `details` of `Proxy-Status`.
  package var reason: String {
    switch self {
    case .bareLineFeed: "a line of the head ends with LF alone instead of CR LF"
    case .bareCarriageReturn: "a CR without LF in the head"
    case .controlOctet: "a control octet (such as NUL) in a field value"
    case .invalidMethod: "the method is not a token"
    case .invalidTarget: "the request target is not valid"
    case .invalidVersion: "the protocol version is not HTTP/1.0 or HTTP/1.1"
    case .unsupportedVersion: "only HTTP/1.0 and HTTP/1.1 are spoken here"
    case .invalidStatus: "the status line is not valid"
    case .invalidFieldName: "a field name is not a token"
    case .whitespaceBeforeColon: "whitespace between a field name and its colon"
    case .foldedField: "a folded field line (obs-fold)"
    case .invalidContentLength: "Content-Length is not a decimal number that fits in 63 bits"
    case .differingContentLengths: "Content-Length is given twice with different values"
    case .lengthAndTransferEncoding: "both Content-Length and Transfer-Encoding are given"
    case .unknownTransferCoding: "a transfer coding other than a single `chunked`"
    case .transferEncodingInHTTP10: "Transfer-Encoding in an HTTP/1.0 message"
    case .missingHost: "an HTTP/1.1 request without a Host field"
    case .invalidHost: "the Host field is not valid or given twice"
    case .invalidConnection: "the Connection field is not a list of tokens"
    case .headTooLarge: "the head is larger than the limit"
    case .tooManyFields: "the head has more fields than the limit"
    case .invalidChunkSize: "a chunk size is not a hexadecimal number"
    case .chunkTooLarge: "a chunk size does not fit in 60 bits"
    case .invalidChunkExtension: "a chunk extension holds a control octet"
    case .chunkExtensionTooLong: "chunk extensions are longer than the limit"
    case .invalidChunkEnd: "a chunk does not end with CR LF"
    case .invalidTrailer: "a trailer field is not valid"
    case .trailerTooLarge: "the trailers are larger than 16 KiB"
    }
  }
}

/// How large a head may be.
package struct HeadLimits: Sendable {
  package var bytes: Int
  package var fields: Int
  package init(bytes: Int = 64 << 10, fields: Int = 100) {
    self.bytes = bytes
    self.fields = fields
  }
}
