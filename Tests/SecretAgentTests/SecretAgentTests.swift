import Testing

@testable import SecretAgent

@Suite struct SecretAgentTests {}
