/// What ends a connection: each is answered with GOAWAY and the code that RFC 9113 names.
package enum ConnectionProblem: UInt8, Error, Sendable, Equatable, CaseIterable {
  case invalidPreface, settingsNotFirst
  case frameTooLarge, frameSize, streamZero, streamNotZero, pushPromise, invalidPadding, selfDependency
  case idleStream, closedStream, wrongStreamID, interruptedBlock, unexpectedContinuation
  case invalidSetting, windowSettingTooLarge, unaskedAcknowledgement
  case zeroIncrement, windowOverflow, windowExceeded
  case compression
  case blockTooLarge, listTooLarge, tooManyContinuations, tooManyFrames, tooManyResets
  case settingsTimeout, headTimeout
  case goAwayIncreased

  package var code: ErrorCode {
    switch self {
    case .frameTooLarge, .frameSize: .frameSizeError
    case .closedStream: .streamClosed
    case .windowSettingTooLarge, .windowOverflow, .windowExceeded: .flowControlError
    case .compression: .compressionError
    case .blockTooLarge, .listTooLarge, .tooManyContinuations, .tooManyFrames, .tooManyResets: .enhanceYourCalm
    case .settingsTimeout: .settingsTimeout
    case .headTimeout: .enhanceYourCalm
    default: .protocolError
    }
  }

  /// What was wrong, for the debug data of GOAWAY and for records.
  package var reason: StaticString {
    switch self {
    case .invalidPreface: "the connection preface is not valid"
    case .settingsNotFirst: "the first frame is not SETTINGS"
    case .frameTooLarge: "a frame is larger than SETTINGS_MAX_FRAME_SIZE"
    case .frameSize: "a frame's length does not fit its type"
    case .streamZero: "a frame of a stream names stream 0"
    case .streamNotZero: "a frame of the connection names a stream"
    case .pushPromise: "PUSH_PROMISE, but push is off"
    case .invalidPadding: "the padding is as long as the payload or longer"
    case .selfDependency: "a stream depends on itself"
    case .idleStream: "a frame for a stream that was never opened"
    case .closedStream: "a frame for a stream that is closed"
    case .wrongStreamID: "a stream identifier that its sender may not open"
    case .interruptedBlock: "a field block is interrupted by another frame"
    case .unexpectedContinuation: "CONTINUATION without a field block in progress"
    case .invalidSetting: "a setting's value is not valid"
    case .windowSettingTooLarge: "SETTINGS_INITIAL_WINDOW_SIZE is larger than 2^31-1"
    case .unaskedAcknowledgement: "a SETTINGS acknowledgement for nothing"
    case .zeroIncrement: "WINDOW_UPDATE by 0"
    case .windowOverflow: "a flow-control window is larger than 2^31-1"
    case .windowExceeded: "more DATA than the connection's window allows"
    case .compression: "a field block cannot be decoded"
    case .blockTooLarge: "a field block is larger than the limit"
    case .listTooLarge: "a field list is larger than four times the limit"
    case .tooManyContinuations: "a field block has too many CONTINUATION frames"
    case .tooManyFrames: "too many frames that carry nothing"
    case .tooManyResets: "too many streams reset"
    case .settingsTimeout: "SETTINGS were not acknowledged in time"
    case .headTimeout: "a preface or field block was not completed in time"
    case .goAwayIncreased: "GOAWAY raises the last stream identifier"
    }
  }
}
