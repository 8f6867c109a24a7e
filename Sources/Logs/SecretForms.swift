import Vocabulary

/// The ways in which a secret value is written in a log. Nothing of them is left in memory.
enum SecretForms {
  static func patterns(of value: [UInt8]) -> Set<SecretPattern> {
    var value = value[...]
    while let last = value.last, last == 0x0A || last == 0x0D { value = value.dropLast() }
    guard value.count >= Redactor.minimumLength else { return [] }
    var forms = Found()
    forms.add(capacity: value.count) { $0.append(value) }
    forms.addJSON(value)
    forms.addPercent(value)
    forms.addBase64(value)
    let lines = value.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D })
    // The lines of a PEM file; its public first and last line stay readable.
    if lines.count > 1 {
      for line in lines where line.count >= 8 && !line.starts(with: [0x2D, 0x2D, 0x2D, 0x2D, 0x2D]) {
        forms.add(capacity: line.count) { $0.append(line) }
        forms.addJSON(line)
      }
    }
    return forms.patterns
  }

  private struct Found {
    var patterns: Set<SecretPattern> = []

    mutating func add(capacity: Int, _ write: (inout ErasingText) -> Void) {
      var form = ErasingText(capacity: capacity)
      write(&form)
      if let pattern = SecretPattern(form.bytes) { patterns.insert(pattern) }
      form.bytes.erase()
    }

    mutating func addJSON(_ value: ArraySlice<UInt8>) {
      guard value.withUnsafeBytes({ UTF8Text.isValid($0) }) else { return }
      var plain = ErasingText(capacity: value.count * 6)
      for byte in value { SecretForms.escape(byte, into: &plain) }
      let text = plain.bytes
      defer { text.erase() }
      add(capacity: text.count) { $0.append(text) }
      addSlashed(text)
      for upper in [false, true] {
        for html in [false, true] {
          add(capacity: text.count * 6) { SecretForms.escapeUnicode(text, html: html, upper: upper, into: &$0) }
        }
      }
    }

    /// With `/` as `\/`.
    mutating func addSlashed(_ text: [UInt8]) {
      guard text.contains(0x2F) else { return }
      add(capacity: text.count * 2) { form in
        for byte in text {
          if byte == 0x2F { form.append(0x5C) }
          form.append(byte)
        }
      }
    }

    mutating func addPercent(_ value: ArraySlice<UInt8>) {
      for upper in [true, false] {
        for (kept, plus) in SecretForms.percentStyles {
          let keep = Set(kept.utf8)
          let digits = Array((upper ? "0123456789ABCDEF" : "0123456789abcdef").utf8)
          add(capacity: value.count * 3) { form in
            for byte in value {
              let letter = (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
              if letter || keep.contains(byte) {
                form.append(byte)
              } else if plus, byte == 0x20 {
                form.append(0x2B)
              } else {
                form.append([0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]])
              }
            }
          }
        }
      }
    }

    mutating func addBase64(_ value: ArraySlice<UInt8>) {
      for alignment in 0..<3 {
        var padded = ErasingText(capacity: value.count + alignment)
        padded.append(repeatElement(0, count: alignment))
        padded.append(value)
        let text = Base64Text.encode(padded.bytes)
        padded.bytes.erase()
        defer { text.erase() }
        let first = (alignment * 8 + 5) / 6
        let end = (value.count + alignment) * 8 / 6
        guard end > first else { continue }
        add(capacity: end - first) { $0.append(text[first..<end]) }
        add(capacity: end - first) { form in
          for byte in text[first..<end] { form.append(byte == 0x2B ? 0x2D : byte == 0x2F ? 0x5F : byte) }
        }
        add(capacity: 2 * (end - first)) { form in
          for byte in text[first..<end] {
            if byte == 0x2F { form.append(0x5C) }
            form.append(byte)
          }
        }
      }
    }
  }

  /// What stays as it is besides letters and digits, and whether a space becomes `+`.
  private static let percentStyles: [(kept: String, plus: Bool)] = [
    ("-._~", false), ("-._~/", false), ("-._*", true), ("-._~!*'()", false),
    // Go, Python and Ruby; PHP; what leaves the parts of a URL alone.
    ("-._~", true), ("-._", true), ("-._~!*'();/?:@&=+$,#", false),
  ]

  /// RFC 8259 section 7.
  private static func escape(_ byte: UInt8, into form: inout ErasingText) {
    let short: UInt8? =
      switch byte {
      case 0x22, 0x5C: byte
      case 0x0A: UInt8(ascii: "n")
      case 0x0D: UInt8(ascii: "r")
      case 0x09: UInt8(ascii: "t")
      case 0x08: UInt8(ascii: "b")
      case 0x0C: UInt8(ascii: "f")
      default: nil
      }
    if let short {
      form.append([0x5C, short])
    } else if byte < 0x20 {
      form.append([
        0x5C, UInt8(ascii: "u"), 0x30, 0x30, JSONText.hexDigit(of: byte >> 4), JSONText.hexDigit(of: byte & 15),
      ])
    } else {
      form.append(byte)
    }
  }

  /// Non-ASCII, or `<>&` and nothing else, as `\uXXXX`.
  private static func escapeUnicode(_ text: [UInt8], html: Bool, upper: Bool, into form: inout ErasingText) {
    var octets = text.makeIterator()
    var decoder = UTF8()
    while case .scalarValue(let unit) = decoder.decode(&octets) {
      let special = unit == "<" || unit == ">" || unit == "&"
      if html ? !special : unit.isASCII {
        if let encoded = UTF8.encode(unit) { form.append(encoded) }
        continue
      }
      for half in UTF16.encode(unit) ?? UTF16.encodedReplacementCharacter {
        let hex = String(half, radix: 16, uppercase: upper)
        form.append(Array(("\\u" + String(repeating: "0", count: 4 - hex.utf8.count) + hex).utf8))
      }
    }
  }
}
