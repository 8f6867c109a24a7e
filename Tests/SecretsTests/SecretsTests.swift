import Testing

@testable import Secrets

@Suite struct SecretsTests {}
