import Testing

@testable import HTTP1

@Suite struct HTTP1Tests {}
