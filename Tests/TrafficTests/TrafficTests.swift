import Testing

@testable import Traffic

@Suite struct TrafficTests {}
