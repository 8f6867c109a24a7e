import Glibc
import Synchronization
import Telemetry

/// What the app's processes use, by the tree below the app's own and by its control group. Looked at when somebody asks,
/// at most every half second.
final class AppProcesses: Sendable {
  struct Sample: Sendable {
    var tree = ProcessTree(root: 0, [:])
    var descriptors = 0
    /// Nil where there is no control group of version 2.
    var groupMemory: Double?
    /// Nil without a limit.
    var groupMemoryLimit: Double?
    /// Microseconds.
    var groupCPU: Double?
    var groupThrottled: Double?
  }

  private let last = Mutex<(time: ContinuousClock.Instant, pid: Int32, sample: Sample)?>(nil)
  private let pid: @Sendable () -> Int32?

  /// `pid` is the app's process now; nil while there is none.
  init(_ metrics: MetricRegistry, pid: @escaping @Sendable () -> Int32?) {
    self.pid = pid
    let page = Double(sysconf(Int32(_SC_PAGESIZE)))
    let tick = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
    func read(
      _ name: String, _ kind: MetricRegistry.Kind, _ help: String, _ value: @escaping @Sendable (Sample) -> Double
    ) {
      metrics.read("outrider_app_" + name, kind, help) { [weak self] in self.map { value($0.now()) } ?? 0 }
    }
    read("processes", .gauge, "Processes of the app: its own and its descendants.") { Double($0.tree.processes) }
    read("threads", .gauge, "Threads of the app's processes.") { Double($0.tree.threads) }
    read("open_fds", .gauge, "Open descriptors of the app's processes.") { Double($0.descriptors) }
    read("resident_memory_bytes", .gauge, "Resident memory of the app's processes.") { Double($0.tree.resident) * page }
    read("cpu_seconds_total", .counter, "CPU time of the app's processes, children that ended included.") {
      Double($0.tree.ticks) / tick
    }
    read("cgroup_memory_bytes", .gauge, "Memory of the app's control group; 0 where there is none.") {
      $0.groupMemory ?? 0
    }
    read("cgroup_memory_limit_bytes", .gauge, "Its limit; 0 without one.") { $0.groupMemoryLimit ?? 0 }
    read("cgroup_cpu_seconds_total", .counter, "CPU time of the app's control group.") { ($0.groupCPU ?? 0) / 1e6 }
    read("cgroup_throttled_seconds_total", .counter, "Time for which the group's CPU limit held it up.") {
      ($0.groupThrottled ?? 0) / 1e6
    }
  }

  private func now() -> Sample {
    guard let pid = pid(), pid > 0 else { return Sample() }
    return last.withLock { last in
      let now = ContinuousClock.now
      if let last, last.pid == pid, now - last.time < .milliseconds(500) { return last.sample }
      let sample = Self.look(pid)
      last = (now, pid, sample)
      return sample
    }
  }

  private static func look(_ root: Int32) -> Sample {
    var all: [Int32: ProcessStat] = [:]
    for name in names("/proc") {
      guard let pid = Int32(name), let stat = text("/proc/\(name)/stat").flatMap({ ProcessStat($0) }) else { continue }
      all[pid] = stat
    }
    var sample = Sample()
    sample.tree = ProcessTree(root: root, all)
    for pid in sample.tree.members { sample.descriptors += names("/proc/\(pid)/fd").count }
    if let path = text("/proc/\(root)/cgroup").flatMap({ ControlGroup.path($0) }) {
      let group = "/sys/fs/cgroup" + path
      func number(_ file: String) -> Double? {
        text("\(group)/\(file)").flatMap { Double($0.prefix { !$0.isWhitespace }) }
      }
      sample.groupMemory = number("memory.current")
      sample.groupMemoryLimit = number("memory.max")
      let cpu = text("\(group)/cpu.stat") ?? ""
      sample.groupCPU = ControlGroup.value("usage_usec", in: cpu)
      sample.groupThrottled = ControlGroup.value("throttled_usec", in: cpu)
    }
    return sample
  }

  private static func names(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names
  }

  /// The beginning of a file, 16 KiB at most.
  static func text(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    let bytes = [UInt8](unsafeUninitializedCapacity: 16 << 10) { buffer, count in
      count = max(0, Glibc.read(descriptor, buffer.baseAddress, buffer.count))
    }
    return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
  }
}
