/// Which end of a connection this is.
package enum HTTP2Role: Sendable, Equatable { case server, client }

/// What one connection allows its peer, and what it takes for itself. Times are nanoseconds.
package struct HTTP2Limits: Sendable {
  /// Streams that the peer may have open at once.
  package var concurrentStreams = 100
  /// Streams that we open at once, if the peer allows that many (client).
  package var openedStreams = 1024
  /// Octets of DATA that the peer may send ahead of what was drained: for a stream (SETTINGS_INITIAL_WINDOW_SIZE) and
  /// for the connection (at least 65,535, RFC 9113 section 6.9.2).
  package var streamWindow = 256 << 10
  package var connectionWindow = 1 << 20
  /// SETTINGS_HEADER_TABLE_SIZE, and the most that our own encoder uses.
  package var decoderTable = 4096
  package var encoderTable = 4096
  /// Octets of one field block in all its frames; its list is limited by the workspace.
  package var blockOctets = 80 << 10
  /// CONTINUATION frames of one field block.
  package var continuations = 32
  /// Offer extended CONNECT (RFC 8441; server).
  package var extendedConnect = true
  /// Until the preface and the first SETTINGS are there, and until a begun field block is complete.
  package var headTime: UInt64 = 10_000_000_000
  /// Until our SETTINGS are acknowledged.
  package var settingsTime: UInt64 = 10_000_000_000
  /// How long a stream may wait for the peer's window before `stalled` is reported; 0 = for ever.
  package var stallTime: UInt64 = 60_000_000_000
  /// From the first GOAWAY of a graceful end to the last, if the peer does not answer.
  package var goAwayTime: UInt64 = 1_000_000_000

  /// Frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM and DATA for closed streams,
  /// empty DATA, unknown types): this many at once, and this many more each second. DATA and heads give some back.
  package var idleFrames = 2000
  package var idleFramesPerSecond = 200
  /// Streams that are reset by the peer, or by us because of what it sent, before they are complete: this many at
  /// once, and this many more each second (CVE-2023-44487, CVE-2025-8671). Streams that end well give some back.
  package var resets = 400
  package var resetsPerSecond = 40

  package init() {}
}
