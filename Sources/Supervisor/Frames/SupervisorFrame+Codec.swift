extension SupervisorFrame {
  /// The kind byte and payload.
  var encoded: (kind: UInt8, payload: [UInt8]) {
    var writer = FrameWriter()
    let kind: UInt8
    switch self {
    case .bound(let id, let addresses):
      kind = 1
      writer.write(id)
      writer.write(addresses)
    case .bindFailed(let id, let address, let reason):
      kind = 2
      writer.write(id)
      writer.write(address)
      writer.write(reason)
    case .prepareApp: kind = 3
    case .appStarted(let pid, let restarts):
      kind = 4
      writer.write(pid)
      writer.write(restarts)
    case .appExited(let exit):
      kind = 5
      writer.write(exit)
    case .appReadyByDescriptor: kind = 6
    case .openInbound: kind = 7
    case .draining: kind = 8
    case .closeInbound(let timeout):
      kind = 9
      writer.write(timeout)
    case .finish(let timeout):
      kind = 10
      writer.write(timeout)
    case .reload: kind = 11
    case .state(let state):
      kind = 12
      writer.write(state)
    case .inherit(let inheritance):
      kind = 13
      writer.write(inheritance)
    case .handOver: kind = 14
    case .leave(let timeout):
      kind = 15
      writer.write(timeout)
    case .upgradeEnded(let outcome, let text):
      kind = 16
      writer.write(outcome.rawValue)
      writer.write(text)
    case .run(let facts):
      kind = 17
      writer.write(facts.version)
      writer.write(facts.generation)
      writer.write(facts.upgrades)
    }
    return (kind, writer.bytes)
  }

  init(kind: UInt8, payload: ArraySlice<UInt8>) throws(FrameError) {
    var reader = FrameReader(payload)
    switch kind {
    case 1: self = .bound(id: try reader.uint32(), addresses: try reader.addresses())
    case 2: self = .bindFailed(id: try reader.uint32(), address: try reader.address(), reason: try reader.string())
    case 3: self = .prepareApp
    case 4: self = .appStarted(pid: try reader.int32(), restarts: try reader.uint32())
    case 5: self = .appExited(try reader.processExit())
    case 6: self = .appReadyByDescriptor
    case 7: self = .openInbound
    case 8: self = .draining
    case 9: self = .closeInbound(timeout: try reader.duration())
    case 10: self = .finish(timeout: try reader.duration())
    case 11: self = .reload
    case 12: self = .state(try reader.state())
    case 13: self = .inherit(try reader.inheritance())
    case 14: self = .handOver
    case 15: self = .leave(timeout: try reader.duration())
    case 16: self = .upgradeEnded(try reader.outcome(), text: try reader.string())
    case 17:
      self = .run(
        RunFacts(version: try reader.string(), generation: try reader.uint32(), upgrades: try reader.upgrades()))
    default: throw FrameError("supervisor frame kind \(kind) is unknown")
    }
    try reader.finish()
  }
}

extension FrameWriter {
  fileprivate mutating func write(_ value: Inheritance) {
    write(value.appPID ?? 0)
    write(value.state)
    write(value.restarts)
    write(value.workerRestarts)
    write(UInt32(value.outputs.count))
    for pid in value.outputs { write(pid) }
    write(value.bound)
    write(value.listening)
    write(value.isHandedOver)
  }
}

extension FrameReader {
  fileprivate mutating func inheritance() throws(FrameError) -> Inheritance {
    let pid = try int32()
    let state = try state()
    let restarts = try uint32()
    let workerRestarts = try uint32()
    let count = try uint32()
    guard count <= 100 else { throw FrameError("more than 100 outputs") }
    var outputs: [Int32] = []
    for _ in 0..<count { outputs.append(try int32()) }
    return Inheritance(
      appPID: pid == 0 ? nil : pid, state: state, restarts: restarts, workerRestarts: workerRestarts,
      outputs: outputs, bound: try addresses(), listening: try addresses(), isHandedOver: try bool())
  }
}

extension FrameWriter {
  mutating func write(_ value: UpgradeCounts) {
    write(value.succeeded)
    write(value.failed)
    write(value.reverted)
  }
}

extension FrameReader {
  mutating func outcome() throws(FrameError) -> UpgradeOutcome {
    guard let outcome = UpgradeOutcome(rawValue: try byte()) else { throw FrameError("an outcome is unknown") }
    return outcome
  }

  mutating func upgrades() throws(FrameError) -> UpgradeCounts {
    var counts = UpgradeCounts()
    counts.succeeded = try uint32()
    counts.failed = try uint32()
    counts.reverted = try uint32()
    return counts
  }
}
