import ConfigurationFile
import Glibc
import Supervisor
import Telemetry
import Traffic
import Vocabulary

extension HostCheck {
  // MARK: Ports

  /// Whether the addresses can be had. Those of a running sidecar are its own.
  func ports(_ findings: inout Findings) {
    guard status == nil else { return }
    var addresses = (loaded.value.traffic.inbound + loaded.value.traffic.outbound).flatMap { listener in
      listener.listen.map { (owner: "\(listener.direction.rawValue).\(listener.name)", address: $0) }
    }
    if let admin = loaded.value.admin.listen { addresses.append(("admin", admin)) }
    var bad = 0
    for (owner, address) in addresses {
      guard let code = Self.bindError(address) else { continue }
      bad += 1
      let text = "\(owner) cannot listen on \(address): \(String(cString: strerror(code)))"
      let isDefault = owner == "admin" && !loaded.value.admin.isExplicit
      switch code {
      case EADDRINUSE where isDefault:
        findings.warning("ports", text, "health and metrics are on the control socket alone then; choose admin.listen")
      case EADDRINUSE:
        findings.error("ports", text, "end who listens there (`ss -ltnp`), or choose another port")
      case EACCES:
        findings.error(
          "ports", text,
          "choose a port above 1023, or allow it: `setcap cap_net_bind_service+ep`, or sysctl net.ipv4.ip_unprivileged_port_start"
        )
      case EADDRNOTAVAIL:
        findings.error("ports", text, "this machine has no such address: correct `listen`")
      default: findings.error("ports", text, "correct `listen`")
      }
    }
    if bad == 0 { findings.ok("ports", "all \(addresses.count) addresses can be had") }
  }

  /// nil = it can be bound.
  private static func bindError(_ address: Address) -> CInt? {
    switch address {
    case .unix(let path):
      let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
      return access(parent.isEmpty ? "/" : parent, W_OK | X_OK) == 0 ? nil : errno
    case .tcp(let host, let port):
      guard port != 0 else { return nil }
      var v4 = sockaddr_in()
      v4.sin_family = sa_family_t(AF_INET)
      v4.sin_port = UInt16(clamping: port).bigEndian
      if host.isEmpty || inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host, &v4.sin_addr) == 1 {
        return tryBinding(v4, AF_INET)
      }
      var v6 = sockaddr_in6()
      v6.sin6_family = sa_family_t(AF_INET6)
      v6.sin6_port = v4.sin_port
      guard inet_pton(AF_INET6, host, &v6.sin6_addr) == 1 else { return EADDRNOTAVAIL }
      return tryBinding(v6, AF_INET6)
    }
  }

  private static func tryBinding(_ name: some Any, _ family: CInt) -> CInt? {
    let descriptor = socket(family, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return errno }
    defer { close(descriptor) }
    var one: CInt = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
    let result = withUnsafeBytes(of: name) { bytes -> CInt in
      guard let base = bytes.baseAddress else { return -1 }
      return bind(descriptor, base.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
    }
    return result == 0 ? nil : errno
  }

  // MARK: Limits

  /// Those of the worker that runs, where this machine shows it, else those that a new one would have.
  func limits(_ findings: inout Findings) {
    var process = "self"
    if let pid = status?.pid, access("/proc/\(pid)/limits", R_OK) == 0 { process = "\(pid)" }
    let files = AppProcesses.text("/proc/\(process)/limits").flatMap(Self.openFiles) ?? .max
    if files < Self.leastDescriptors {
      findings.warning(
        "limits", "\(files) open files are allowed: enough for some \(files / 2) connections at a time",
        "raise it: `ulimit -n 65536`, LimitNOFILE= of the unit, or the container's nofile")
    } else {
      findings.ok("limits", files == .max ? "open files are not limited" : "\(files) open files are allowed")
    }
    guard let path = AppProcesses.text("/proc/\(process)/cgroup").flatMap({ ControlGroup.path($0) }) else { return }
    group("/sys/fs/cgroup" + path, &findings)
  }

  private func group(_ directory: String, _ findings: inout Findings) {
    func number(_ file: String) -> Double? {
      AppProcesses.text("\(directory)/\(file)").flatMap { Double($0.prefix { !$0.isWhitespace }) }
    }
    if let limit = number("memory.max") {
      let used = number("memory.current") ?? 0
      let text = "\(Int(used) >> 20) of \(Int(limit) >> 20) MiB of memory are in use"
      if limit < Self.leastMemory {
        findings.warning(
          "limits", text, "give the group at least \(Int(Self.leastMemory) >> 20) MiB (memory.max) beside its app")
      } else if used > limit * 0.9 {
        findings.warning("limits", text, "raise memory.max, or limit connections (limits.connections of the listeners)")
      } else {
        findings.ok("limits", text)
      }
    }
    if let limit = number("pids.max"), limit - (number("pids.current") ?? 0) < Self.leastTasks {
      findings.warning(
        "limits", "\(Int(number("pids.current") ?? 0)) of \(Int(limit)) processes and threads are in use",
        "raise pids.max (TasksMax= of the unit): the app or a new worker may not start")
    }
  }

  /// The soft limit in `/proc/PID/limits`; nil = unlimited.
  private static func openFiles(_ text: String) -> UInt64? {
    let line = text.split(separator: "\n").first { $0.hasPrefix("Max open files") }
    return line?.dropFirst(14).split(separator: " ").first.flatMap { UInt64($0) }
  }
}
