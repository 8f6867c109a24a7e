import Testing
import Traffic

/// When the bypass begins, is spoken of, and ends.
@Suite struct BypassTests {
  @Test func itIsSaidEveryThirtySecondsAndEndsByItself() {
    var bypass = BypassSwitch()
    #expect(bypass.nextDeadline == nil && bypass.tick(at: .seconds(1)) == [])
    #expect(bypass.turnOn(for: .seconds(75), at: .seconds(100)) == [.begin, .warn(left: .seconds(75))])
    var said: [(Duration, [BypassSwitch.Action])] = []
    while let next = bypass.nextDeadline {
      #expect(bypass.tick(at: next - .milliseconds(1)) == [])
      said.append((next, bypass.tick(at: next)))
    }
    #expect(said.map(\.0) == [.seconds(130), .seconds(160), .seconds(175)])
    #expect(said.map(\.1) == [[.warn(left: .seconds(45))], [.warn(left: .seconds(15))], [.end(expired: true)]])
    #expect(bypass.until == nil)
  }

  @Test func aSecondCommandSetsTheTimeAnew() {
    var bypass = BypassSwitch()
    _ = bypass.turnOn(for: .seconds(10), at: .zero)
    #expect(bypass.turnOn(for: .seconds(60), at: .seconds(5)) == [.warn(left: .seconds(60))])
    #expect(bypass.tick(at: .seconds(10)) == [] && bypass.until == .seconds(65))
    #expect(bypass.turnOff() == [.end(expired: false)])
    #expect(bypass.turnOff() == [])
  }

  @Test func nobodyLeavesItOnForLongerThanADay() {
    var bypass = BypassSwitch()
    _ = bypass.turnOn(for: .seconds(1_000_000), at: .zero)
    #expect(bypass.until == BypassSwitch.longest)
  }
}
