import Testing

@testable import Admin

@Suite struct AdminTests {}
