/// Text as YAML and JSON write it.
enum PlainText {
  /// A JSON string.
  static func json(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      default:
        if scalar.value < 0x20 || scalar.value == 0x7F {
          let hex = String(scalar.value, radix: 16)
          result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }

  /// A YAML scalar of a flow or block context, quoted where plain text would mean something else.
  static func yaml(_ text: String) -> String {
    let special = ["", "~", "null", "Null", "NULL"].contains(text)
    let isPlain =
      !special
      && text.utf8.allSatisfy { byte in
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
          || "_-./+=$@;()^".utf8.contains(byte)
      } && !"-@=.+".contains(text.first ?? "-")
    return isPlain ? text : json(text)
  }

  /// At most 80 characters, without control characters.
  static func shown(_ text: String) -> String {
    let clean = text.prefix(80).filter { $0.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F } }
    return text.count > 80 ? clean + "…" : clean
  }
}

extension Leaf {
  /// A value that would do, for messages.
  var example: String {
    switch self {
    case .text, .secretText, .recordText: "text"
    case .duration, .interval: "a duration such as `5s`"
    case .size: "a size such as `1MiB`"
    case .integer(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
    case .fraction: "a number from 0 to 1, or `10%`"
    case .boolean: "`true` or `false`"
    case .choice(let words, _): words.map { "`\($0)`" }.joined(separator: " or ")
    case .address: "`host:port`, `:port` or `unix:/path`"
    case .path: "a file's path"
    case .url: "`http://host:port` or `https://host:port`"
    case .target: "`app`, a cluster's name or `http://host:port`"
    case .signal: "a signal such as `SIGTERM`"
    case .secretName: "`secrets.NAME`"
    case .pathOrSecret: "a file's path or `secrets.NAME`"
    case .peerName: "a name such as `spiffe://shop/web` or `dns:web.shop`"
    case .mode: "permission bits such as `\"0600\"`"
    case .headerName: "a field's name"
    case .urlPath: "a path such as `/healthz`"
    case .word(let words, let other): other.example + " or " + words.map { "`\($0)`" }.joined(separator: " or ")
    }
  }
}
