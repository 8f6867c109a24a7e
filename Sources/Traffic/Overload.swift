/// How close memory is to its limit, and what is turned away therefore. A value without I/O; each level begins at one share
/// and ends at a lower one, so that it does not flicker.
package struct MemoryPressure: Sendable, Equatable {
  package enum Level: UInt8, Sendable, CaseIterable {
    /// Everything is served.
    case calm
    /// New inbound requests are turned away; what they would need, those in progress may still need.
    case high
    /// New outbound requests too.
    case critical
  }

  /// Shares of the limit from which on, and below which no longer, a level holds.
  package static let bounds: [(level: Level, from: Double, until: Double)] = [
    (.critical, 0.96, 0.92), (.high, 0.90, 0.85),
  ]

  package private(set) var level = Level.calm

  package init() {}

  /// Takes what is used of the limit, as a share of it; true when the level is another one now.
  package mutating func take(share: Double) -> Bool {
    let before = level
    level = .calm
    for (level, from, until) in Self.bounds where share >= from || (before.rawValue >= level.rawValue && share >= until)
    {
      self.level = level
      break
    }
    return level != before
  }
}

/// What the kernel's files say of memory and its limits.
package enum MemoryLimits {
  /// Octets; `limit` above 0.
  package struct Usage: Sendable, Equatable {
    package var used: Double
    package var limit: Double
    package var share: Double { used / limit }
    package init(used: Double, limit: Double) {
      self.used = used
      self.limit = limit
    }
  }

  /// Of a control group: all that the kernel could not give back by dropping file pages. Version 2:
  /// `memory.max`, `memory.current`, `memory.stat`; version 1: `memory.limit_in_bytes`, `memory.usage_in_bytes`,
  /// `memory.stat`. nil = no limit.
  package static func group(limit: String, current: String, statistics: String) -> Usage? {
    // Version 1 says "none" by a number near 2^63.
    guard let limit = number(limit), limit > 0, limit < 1e18, let current = number(current) else { return nil }
    var files = 0.0
    var totals: Double?
    for line in statistics.split(separator: "\n") {
      let parts = line.split(separator: " ")
      guard parts.count == 2, let value = Double(parts[1]) else { continue }
      switch parts[0] {
      case "inactive_file", "active_file": files += value
      case "total_inactive_file", "total_active_file": totals = (totals ?? 0) + value
      default: break
      }
    }
    return Usage(used: max(0, current - (totals ?? files)), limit: limit)
  }

  /// A size in `/proc/PID/status`, in octets.
  package static func size(_ name: String, in status: String) -> Double? {
    field(name + ":", in: status).flatMap { Double($0) }.map { $0 * 1024 }
  }

  /// A soft limit in `/proc/PID/limits`, in octets; nil = unlimited.
  package static func limit(_ name: String, in limits: String) -> Double? {
    field(name, in: limits).flatMap { Double($0) }
  }

  /// The first word behind that beginning of a line.
  private static func field(_ name: String, in text: String) -> Substring? {
    let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
    return line?.dropFirst(name.utf8.count).split { $0 == " " || $0 == "\t" }.first
  }

  /// Where a process' group is, by `/proc/PID/cgroup`: directories below `/sys/fs/cgroup`, the own one first, then its
  /// parents, for version 2 and for the memory controller of version 1.
  package static func groups(_ text: String) -> (unified: [String], memory: [String]) {
    var unified: [String] = []
    var memory: [String] = []
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3, parts[2].hasPrefix("/") else { continue }
      if parts[0] == "0" { unified = ancestors(parts[2]) }
      if parts[1].split(separator: ",").contains("memory") { memory = ancestors(parts[2]) }
    }
    return (unified, memory)
  }

  /// `/a/b` → `/a/b`, `/a`, ``; at most 16.
  private static func ancestors(_ path: Substring) -> [String] {
    var parts = path.split(separator: "/")
    var all: [String] = []
    while all.count < 16 {
      all.append(parts.map { "/" + $0 }.joined())
      if parts.popLast() == nil { break }
    }
    return all
  }

  private static func number(_ text: String) -> Double? { Double(text.prefix { !$0.isWhitespace }) }
}
