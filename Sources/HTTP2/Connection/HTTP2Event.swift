/// What `next` and `tick` report. An event that concerns a stream is to be dealt with before the next call.
package enum HTTP2Event: Sendable, Equatable {
  /// Nothing to do until more octets arrive.
  case needsInput
  /// The peer's SETTINGS took effect; the first ones complete its preface. Look at `openness` and, as after
  /// `writable`, at `nextWritable`.
  case settings
  /// A request opens a stream (server). Its head, in HTTP/1.1 form, is in the workspace.
  case request(StreamKey, endStream: Bool)
  /// A request opens a stream, and its head is over the limits (server): answer 431, or reset it.
  case oversizedRequest(StreamKey, endStream: Bool)
  /// A request was malformed and its stream reset; the driver has never heard of it (server).
  case rejected(MessageProblem)
  /// A 1xx response, which another head follows (client). Its head is in the workspace.
  case informational(StreamKey)
  /// The final response (client). Its head is in the workspace.
  case response(StreamKey, endStream: Bool)
  /// Trailers, which end the stream: field lines and an empty line are in the workspace.
  case trailers(StreamKey)
  /// Content: the next `count` octets of the input buffer. Read them, all of them, before the next call; tell
  /// `consumed` once they are drained. `count` may be 0 at the end of the stream.
  case data(StreamKey, count: Int, endStream: Bool)
  /// The stream is over, though not complete: by the peer's RST_STREAM or GOAWAY, or because of what it sent.
  case reset(StreamKey, ErrorCode, byPeer: Bool)
  /// A stream has waited for the peer's window for `stallTime`; the driver may reset it.
  case stalled(StreamKey)
  /// Windows have opened: `nextWritable` names the streams that can go on.
  case writable
  /// The peer answers a PING of ours.
  case pong(UInt64)
  /// The peer wants no more streams on this connection. The open ones go on.
  case goAway(ErrorCode)
  /// The connection is over, and every stream with it: send what was written, then close it. `problem` says why.
  case failed
}
