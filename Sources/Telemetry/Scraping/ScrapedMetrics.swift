/// Metrics of another program, read from the Prometheus text exposition format, version 0.0.4
/// (https://prometheus.io/docs/instrumenting/exposition_formats/). Strict: one malformed line refuses the whole, as
/// Prometheus does. Names, labels and values stay as they are written.
package struct ScrapedMetrics: Sendable {
  /// Samples of one scrape.
  package static let maximumSamples = 100_000
  /// Bytes of one line.
  package static let longestLine = 64 << 10

  /// Why a text is no exposition.
  package struct Malformed: Error, Equatable, CustomStringConvertible {
    package var line: Int
    package var reason: String
    package var description: String { "line \(line): \(reason)" }
  }

  struct Sample: Sendable {
    /// What follows the family's name: nothing, `_bucket`, `_sum`, `_count`.
    var suffix: Substring.UTF8View
    /// Between the braces, without a comma at the end; empty when there are none.
    var labels: Substring.UTF8View
    /// The value, and the time when there is one.
    var value: Substring.UTF8View
  }

  struct Family: Sendable {
    var name: String
    var kind = "untyped"
    var help: Substring?
    var samples: [Sample] = []
  }

  package private(set) var count = 0
  private(set) var families: [Family] = []

  package init(_ text: String) throws(Malformed) {
    var reader = Reader()
    var number = 0
    for line in text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false) {
      number += 1
      do throws(Fault) {
        try reader.read(line.last == 0x0D ? line.dropLast() : line)
      } catch {
        throw Malformed(line: number, reason: error.reason)
      }
    }
    families = reader.families
    count = reader.count
  }

  struct Fault: Error { var reason: String }

  private struct Reader {
    var families: [Family] = []
    var count = 0
    private var places: [String: Int] = [:]
    private var seen: Set<Substring> = []

    mutating func read(_ line: Substring.UTF8View) throws(Fault) {
      guard line.count <= ScrapedMetrics.longestLine else {
        throw Fault(reason: "longer than \(ScrapedMetrics.longestLine) bytes")
      }
      let line = Self.trimmed(line)
      guard let first = line.first else { return }
      if first == 0x23 { return try comment(line) }
      try sample(line)
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    private static func trimmed(_ line: Substring.UTF8View) -> Substring.UTF8View {
      var line = line
      while let first = line.first, isSpace(first) { line = line.dropFirst() }
      while let last = line.last, isSpace(last) { line = line.dropLast() }
      return line
    }

    private mutating func place(_ name: String) -> Int {
      if let place = places[name] { return place }
      places[name] = families.count
      families.append(Family(name: name))
      return families.count - 1
    }

    private mutating func comment(_ line: Substring.UTF8View) throws(Fault) {
      let parts = line.dropFirst().split(maxSplits: 2, whereSeparator: Self.isSpace)
      guard let word = parts.first.map({ String(Substring($0)) }), word == "TYPE" || word == "HELP" else { return }
      guard parts.count >= 2, ScrapedMetrics.isName(parts[1]) else { throw Fault(reason: "# \(word) without a name") }
      let name = String(Substring(parts[1]))
      let index = place(name)
      if word == "HELP" {
        families[index].help = parts.count > 2 ? Substring(parts[2]) : ""
        return
      }
      let kind = parts.count > 2 ? String(Substring(parts[2])) : ""
      guard ["counter", "gauge", "histogram", "summary", "untyped"].contains(kind) else {
        throw Fault(reason: "`\(name)` has the unknown type `\(kind.prefix(40))`")
      }
      guard families[index].samples.isEmpty, families[index].kind == "untyped" else {
        throw Fault(reason: "the type of `\(name)` is told twice, or after a sample")
      }
      families[index].kind = kind
    }

    private mutating func sample(_ line: Substring.UTF8View) throws(Fault) {
      var rest = line
      let name = rest.prefix { ScrapedMetrics.isNameByte($0) }
      guard ScrapedMetrics.isName(name) else { throw Fault(reason: "no metric's name") }
      rest = rest[name.endIndex...]
      while let first = rest.first, Self.isSpace(first) { rest = rest.dropFirst() }
      var labels = rest.prefix(0)
      if rest.first == 0x7B {
        labels = try Self.labels(&rest)
        while let first = rest.first, Self.isSpace(first) { rest = rest.dropFirst() }
      }
      let words = rest.split(maxSplits: 3, whereSeparator: Self.isSpace)
      guard words.count == 1 || words.count == 2, ScrapedMetrics.isValue(words[0]),
        words.count == 1 || Int64(String(Substring(words[1]))) != nil
      else { throw Fault(reason: "no value and time stand behind `\(Substring(name.prefix(80)))`") }
      count += 1
      guard count <= ScrapedMetrics.maximumSamples else {
        throw Fault(reason: "more than \(ScrapedMetrics.maximumSamples) samples")
      }
      guard seen.insert(Substring(line[name.startIndex..<rest.startIndex])).inserted else {
        throw Fault(reason: "`\(Substring(name.prefix(80)))` with the same labels stands twice")
      }
      let (family, suffix) = belongs(name)
      families[family].samples.append(Sample(suffix: suffix, labels: labels, value: rest))
    }

    /// `name_bucket` belongs to the histogram `name`.
    private mutating func belongs(_ name: Substring.UTF8View) -> (Int, Substring.UTF8View) {
      let text = String(Substring(name))
      if places[text] == nil {
        for suffix in ["_bucket", "_sum", "_count"] where text.hasSuffix(suffix) {
          let base = String(text.dropLast(suffix.count))
          guard let place = places[base], ["histogram", "summary"].contains(families[place].kind) else { continue }
          return (place, name.suffix(suffix.utf8.count))
        }
      }
      return (place(text), name.suffix(0))
    }

    /// What stands between the braces, checked.
    private static func labels(_ rest: inout Substring.UTF8View) throws(Fault) -> Substring.UTF8View {
      rest = rest.dropFirst()
      let whole = rest
      let start = rest.startIndex
      var end = start
      func skip() { while let first = rest.first, isSpace(first) { rest = rest.dropFirst() } }
      while true {
        skip()
        if rest.first == 0x7D { break }
        let name = rest.prefix { ScrapedMetrics.isNameByte($0) && $0 != 0x3A }
        guard ScrapedMetrics.isName(name) else { throw Fault(reason: "a label has no name") }
        rest = rest[name.endIndex...]
        skip()
        guard rest.first == 0x3D else { throw Fault(reason: "a label has no `=`") }
        rest = rest.dropFirst()
        skip()
        guard rest.first == 0x22 else { throw Fault(reason: "a label's value is not in quotes") }
        rest = rest.dropFirst()
        while let byte = rest.first, byte != 0x22 {
          rest = rest.dropFirst()
          guard byte == 0x5C else { continue }
          guard let escaped = rest.first, [0x5C, 0x22, 0x6E].contains(escaped) else {
            throw Fault(reason: "a label's value has an unknown escape")
          }
          rest = rest.dropFirst()
        }
        guard rest.first == 0x22 else { throw Fault(reason: "a label's value is never closed") }
        rest = rest.dropFirst()
        end = rest.startIndex
        skip()
        if rest.first == 0x2C {
          rest = rest.dropFirst()
        } else if rest.first != 0x7D {
          throw Fault(reason: "the labels are never closed")
        }
      }
      rest = rest.dropFirst()
      return whole[start..<end]
    }
  }

  fileprivate static func isNameByte(_ byte: UInt8) -> Bool {
    (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte) || byte == 0x5F || byte == 0x3A
  }

  fileprivate static func isName(_ name: Substring.UTF8View) -> Bool {
    guard let first = name.first, !(0x30...0x39).contains(first) else { return false }
    return name.allSatisfy { isNameByte($0) }
  }

  fileprivate static func isValue(_ value: Substring.UTF8View) -> Bool {
    let text = String(Substring(value))
    if ["NaN", "+Inf", "-Inf", "Inf"].contains(text) { return true }
    guard text.utf8.count <= 64, let first = text.utf8.first,
      first == 0x2B || first == 0x2D || first == 0x2E
        || (0x30...0x39).contains(first)
    else { return false }
    return text.utf8.allSatisfy { (0x30...0x39).contains($0) || "+-.eE".utf8.contains($0) } && Double(text) != nil
  }
}

extension ScrapedMetrics {
  /// Appends what several programs tell. A family whose name is in `taken` gets `app_` in front; families of the same
  /// name and type become one, and of another type are left out. With several sources each sample is labelled `target`.
  package static func write(
    _ sources: [(target: String, metrics: ScrapedMetrics)], taken: Set<String>, to text: inout String
  ) {
    var names: [String] = []
    var merged: [String: (kind: String, help: Substring?, parts: [(label: String, samples: [Sample])])] = [:]
    for (target, metrics) in sources {
      let escaped = target.filter { $0 != "\"" && $0 != "\\" && $0 != "\n" }
      let label = sources.count > 1 ? "target=\"\(escaped)\"" : ""
      for family in metrics.families where !family.samples.isEmpty {
        if merged[family.name] == nil {
          names.append(family.name)
          merged[family.name] = (family.kind, family.help, [])
        }
        guard merged[family.name]?.kind == family.kind else { continue }
        merged[family.name]?.parts.append((label, family.samples))
      }
    }
    for name in names.sorted() {
      guard let family = merged[name] else { continue }
      var shown = name
      while taken.contains(shown) || shown != name && merged[shown] != nil { shown = "app_" + shown }
      if let help = family.help { text += "# HELP \(shown) \(help)\n" }
      text += "# TYPE \(shown) \(family.kind)\n"
      for (label, samples) in family.parts {
        for sample in samples {
          text += shown
          text += Substring(sample.suffix)
          if !sample.labels.isEmpty || !label.isEmpty {
            text += "{\(Substring(sample.labels))\(sample.labels.isEmpty || label.isEmpty ? "" : ",")\(label)}"
          }
          text += " "
          text += Substring(sample.value)
          text += "\n"
        }
      }
    }
  }
}
