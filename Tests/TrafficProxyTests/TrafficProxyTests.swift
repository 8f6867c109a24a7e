import Testing

@testable import TrafficProxy

@Suite struct TrafficProxyTests {}
