import Traffic
import Vocabulary

/// What a single value must look like, and what to say when it does not.
extension Leaf {
  struct Refusal {
    var message: String
    var wayOut: String
  }

  /// Whether `${secrets.…}` may stand here.
  var takesSecrets: Bool { if case .secretText = self { true } else { false } }

  /// nil = fine. `text` is expanded; `shown` is how it is written, for messages.
  func refusal(_ text: String, shown: String) -> Refusal? {
    switch self {
    case .text, .secretText, .recordText:
      text.utf8.contains(0) ? Refusal(message: "the text holds a NUL character", wayOut: "remove `\\0`") : nil
    case .duration, .interval: durationRefusal(shown, text)
    case .size: sizeRefusal(shown, text)
    case .integer(let range):
      Int(text).map(range.contains) == true
        ? nil
        : Refusal(
          message: "`\(shown)` is not a whole number",
          wayOut: "write one from \(range.lowerBound) to \(range.upperBound)")
    case .fraction:
      FractionText.parse(text) != nil
        ? nil
        : Refusal(
          message: "`\(shown)` is not a fraction", wayOut: "write a number from 0 to 1, for example `0.1`, or `10%`")
    case .boolean:
      text == "true" || text == "false"
        ? nil : Refusal(message: "`\(shown)` is neither `true` nor `false`", wayOut: "write `true` or `false`")
    case .choice(let words, let planned): choiceRefusal(text, shown, words, planned)
    case .word(let words, let other):
      words.contains(text) ? nil : other.refusal(text, shown: shown).map { $0.or(words) }
    case .address:
      Address(text) == nil
        ? Refusal(
          message: "`\(shown)` is not an address",
          wayOut: Int(text) != nil ? "did you mean `:\(shown)`?" : "write `host:port`, `:port` or `unix:/absolute/path`"
        )
        : nil
    default: textRefusal(text, shown)
    }
  }

  private func textRefusal(_ text: String, _ shown: String) -> Refusal? {
    switch self {
    case .path:
      text.isEmpty || text.contains("\0") ? Refusal(message: "a path is missing", wayOut: "write a file's path") : nil
    case .url:
      Endpoint(url: text) == nil || text.hasPrefix("tcp:")
        ? Refusal(message: "`\(shown)` is not a URL", wayOut: "write `http://host:port` or `https://host:port`") : nil
    case .target: text.isEmpty ? Refusal(message: "a target is missing", wayOut: targetHelp) : nil
    case .signal:
      SignalName.number(text) == nil
        ? Refusal(
          message: "`\(shown)` is not a signal",
          wayOut: Suggestion.nearest(to: text, among: SignalName.names).map { "did you mean `\($0)`?" }
            ?? "write a name such as `SIGTERM` or `SIGHUP`") : nil
    case .mode:
      (3...4).contains(text.count) && text.allSatisfy({ "01234567".contains($0) })
        ? nil : Refusal(message: "`\(shown)` is not a file mode", wayOut: "write it in octal, for example `\"0600\"`")
    case .headerName:
      HeaderName.isValid(text)
        ? nil : Refusal(message: "`\(shown)` is not a header field's name", wayOut: "use letters, digits and `-`")
    case .secretName: secretRefusal(text, shown)
    case .pathOrSecret:
      text.hasPrefix("secrets.")
        ? secretRefusal(text, shown)
        : text.isEmpty || text.contains("\0")
          ? Refusal(message: "a path is missing", wayOut: "write a file's path, or `secrets.NAME`") : nil
    case .peerName:
      PeerPattern(text) == nil
        ? Refusal(
          message: "`\(shown)` is not a peer's name",
          wayOut: "write `spiffe://domain/path`, `spiffe://domain/*`, `dns:name` or `dns:*.suffix`") : nil
    case .urlPath:
      text.hasPrefix("/") && !text.contains(where: { $0 == " " || $0 == "\r" || $0 == "\n" })
        ? nil : Refusal(message: "`\(shown)` is not a path", wayOut: "begin it with `/`, for example `/healthz`")
    default: nil
    }
  }

  private func secretRefusal(_ text: String, _ shown: String) -> Refusal? {
    let name = text.hasPrefix("secrets.") ? text.dropFirst("secrets.".count) : ""
    let isName =
      !name.isEmpty
      && name.allSatisfy { $0 == "_" || $0 == "-" || ($0.isASCII && ($0.isLetter || $0.isNumber)) }
    return isName
      ? nil : Refusal(message: "`\(shown)` does not name a secret", wayOut: "write `secrets.NAME`, without a field")
  }

  private var targetHelp: String { "write `app`, a cluster's name or `http://host:port`" }

  private func choiceRefusal(_ text: String, _ shown: String, _ words: [String], _ planned: [String]) -> Refusal? {
    if words.contains(text) { return nil }
    let list = words.map { "`\($0)`" }.joined(separator: ", ")
    if planned.contains(text) {
      return Refusal(
        message: "`\(shown)` is part of the contract but not in this version",
        wayOut: "use \(words.count > 1 ? "one of " : "")\(list)")
    }
    let near = Suggestion.nearest(to: text, among: words).map { "did you mean `\($0)`? " } ?? ""
    return Refusal(message: "`\(shown)` is not allowed here", wayOut: "\(near)allowed: \(list)")
  }

  /// Ten years: far from any overflow of nanoseconds.
  static let longest = Duration.seconds(87_600 * 3600)

  private func durationRefusal(_ shown: String, _ text: String) -> Refusal? {
    if let duration = DurationText.parse(text) {
      if duration > Self.longest { return Refusal(message: "`\(shown)` is too long", wayOut: "write at most `87600h`") }
      guard case .interval = self, duration == .zero else { return nil }
      return Refusal(message: "`\(shown)` is no time at all", wayOut: "write a longer one, for example `1s`")
    }
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let near: String? =
      switch text.dropFirst(digits.count).lowercased() {
      case "", "sec", "secs", "second", "seconds": "s"
      case "min", "mins", "minute", "minutes": "m"
      case "hour", "hours", "hr": "h"
      case "msec", "millis", "milliseconds": "ms"
      default: nil
      }
    let way = near.flatMap { digits.isEmpty ? nil : "did you mean `\(digits)\($0)`? " } ?? ""
    return Refusal(
      message: "`\(shown)` is not a duration",
      wayOut: way + "write a whole number and one of ms, s, m, h, for example `250ms`")
  }

  private func sizeRefusal(_ shown: String, _ text: String) -> Refusal? {
    if let bytes = ByteCountText.parse(text) {
      return bytes > 0 ? nil : Refusal(message: "`\(shown)` is no size", wayOut: "write at least `1`")
    }
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let near: String? =
      switch text.dropFirst(digits.count).lowercased() {
      case "k", "kb", "kib": "KiB"
      case "m", "mb", "mib": "MiB"
      case "g", "gb", "gib": "GiB"
      default: nil
      }
    let way = near.flatMap { digits.isEmpty ? nil : "did you mean `\(digits)\($0)`? " } ?? ""
    return Refusal(
      message: "`\(shown)` is not a size",
      wayOut: way + "write a whole number and one of B, KiB, MiB, GiB, for example `64KiB`")
  }
}

extension Leaf.Refusal {
  func or(_ words: [String]) -> Leaf.Refusal {
    Leaf.Refusal(message: message, wayOut: wayOut + ", or " + words.map { "`\($0)`" }.joined(separator: ", "))
  }
}

/// RFC 9110 section 5: what names and values of fields may hold.
enum HeaderName {
  static func isValid(_ text: String) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy { byte in
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
          || "!#$%&'*+-.^_`|~".utf8.contains(byte)
      }
  }

  static func isValidValue(_ text: String) -> Bool { text.utf8.allSatisfy { ($0 >= 0x20 && $0 != 0x7F) || $0 == 0x09 } }
}
