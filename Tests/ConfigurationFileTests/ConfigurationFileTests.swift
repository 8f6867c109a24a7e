import Testing

@testable import ConfigurationFile

@Suite struct ConfigurationFileTests {}
