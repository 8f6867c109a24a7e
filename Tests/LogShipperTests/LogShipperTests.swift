import Testing

@testable import LogShipper

@Suite struct LogShipperTests {}
