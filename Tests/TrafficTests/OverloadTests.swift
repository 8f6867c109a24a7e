import Testing
import Traffic

/// When load is shed for want of memory; with real limits: `test_limits.py`.
@Suite struct OverloadTests {
  @Test func eachLevelEndsBelowWhereItBegan() {
    var pressure = MemoryPressure()
    var levels: [MemoryPressure.Level] = []
    for share in [0.5, 0.89, 0.90, 0.86, 0.95, 0.97, 0.93, 0.915, 0.86, 0.84, 0.89, 0.99, 0.2] {
      let before = pressure.level
      #expect(pressure.take(share: share) == (pressure.level != before))
      levels.append(pressure.level)
    }
    #expect(
      levels == [
        .calm, .calm, .high, .high, .high, .critical, .critical, .high, .high, .calm, .calm, .critical, .calm,
      ])
  }

  @Test func filePagesAreNotInUse() {
    let usage = MemoryLimits.group(
      limit: "1000\n", current: "900\n", statistics: "anon 200\ninactive_file 400\nactive_file 100\n")
    #expect(usage == MemoryLimits.Usage(used: 400, limit: 1000))
    // Version 1 counts the groups below it in the totals.
    let old = MemoryLimits.group(
      limit: "1000\n", current: "900\n", statistics: "inactive_file 1\ntotal_inactive_file 300\ntotal_active_file 50\n")
    #expect(old == MemoryLimits.Usage(used: 550, limit: 1000))
    #expect(MemoryLimits.group(limit: "max\n", current: "9\n", statistics: "") == nil)
    #expect(MemoryLimits.group(limit: "9223372036854771712\n", current: "9\n", statistics: "") == nil)
    #expect(MemoryLimits.group(limit: "0\n", current: "9\n", statistics: "") == nil)
    #expect(MemoryLimits.group(limit: "10", current: "", statistics: "") == nil)
  }

  @Test func whereTheGroupsAre() {
    let found = MemoryLimits.groups("4:memory:/a/b\n3:cpu,cpuacct:/x\n0::/pod/c\nbad\n")
    #expect(found.unified == ["/pod/c", "/pod", ""] && found.memory == ["/a/b", "/a", ""])
    #expect(MemoryLimits.groups("0::/\n").unified == [""])
    #expect(MemoryLimits.groups("0::" + String(repeating: "/a", count: 40)).unified.count == 16)
  }

  @Test func sizesAndLimitsOfAProcess() {
    let limits = """
      Limit                     Soft Limit           Hard Limit           Units
      Max data size             unlimited            unlimited            bytes
      Max address space         4294967296           unlimited            bytes
      """
    #expect(MemoryLimits.limit("Max address space", in: limits) == 4_294_967_296)
    #expect(MemoryLimits.limit("Max data size", in: limits) == nil)
    #expect(MemoryLimits.size("VmSize", in: "Name:\tx\nVmSize:\t  100 kB\n") == 102_400)
    #expect(MemoryLimits.size("VmData", in: "VmSize: 1 kB") == nil)
  }
}
