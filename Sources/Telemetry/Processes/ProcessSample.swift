/// What `/proc/PID/stat` tells of a process (proc_pid_stat(5)).
package struct ProcessStat: Sendable, Equatable {
  package var parent: Int32
  /// Of the process and of the children it has waited for, in clock ticks.
  package var ticks: UInt64
  package var threads: Int
  /// In pages.
  package var resident: Int

  /// Nil when the text is none. The command's name may hold anything, parentheses too.
  package init?(_ text: String) {
    guard let close = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: close)...].split(separator: " ", maxSplits: 60)
    guard fields.count >= 22, let parent = Int32(fields[1]), let user = UInt64(fields[11]),
      let system = UInt64(fields[12]), let childUser = UInt64(fields[13]), let childSystem = UInt64(fields[14]),
      let threads = Int(fields[17]), let resident = Int(fields[21].split(separator: "\n").first ?? "")
    else { return nil }
    self.parent = parent
    ticks = user &+ system &+ childUser &+ childSystem
    self.threads = threads
    self.resident = resident
  }
}

/// A process and all its descendants, added up.
package struct ProcessTree: Sendable, Equatable {
  package var processes = 0
  package var ticks: UInt64 = 0
  package var threads = 0
  /// In pages.
  package var resident = 0
  package var members: [Int32] = []

  /// `all` is every process by its number.
  package init(root: Int32, _ all: [Int32: ProcessStat]) {
    var children: [Int32: [Int32]] = [:]
    for (pid, stat) in all where pid != root { children[stat.parent, default: []].append(pid) }
    var waiting = [root]
    var seen: Set<Int32> = []
    while let pid = waiting.popLast() {
      guard seen.insert(pid).inserted, let stat = all[pid] else { continue }
      processes += 1
      ticks &+= stat.ticks
      threads += stat.threads
      resident += stat.resident
      members.append(pid)
      waiting += children[pid] ?? []
    }
  }
}

/// Files of a control group, version 2 (Documentation/admin-guide/cgroup-v2.rst).
package enum ControlGroup {
  /// The group's path in `/proc/PID/cgroup`: the line that begins with `0::`.
  package static func path(_ text: String) -> String? {
    for line in text.split(separator: "\n") where line.hasPrefix("0::/") { return String(line.dropFirst(3)) }
    return nil
  }

  /// A number of a flat keyed file such as `cpu.stat`.
  package static func value(_ key: String, in text: String) -> Double? {
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: " ")
      if parts.count == 2, parts[0] == key { return Double(parts[1]) }
    }
    return nil
  }
}
