import Testing

@testable import Resilience

@Suite struct ResilienceTests {}
