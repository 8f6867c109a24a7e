extension WorkerFrame {
  /// The kind byte and payload.
  var encoded: (kind: UInt8, payload: [UInt8]) {
    var writer = FrameWriter()
    let kind: UInt8
    switch self {
    case .hello(let version):
      kind = 1
      writer.write(version)
    case .plan(let policy):
      kind = 2
      writer.write(policy)
    case .bind(let id, let addresses):
      kind = 3
      writer.write(id)
      writer.write(addresses)
    case .listen(let id):
      kind = 4
      writer.write(id)
    case .unbind(let addresses):
      kind = 5
      writer.write(addresses)
    case .waiting(let subject):
      kind = 6
      writer.write(subject)
    case .secretsReady: kind = 7
    case .outboundReady: kind = 8
    case .startApp(let spec):
      kind = 9
      writer.write(spec)
    case .appReady(let ready, let reason):
      kind = 10
      writer.write(ready)
      writer.write(reason)
    case .actionSignal(let number):
      kind = 11
      writer.write(number)
    case .actionRestart: kind = 12
    case .inboundDrained: kind = 13
    case .flushed: kind = 14
    case .fatal(let exitCode):
      kind = 15
      writer.write(exitCode)
    case .quit: kind = 16
    case .reloaded: kind = 17
    case .upgrade(let binary, let timeout):
      kind = 18
      writer.write(binary)
      writer.write(timeout)
    case .checked(let product):
      kind = 19
      writer.write(product)
    case .serving: kind = 20
    }
    return (kind, writer.bytes)
  }

  init(kind: UInt8, payload: ArraySlice<UInt8>) throws(FrameError) {
    var reader = FrameReader(payload)
    switch kind {
    case 1: self = .hello(version: try reader.uint32())
    case 2: self = .plan(try reader.policy())
    case 3: self = .bind(id: try reader.uint32(), addresses: try reader.addresses())
    case 4: self = .listen(id: try reader.uint32())
    case 5: self = .unbind(try reader.addresses())
    case 6: self = .waiting(for: try reader.string())
    case 7: self = .secretsReady
    case 8: self = .outboundReady
    case 9: self = .startApp(try reader.spec())
    case 10: self = .appReady(try reader.bool(), reason: try reader.string())
    case 11: self = .actionSignal(try reader.signal())
    case 12: self = .actionRestart
    case 13: self = .inboundDrained
    case 14: self = .flushed
    case 15: self = .fatal(exitCode: try reader.int32())
    case 16: self = .quit
    case 17: self = .reloaded
    case 18: self = .upgrade(binary: try reader.string(), timeout: try reader.duration())
    case 19: self = .checked(product: try reader.string())
    case 20: self = .serving
    default: throw FrameError("worker frame kind \(kind) is unknown")
    }
    try reader.finish()
  }
}

extension FrameWriter {
  mutating func write(_ policy: AppPolicy) {
    write(policy.hasApp)
    write(policy.restart.rawValue)
    write(policy.stopSignal)
    write(policy.stopGrace)
    write(policy.drainDelay)
    write(policy.drainTimeout)
    write(policy.deadline)
  }

  fileprivate mutating func write(_ spec: AppSpec) {
    write(spec.arguments)
    write(spec.environment)
    write(spec.workingDirectory)
    write(spec.user)
    write(spec.group)
    write(spec.readyDescriptor)
  }
}

extension FrameReader {
  fileprivate mutating func signal() throws(FrameError) -> Int32 {
    let number = try int32()
    guard (1...64).contains(number) else { throw FrameError("signal \(number) is out of range 1...64") }
    return number
  }

  mutating func policy() throws(FrameError) -> AppPolicy {
    let hasApp = try bool()
    guard let restart = AppConfiguration.Restart(rawValue: try string()) else {
      throw FrameError("a restart policy is unknown")
    }
    return AppPolicy(
      hasApp: hasApp, restart: restart, stopSignal: try signal(), stopGrace: try duration(),
      drainDelay: try duration(), drainTimeout: try duration(), deadline: try duration())
  }

  fileprivate mutating func spec() throws(FrameError) -> AppSpec {
    let spec = AppSpec(
      arguments: try strings(), environment: try strings(), workingDirectory: try optionalString(),
      user: try optionalString(), group: try optionalString(), readyDescriptor: try bool())
    guard !spec.arguments.isEmpty else { throw FrameError("a command is empty") }
    return spec
  }
}
