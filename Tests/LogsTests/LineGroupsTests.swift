import Logs
import RegularExpressions
import Testing

/// Shows a text to the groups as a source would: what is not safe is shown again, with what has come since.
struct GroupSource {
  let groups: LineGroups
  var memory = GroupMemory()
  var text: [UInt8] = []
  var position = 0
  var clock: Int64 = 0
  var records: [(text: String, stream: LogStream?, time: Int64?, isCut: Bool)] = []

  init?(
    _ envelope: Envelope = .none, _ joining: MultilineConfiguration.Joining? = nil, timeout: Duration = .seconds(1),
    limit: Int = 1 << 20
  ) {
    var multiline = joining.map { MultilineConfiguration(joining: $0) }
    multiline?.timeout = timeout
    guard let groups = LineGroups(envelope: envelope, multiline: multiline, limit: limit) else { return nil }
    self.groups = groups
  }

  mutating func look(final: Bool = false) {
    text.withUnsafeBytes { bytes in
      let all = UnsafeRawBufferPointer(rebasing: bytes[position...])
      let region = final ? all : all.part(0..<(all.lastOffset(of: 0x0A) ?? -1) + 1)
      groups.scan(region, at: UInt64(position), now: clock, final: final, &memory)
      for index in groups.groups.indices where groups.groups[index].isWhole {
        let group = groups.groups[index]
        records.append((groups.text(index, of: region).text, group.stream, group.time, group.isCut))
        groups.ship(index)
      }
      groups.store()
      let safe = groups.reach(region.count)
      groups.finish(safe, at: UInt64(position), &memory)
      position += safe
    }
  }

  mutating func write(_ more: String) {
    text += Array(more.utf8)
    look()
  }
}

@Suite struct LineGroupsTests {
  /// Each trace with the line before and the line after it, as one text: what must come out are three records.
  static let traces: [(language: String, trace: String)] = [
    (
      "java",
      """
      Exception in thread "main" java.lang.IllegalStateException: Could not fetch
      \tat com.example.shop.Orders.fetch(Orders.java:42)
      \tat com.example.shop.Main.main(Main.java:11)
      Caused by: java.net.ConnectException: Connection refused (Connection refused)
      \tat java.base/java.net.PlainSocketImpl.socketConnect(Native Method)
      \t... 2 more
      """
    ),
    (
      "java",
      """
      2026-01-31 12:00:00,123 ERROR [main] c.e.shop.Orders - order 17 failed
      java.lang.RuntimeException: no stock
      \tat com.example.shop.Orders.reserve(Orders.java:80)
      \tSuppressed: java.io.IOException: close failed
      \t\tat com.example.shop.Orders.close(Orders.java:99)
      Caused by: java.lang.NullPointerException
      \tat com.example.shop.Stock.take(Stock.java:7)
      \t... 1 common frames omitted
      """
    ),
    (
      "python",
      """
      Traceback (most recent call last):
        File "/srv/app.py", line 3, in parse
          return int(text)
                 ^^^^^^^^^
      ValueError: invalid literal for int() with base 10: 'x'

      During handling of the above exception, another exception occurred:

      Traceback (most recent call last):
        File "/srv/app.py", line 9, in <module>
          parse("x")
      RuntimeError: cannot parse
      """
    ),
    (
      "python",
      """
      ERROR:root:order failed
      Traceback (most recent call last):
        File "/srv/app.py", line 3, in <module>
          1 / 0
      ZeroDivisionError: division by zero
      """
    ),
    (
      "go",
      """
      panic: runtime error: invalid memory address or nil pointer dereference
      [signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x45f7a1]

      goroutine 1 [running]:
      main.(*Server).handle(0x0, {0xc000012345, 0x1})
      \t/srv/main.go:17 +0x1d
      main.main()
      \t/srv/main.go:9 +0x25

      goroutine 6 [select]:
      net/http.(*persistConn).writeLoop(0xc0000b2000)
      \t/usr/local/go/src/net/http/transport.go:2421 +0xe5
      created by net/http.(*Transport).dialConn in goroutine 1
      \t/usr/local/go/src/net/http/transport.go:1777 +0x16d1
      """
    ),
    (
      "ruby",
      """
      app.rb:2:in 'Integer#/': divided by 0 (ZeroDivisionError)
      \tfrom app.rb:2:in 'Object#half'
      \tfrom app.rb:5:in '<main>'
      """
    ),
    (
      "ruby",
      """
      ActionController::RoutingError (No route matches [GET] "/x"):
      actionpack (7.0) lib/action_dispatch/middleware/debug_exceptions.rb:31:in `call'
      railties (7.0) lib/rails/rack/logger.rb:40:in `call_app'
      """
    ),
    (
      "node",
      """
      /srv/app.js:3
        throw new TypeError('no such order');
        ^

      TypeError: no such order
          at find (/srv/app.js:3:9)
          at Object.<anonymous> (/srv/app.js:6:1) {
        code: 'E_ORDER'
      }

      Node.js v20.11.1
      """
    ),
    (
      "dotnet",
      """
      Unhandled exception. System.InvalidOperationException: order failed
       ---> System.ArgumentException: no stock
         at Shop.Stock.Take() in /srv/Stock.cs:line 7
         --- End of inner exception stack trace ---
         at Shop.Program.Main() in /srv/Program.cs:line 11
      """
    ),
    (
      "php",
      """
      PHP Fatal error:  Uncaught Exception: no stock in /srv/app.php:3
      Stack trace:
      #0 /srv/app.php(7): take()
      #1 {main}
        thrown in /srv/app.php on line 3
      """
    ),
  ]

  static func language(_ name: String) throws -> TraceLanguages {
    try #require(TraceLanguages.names.first { $0.name == name }).language
  }

  @Test(arguments: traces.indices, [false, true]) func traceIsOneRecord(_ index: Int, isAuto: Bool) throws {
    let (name, trace) = Self.traces[index]
    let language = try Self.language(isAuto ? "auto" : name)
    var source = try #require(GroupSource(.none, .traces(language)))
    source.write("started\n" + trace + "\nstopped\n")
    source.look(final: true)
    #expect(source.records.map(\.text) == ["started", trace, "stopped"], "\(name)")
  }

  /// The same groups whatever was there when the source looked.
  @Test(arguments: traces.indices) func traceThatComesInPieces(_ index: Int) throws {
    let trace = Self.traces[index].trace
    let text = Array(("first\n" + trace + "\n" + trace + "\nlast\n").utf8)
    var random = SystemRandomNumberGenerator()
    for _ in 0..<20 {
      var source = try #require(GroupSource(.none, .traces(.all)))
      var at = 0
      while at < text.count {
        let end = min(text.count, at + Int.random(in: 1...120, using: &random))
        source.write(String(decoding: text[at..<end], as: UTF8.self))
        at = end
      }
      source.look(final: true)
      let twice = source.records.map(\.text)
      #expect(twice.joined(separator: "\n") + "\n" == String(decoding: text, as: UTF8.self))
      #expect(twice.first == "first" && twice.last == "last")
    }
  }

  @Test func ordinaryLinesStayApart() throws {
    var source = try #require(GroupSource(.none, .traces(.all)))
    let lines = [
      "started", "GET /x 200", "ERROR cannot connect", "trying again", "a: b", "level=info msg=x", "#1 topic", "",
    ]
    source.write(lines.map { $0 + "\n" }.joined())
    source.look(final: true)
    #expect(source.records.map(\.text) == lines)
  }

  @Test func jsonDoesNotWait() throws {
    var source = try #require(GroupSource(.none, .traces(.all)))
    source.write("{\"a\":1}\n")
    #expect(source.records.map(\.text) == ["{\"a\":1}"] && !source.memory.isHeld)
  }

  @Test func aGroupIsWholeAfterItsTimeout() throws {
    var source = try #require(GroupSource(.none, .traces(.java), timeout: .milliseconds(300)))
    source.write("boom\n\tat a.b(C.java:1)\n")
    #expect(source.records.isEmpty && source.memory.isHeld && source.position == 0)
    source.clock = 299_999_999
    source.write("\tat a.d(C.java:2)\n")
    source.clock += 299_999_999
    source.look()
    #expect(source.records.isEmpty, "its last line is not old enough")
    source.clock += 1
    source.look()
    #expect(source.records.map(\.text) == ["boom\n\tat a.b(C.java:1)\n\tat a.d(C.java:2)"])
    #expect(source.position == source.text.count && !source.memory.isHeld)
  }

  @Test func startByExpression() throws {
    let start = try RegularExpression("^\\d{4}-\\d\\d-\\d\\d ")
    var source = try #require(GroupSource(.none, .start(start)))
    source.write("tail of something\n2026-01-31 a\n  b\nc\n\n2026-01-31 d\r\ne\r\n")
    source.look(final: true)
    #expect(source.records.map(\.text) == ["tail of something", "2026-01-31 a\n  b\nc\n", "2026-01-31 d\ne"])
  }

  @Test func anExpressionThatWouldSearchForEver() throws {
    let start = try RegularExpression("^(a+)+$")
    var source = try #require(GroupSource(.none, .start(start)))
    source.write(String(repeating: "a", count: 5000) + "!\nb\n")
    source.look(final: true)
    #expect(source.records.map(\.text.count).reduce(0, +) + source.records.count == source.text.count)
  }

  @Test func aGroupIsCutAtTheLimit() throws {
    var source = try #require(GroupSource(.none, .traces(.java), limit: 64))
    let frame = "\tat com.example.Frame(Frame.java:100)"
    source.write("boom\n" + String(repeating: frame + "\n", count: 5) + "next\n")
    source.look(final: true)
    #expect(source.records.map(\.isCut) == [true, true, true, true, false, false])
    #expect(source.records.map(\.text).joined(separator: "\n") + "\n" == String(decoding: source.text, as: UTF8.self))
    #expect(source.records.allSatisfy { $0.text.utf8.count <= 64 } && source.records.last?.text == "next")
  }

  static let cri = """
    2026-01-31T12:00:00.000000001Z stdout P one 
    2026-01-31T12:00:00.000000002Z stderr F error
    2026-01-31T12:00:00.000000003Z stdout P two 
    2026-01-31T12:00:00.000000004+00:00 stdout F three
    2026-01-31T12:00:00.000000005Z stdout F 
    2026-01-31T12:00:00.000000006Z stderr F:x tagged
    nonsense
    2026-01-31T12:00:00Z nowhere F x

    """

  @Test func criLinesAreOpenedAndJoined() throws {
    var source = try #require(GroupSource(.cri))
    source.write(Self.cri)
    source.look(final: true)
    let noon: Int64 = 1_769_860_800_000_000_000
    #expect(
      source.records.map(\.text) == [
        "one two three", "error", "", "tagged", "nonsense", "2026-01-31T12:00:00Z nowhere F x",
      ]
        || source.records.map(\.text) == [
          "error", "one two three", "", "tagged", "nonsense", "2026-01-31T12:00:00Z nowhere F x",
        ])
    let whole = try #require(source.records.first { $0.text == "one two three" })
    #expect(whole.stream == .stdout && whole.time == noon + 1)
    #expect(source.records.last?.stream == nil && source.records.last?.time == nil)
  }

  /// One stream waits, the other goes on; nothing comes twice and the position stays before what waits.
  @Test func streamsOfOneFileDoNotMix() throws {
    var source = try #require(GroupSource(.cri, .traces(.java)))
    func line(_ stream: String, _ text: String) -> String { "2026-01-31T12:00:00Z \(stream) F \(text)\n" }
    source.write(line("stdout", "boom"))
    source.write(line("stderr", "{\"n\":1}") + line("stdout", "\tat a"))
    source.write(line("stderr", "{\"n\":2}"))
    #expect(source.records.map(\.text) == ["{\"n\":1}", "{\"n\":2}"] && source.position == 0)
    source.write(line("stdout", "\tat b") + line("stderr", "{\"n\":3}") + line("stdout", "next"))
    source.look(final: true)
    #expect(source.records.map(\.text) == ["{\"n\":1}", "{\"n\":2}", "boom\n\tat a\n\tat b", "{\"n\":3}", "next"])
    #expect(source.position == source.text.count)
  }

  @Test func dockerLines() throws {
    var source = try #require(GroupSource(.docker, .traces(.python)))
    source.write(
      #"{"log":"a \"quoted\" ","stream":"stdout","time":"2026-01-31T12:00:00.5Z"}"# + "\n"
        + #"{"log":"line\u0021\r\n","stream":"stdout","time":"2026-01-31T12:00:01Z"}"# + "\n"
        + #"{"log":"Traceback (most recent call last):\n","stream":"stderr","time":"2026-01-31T12:00:01Z"}"# + "\n"
        + #"{"log":"  File \"x.py\", line 1\n","stream":"stderr","time":"2026-01-31T12:00:01Z"}"# + "\n"
        + #"{"log":"ValueError\n","stream":"stderr","time":"2026-01-31T12:00:01Z"}"# + "\n")
    source.look(final: true)
    #expect(
      source.records.map(\.text) == [
        "a \"quoted\" line!\r", "Traceback (most recent call last):\n  File \"x.py\", line 1\nValueError",
      ])
    #expect(source.records.map(\.stream) == [.stdout, .stderr])
    #expect(source.records[0].time == 1_769_860_800_500_000_000)
  }
}
