package import RegularExpressions

/// How lines of one stream become one record.
package struct MultilineConfiguration: Sendable, Equatable {
  package enum Joining: Sendable, Equatable {
    /// Stack traces of these languages.
    case traces(TraceLanguages)
    /// A record begins with a line that matches; what follows belongs to it.
    case start(RegularExpression)
  }
  package var joining: Joining
  /// A record that got no line for this long is whole.
  package var timeout: Duration = .seconds(1)
  package init(joining: Joining) { self.joining = joining }
}

/// Languages whose stack traces are known. `auto` in the configuration is all of them.
package struct TraceLanguages: OptionSet, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }
  package static let java = TraceLanguages(rawValue: 1)
  package static let python = TraceLanguages(rawValue: 2)
  package static let go = TraceLanguages(rawValue: 4)
  package static let ruby = TraceLanguages(rawValue: 8)
  package static let node = TraceLanguages(rawValue: 16)
  package static let dotnet = TraceLanguages(rawValue: 32)
  package static let php = TraceLanguages(rawValue: 64)
  package static let all: TraceLanguages = [.java, .python, .go, .ruby, .node, .dotnet, .php]

  package static let names: [(name: String, language: TraceLanguages)] = [
    ("auto", .all), ("java", .java), ("python", .python), ("go", .go), ("ruby", .ruby), ("node", .node),
    ("dotnet", .dotnet), ("php", .php),
  ]
}

/// Where a group of lines stands: what its next line may be.
package enum GroupState: UInt8, Sendable {
  /// Takes no line any more.
  case closed
  /// An ordinary line; a trace may follow.
  case plain
  /// An ordinary line that tells of trouble: the header of a trace may follow at the margin.
  case trouble
  /// Within a trace whose lines are indented.
  case trace
  /// Within a Python traceback: its frames are indented, the exception follows at the margin.
  case pythonFrames
  /// Behind the exception's line; a chained traceback may follow.
  case pythonEnd
  /// `panic: …`; the goroutines follow.
  case goPanic
  /// Within goroutines, whose functions stand at the margin.
  case goFrames
  /// Node's excerpt of the source; the error follows behind an empty line.
  case nodeSource
  /// Within PHP's `#0 …` frames.
  case phpFrames
  /// By expression: everything until the next start.
  case started
}

/// Decides line by line whether a group goes on. Pure; owned by one thread because of the expression's workspace.
package struct MultilineRule {
  /// Of a line, as many octets are shown to the expression.
  static let longestSubject = 16 << 10
  private let languages: TraceLanguages
  private let start: RegularExpression?
  private let workspace: MatchWorkspace?

  package init(_ joining: MultilineConfiguration.Joining) {
    switch joining {
    case .traces(let languages):
      self.languages = languages
      (start, workspace) = (nil, nil)
    case .start(let expression):
      languages = []
      start = expression
      workspace = MatchWorkspace(steps: 100_000)
    }
  }

  /// The state of a group that begins with this line.
  func begin(_ line: Bytes) -> GroupState {
    if start != nil { return .started }
    let first = line.first ?? 0
    // Nobody continues a JSON object.
    if first == 0x7B, line.last == 0x7D { return .closed }
    if languages.contains(.python), line.starts("Traceback (most recent call last):") { return .pythonFrames }
    if languages.contains(.go), line.starts("panic: ") || line.starts("fatal error: ") { return .goPanic }
    if languages.contains(.go), isGoroutine(line) { return .goFrames }
    if languages.contains(.node), isNodeLocation(line) { return .nodeSource }
    return LogLevel.find(inText: line) >= .warn ? .trouble : .plain
  }

  /// The group's state with this line in it; nil when the line begins another record.
  func next(_ state: GroupState, _ line: Bytes) -> GroupState? {
    if let start, let workspace {
      let head = line.part(0..<min(line.count, Self.longestSubject))
      if case .missed = start.match(head, workspace) { return .started }
      return nil
    }
    switch state {
    case .closed, .started: return nil
    case .plain, .trouble, .trace: return afterLine(state, line)
    case .pythonFrames:
      if line.isIndented || line.isEmpty { return .pythonFrames }
      return .pythonEnd
    case .pythonEnd:
      if line.isEmpty || line.isIndented || isPythonChain(line) { return .pythonEnd }
      return line.starts("Traceback (most recent call last):") ? .pythonFrames : nil
    case .goPanic:
      if isGoroutine(line) || line.starts("runtime stack:") { return .goFrames }
      return line.isEmpty || line.isIndented || line.starts("[signal ") || line.starts("panic: ") ? .goPanic : nil
    case .goFrames: return isGoFrame(line) ? .goFrames : nil
    case .nodeSource:
      if line.isIndented || line.isEmpty || line.starts("^") { return .nodeSource }
      return isErrorHeader(line) || line.starts("Thrown at:") || line.starts("node:") ? .trace : afterLine(.plain, line)
    case .phpFrames:
      if line.isIndented || isNumberedFrame(line) || line.starts("Stack trace:") || line.starts("PHP   ") {
        return .phpFrames
      }
      return line.isEmpty || line.starts("Next ") ? .phpFrames : nil
    }
  }

  private func afterLine(_ state: GroupState, _ line: Bytes) -> GroupState? {
    if languages.contains(.python) {
      if state == .trouble, line.starts("Traceback (most recent call last):") { return .pythonFrames }
      if line.starts("  File \"") { return .pythonFrames }
      if line.starts("  + Exception Group Traceback") { return .pythonEnd }
    }
    if languages.contains(.go), isGoroutine(line) { return .goFrames }
    if languages.contains(.php), state != .trace,
      line.starts("Stack trace:") || line.starts("PHP Stack trace:") || line.starts("#0 ")
    {
      return .phpFrames
    }
    if line.isIndented, !languages.isDisjoint(with: [.java, .dotnet, .node, .ruby]) { return .trace }
    if languages.contains(.ruby), isRubyFrame(line) { return .trace }
    if languages.contains(.java), line.starts("Caused by: ") || line.starts("Suppressed: ") { return .trace }
    if languages.contains(.dotnet), line.starts("--- End of ") { return .trace }
    if languages.contains(.node), state == .trace, line.isEmpty || line.equals("}") || line.starts("Node.js v") {
      return .trace
    }
    // The log line that tells of the failure, and behind it the failure itself, as Logback and console.error write it.
    if state == .trouble, !languages.isDisjoint(with: [.java, .node, .dotnet]), isErrorHeader(line) { return .trace }
    return nil
  }

  private func isPythonChain(_ line: Bytes) -> Bool {
    line.starts("During handling of the above exception,") || line.starts("The above exception was the direct cause of")
  }

  /// `goroutine 1 [running]:`
  private func isGoroutine(_ line: Bytes) -> Bool {
    guard line.starts("goroutine "), line.count > 11, line[10].isDigit else { return false }
    return line.last == 0x3A && line.firstOffset(of: 0x5B) != nil
  }

  private func isGoFrame(_ line: Bytes) -> Bool {
    if line.isEmpty || line.isIndented || isGoroutine(line) { return true }
    if line.starts("created by ") || line.starts("...additional frames elided") || line.starts("runtime stack:") {
      return true
    }
    // `main.(*Server).handle(0xc0000, {0x1, 0x2})`: a qualified name, then parentheses to the end.
    guard line.last == 0x29, let open = line.firstOffset(of: 0x28), open > 0 else { return false }
    let name = line.part(0..<open)
    return name.firstOffset(of: 0x2E) != nil && name.firstOffset(of: 0x20) == nil
  }

  /// `app.rb:10:in 'method'`; the quote before the name was a backtick until Ruby 3.4.
  private func isRubyFrame(_ line: Bytes) -> Bool {
    guard line.last == 0x27, line.count < 4096 else { return false }
    for index in 1..<max(1, line.count - 5) where line[index] == 0x3A {
      if line.part(index..<index + 5).equals(":in `") || line.part(index..<index + 5).equals(":in '") {
        return line[index - 1].isDigit
      }
    }
    return false
  }

  /// `/srv/app.js:10`, `node:internal/modules:1080`, and nothing behind it.
  private func isNodeLocation(_ line: Bytes) -> Bool {
    guard line.count < 1024, line.starts("/") || line.starts("node:") || line.starts("file://") else { return false }
    var end = line.count
    while end > 0, line[end - 1].isDigit { end -= 1 }
    return end < line.count && end > 0 && line[end - 1] == 0x3A && line.firstOffset(of: 0x20) == nil
  }

  /// `#12 /srv/app.php(5): run()`
  private func isNumberedFrame(_ line: Bytes) -> Bool {
    line.count > 2 && line[0] == 0x23 && line[1].isDigit
  }

  /// `java.lang.IllegalStateException: …`, `TypeError [CODE]: …`, `Unhandled exception. System.…`
  private func isErrorHeader(_ line: Bytes) -> Bool {
    if line.starts("Exception in thread ") || line.starts("Unhandled exception. ") || line.starts("Uncaught ") {
      return true
    }
    var end = 0
    while end < line.count, line[end].isNameOctet || line[end] == 0x2E || line[end] == 0x24 { end += 1 }
    guard end > 0,
      end == line.count || line[end] == 0x3A || (line[end] == 0x20 && end + 1 < line.count && line[end + 1] == 0x5B)
    else { return false }
    let name = line.part(0..<end)
    return name.ends("Exception") || name.ends("Error") || name.ends("Throwable")
  }
}

extension UnsafeRawBufferPointer {
  /// True when the bytes begin with the ASCII text.
  func starts(_ text: StaticString) -> Bool {
    count >= text.utf8CodeUnitCount && part(0..<text.utf8CodeUnitCount).equals(text)
  }

  /// True when the bytes end with the ASCII text.
  func ends(_ text: StaticString) -> Bool {
    count >= text.utf8CodeUnitCount && part(count - text.utf8CodeUnitCount..<count).equals(text)
  }

  var isIndented: Bool { first == 0x20 || first == 0x09 }
}

extension UInt8 {
  var isDigit: Bool { self &- 0x30 <= 9 }
  var isNameOctet: Bool { isDigit || self == 0x5F || (0x61...0x7A).contains(self | 0x20) }
}
