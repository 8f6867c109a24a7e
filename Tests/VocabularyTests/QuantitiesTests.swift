import Testing

@testable import Vocabulary

@Suite struct QuantitiesTests {
  @Test(arguments: [
    ("250ms", Duration.milliseconds(250)), ("5s", .seconds(5)), ("2m", .seconds(120)), ("1h", .seconds(3600)),
    ("0", .zero), ("0s", .zero),
  ])
  func durations(text: String, duration: Duration) { #expect(DurationText.parse(text) == duration) }

  @Test(arguments: ["", "5", "s", "5 s", "1.5s", "-1s", "5S", "5sec", "99999999999s", "9223372036854775808s", "٣s"])
  func notDurations(text: String) { #expect(DurationText.parse(text) == nil) }

  @Test(arguments: ["0s", "1ms", "1500ms", "59s", "1m", "90s", "1h", "25h"])
  func durationsAreWrittenShort(text: String) throws {
    let duration = try #require(DurationText.parse(text))
    #expect(DurationText.format(duration) == text)
  }

  @Test(arguments: [("0", 0), ("7", 7), ("7B", 7), ("64KiB", 65536), ("1MiB", 1 << 20), ("1GiB", 1 << 30)])
  func sizes(text: String, bytes: Int) { #expect(ByteCountText.parse(text) == bytes) }

  @Test(arguments: ["", "MiB", "1MB", "1 MiB", "1.5MiB", "-1", "9223372036854775807KiB", "99999999999999999999"])
  func notSizes(text: String) { #expect(ByteCountText.parse(text) == nil) }

  @Test(arguments: [0, 1, 1023, 1024, 1 << 20, 5 << 20, 3 << 30, (1 << 30) + 1])
  func sizesSurviveWriting(bytes: Int) { #expect(ByteCountText.parse(ByteCountText.format(bytes)) == bytes) }
}
