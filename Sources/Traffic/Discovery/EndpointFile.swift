/// Why a file of endpoints cannot be used: place, problem and way out, as a person reads it.
package struct EndpointFileProblem: Error, Sendable, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}

/// Makes endpoints of the content of a file; `path` is for messages.
package typealias EndpointFileDecoder =
  @Sendable (_ content: [UInt8], _ path: String) -> Result<[EndpointConfiguration], EndpointFileProblem>
