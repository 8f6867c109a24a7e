import Testing

@testable import Supervisor

@Suite struct SupervisorTests {}
