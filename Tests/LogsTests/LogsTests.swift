import Testing

@testable import Logs

@Suite struct LogsTests {}
