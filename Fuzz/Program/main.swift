import CFuzzer
import FuzzTargets
import Glibc

/// Runs libFuzzer on the target that FUZZ_TARGET names; every other argument is libFuzzer's.
let wanted = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
guard let target = FuzzTarget.all.first(where: { $0.name == wanted }) else {
  print("FUZZ_TARGET is none of: " + FuzzTarget.all.map(\.name).joined(separator: " "))
  exit(64)
}
/// A C function carries nothing along: what it runs is a global.
nonisolated(unsafe) let chosen = target.check

nonisolated(unsafe) var count = CommandLine.argc
nonisolated(unsafe) var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
exit(
  LLVMFuzzerRunDriver(&count, &arguments) { data, size in
    // An exact copy: reading past its end is noticed.
    if let complaint = chosen(UnsafeRawBufferPointer(start: data, count: size)) {
      let line = Array("\(complaint)\n".utf8)
      _ = write(STDERR_FILENO, line, line.count)
      abort()
    }
    return 0
  })
