import ArgumentParser
import Glibc
import Interception
import Supervisor

/// Hands plans to `nft` and `ip`.
enum InterceptionDriver {
  static func apply(_ plan: InterceptionPlan) throws {
    let nft = try require("nft", package: "nftables")
    try check(run(nft, ["-f", "-"], input: plan.ruleset), "nft refused the rules")
    guard !plan.routing.isEmpty else { return }
    let ip = try require("ip", package: "iproute2")
    for family in ["-4", "-6"] {
      do {
        try check(run(ip, [family, "-batch", "-"], input: plan.routing), "ip refused the routing rules")
      } catch {
        try remove()
        throw error
      }
    }
  }

  /// Leaves nothing behind; nothing there is fine.
  static func remove() throws {
    let nft = try require("nft", package: "nftables")
    try check(run(nft, ["-f", "-"], input: InterceptionPlan.removal), "nft could not remove the table")
    guard let ip = find("ip") else { return }
    for family in ["-4", "-6"] {
      _ = run(ip, [family, "-force", "-batch", "-"], input: InterceptionPlan.routingRemoval)
    }
  }

  /// nil when there is no table.
  static func show(json: Bool) throws -> String? {
    let nft = try require("nft", package: "nftables")
    let table = InterceptionPlan.table.split(separator: " ").map(String.init)
    let result = run(nft, (json ? ["-j"] : []) + ["list", "table"] + table, input: "")
    if result.status != 0, result.errors.contains("No such file") { return nil }
    try check(result, "nft could not list the table")
    return result.output
  }

  // MARK: Programs

  private struct Result {
    var status: CInt
    var output: String
    var errors: String
  }

  private static func check(_ result: Result, _ what: String) throws {
    guard result.status != 0 else { return }
    let hint =
      geteuid() == 0 ? "" : "\nthis needs CAP_NET_ADMIN: run it as root, in the network namespace of the app"
    StandardError.write("outrider intercept: \(what):\n\(result.errors)\(hint)")
    throw ExitCode(77)
  }

  private static func require(_ name: String, package: String) throws -> String {
    if let path = find(name) { return path }
    StandardError.write("outrider intercept: there is no `\(name)` here: install the package `\(package)`")
    throw ExitCode(69)
  }

  private static func find(_ name: String) -> String? {
    let path = (ProcessFacts.environment["PATH"] ?? "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
    return path.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  /// Runs a program to its end. What it prints is small; files hold it, so that no pipe can fill.
  private static func run(_ path: String, _ arguments: [String], input: String) -> Result {
    guard let files = (0..<3).map({ _ in tmpfile() }) as? [UnsafeMutablePointer<FILE>] else {
      return Result(status: -1, output: "", errors: String(cString: strerror(errno)))
    }
    defer { for file in files { fclose(file) } }
    fputs(input, files[0])
    fflush(files[0])
    rewind(files[0])
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (index, file) in files.enumerated() { posix_spawn_file_actions_adddup2(&actions, fileno(file), CInt(index)) }
    var argv: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) }
    argv.append(nil)
    defer { for pointer in argv { free(pointer) } }
    var pid: pid_t = 0
    let failure = posix_spawn(&pid, path, &actions, nil, argv, environ)
    guard failure == 0 else { return Result(status: -1, output: "", errors: String(cString: strerror(failure))) }
    var status: CInt = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return Result(status: status, output: read(files[1]), errors: read(files[2]))
  }

  private static func read(_ file: UnsafeMutablePointer<FILE>) -> String {
    rewind(file)
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = fread(&chunk, 1, chunk.count, file)
      if count == 0 { return String(decoding: bytes, as: UTF8.self) }
      bytes += chunk[..<count]
    }
  }
}
