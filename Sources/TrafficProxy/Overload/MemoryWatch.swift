import CLinux
import Logging
import NIOCore
import Synchronization
import Telemetry
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Follows the memory that is left under the limit of the control group or of the process, and sheds load before the
/// kernel ends somebody.
final class MemoryWatch: Sendable {
  private static let interval = Duration.milliseconds(250)
  /// Without a limit: how often one is looked for.
  private static let glance = Duration.seconds(10)
  /// Of the limit, what a connection may hold in each direction.
  private static let sharesPerConnection = 2048.0
  private static let leastWatermark = 16 << 10

  private let level = Atomic<UInt8>(0)
  private let task = Mutex<Task<Void, Never>?>(nil)
  private let metrics: MetricRegistry
  private let logger: Logger
  private let refused = Mutex<[Direction: Counter]>([:])

  init(_ metrics: MetricRegistry, _ logger: Logger) {
    self.metrics = metrics
    self.logger = logger
  }

  /// Whether a new request in that direction is turned away.
  @inline(__always)
  func sheds(_ direction: Direction) -> Bool {
    let level = level.load(ordering: .relaxed)
    return level > 0 && (direction == .inbound || level > 1)
  }

  /// Counts one that was; from its first use on there is a series.
  func countRefusal(_ direction: Direction) {
    refused.withLock { counters in
      let counter =
        counters[direction]
        ?? metrics.counter(
          "outrider_overload_refused_total", "Requests refused because memory was nearly used up.",
          [Label("direction", direction.rawValue)])
      counters[direction] = counter
      counter.add()
    }
  }

  /// What a connection may hold in each direction: less under a limit than what is configured.
  static func watermark(_ configured: Int) -> Int {
    guard let usage = usage() else { return configured }
    return min(configured, max(leastWatermark, Int(usage.limit / sharesPerConnection)))
  }

  func start() {
    let work = Task { [weak self] in
      var pressure = MemoryPressure()
      while !Task.isCancelled {
        guard let usage = Self.usage() else {
          // What is not known is no reason to refuse anybody.
          self?.level.store(MemoryPressure.Level.calm.rawValue, ordering: .relaxed)
          pressure = MemoryPressure()
          do { try await Task.sleep(for: Self.glance) } catch { return }
          continue
        }
        guard let self else { return }
        if pressure.take(share: usage.share) { self.tell(pressure.level, usage) }
        // What was freed goes back to the kernel, or it would seem to be in use.
        if pressure.level != .calm { outrider_trim_heap() }
        do { try await Task.sleep(for: Self.interval) } catch { return }
      }
    }
    task.withLock { $0 = work }
  }

  func stop() { task.withLock { $0?.cancel() } }

  private func tell(_ now: MemoryPressure.Level, _ usage: MemoryLimits.Usage) {
    level.store(now.rawValue, ordering: .relaxed)
    let text = "\(Int(usage.used) >> 20) of \(Int(usage.limit) >> 20) MiB of memory are in use"
    switch now {
    case .calm: logger.warning("\(text): new requests are served again")
    case .high: logger.warning("\(text): new inbound requests get 503 until there is room; raise the limit of memory")
    case .critical: logger.error("\(text): new requests get 503 until there is room; raise the limit of memory")
    }
  }

  // MARK: The kernel's files

  /// Of the limit that is nearest; nil = there is none.
  static func usage() -> MemoryLimits.Usage? {
    var all: [MemoryLimits.Usage] = []
    let (unified, memory) = MemoryLimits.groups(text("/proc/self/cgroup") ?? "")
    for path in unified {
      add(&all, "/sys/fs/cgroup" + path, limit: "memory.max", current: "memory.current")
    }
    for path in memory {
      add(&all, "/sys/fs/cgroup/memory" + path, limit: "memory.limit_in_bytes", current: "memory.usage_in_bytes")
    }
    if let limits = text("/proc/self/limits") {
      for (name, size) in [("Max address space", "VmSize"), ("Max data size", "VmData")] {
        guard let limit = MemoryLimits.limit(name, in: limits), let status = text("/proc/self/status"),
          let used = MemoryLimits.size(size, in: status)
        else { continue }
        all.append(.init(used: used, limit: limit))
      }
    }
    return all.max { $0.share < $1.share }
  }

  private static func add(_ all: inout [MemoryLimits.Usage], _ group: String, limit: String, current: String) {
    guard let limit = text("\(group)/\(limit)"), !limit.hasPrefix("max"), let current = text("\(group)/\(current)"),
      let usage = MemoryLimits.group(
        limit: limit, current: current, statistics: text("\(group)/memory.stat") ?? "")
    else { return }
    all.append(usage)
  }

  /// The beginning of a file, 16 KiB at most.
  private static func text(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    let bytes = [UInt8](unsafeUninitializedCapacity: 16 << 10) { buffer, count in
      count = max(0, read(descriptor, buffer.baseAddress, buffer.count))
    }
    return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
  }
}

extension ExchangeDriver {
  /// Turns a new exchange away while memory is short; true when it did.
  final func isShed() -> Bool {
    guard loop.shared.memory.sheds(listener.compiled.direction) else { return false }
    loop.shared.memory.countRefusal(listener.compiled.direction)
    exchange.keepsAlive = false
    localError(.overload, detail: "the sidecar has little memory left and takes no new requests")
    return true
  }
}
