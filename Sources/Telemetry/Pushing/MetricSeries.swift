/// One request to a receiver of metrics.
package struct PushRequest: Sendable, Equatable {
  package var body: [UInt8]
  /// Samples in it.
  package var samples: Int

  package init(body: [UInt8], samples: Int) {
    self.body = body
    self.samples = samples
  }
}

extension ScrapedMetrics.Sample {
  /// The labels with their values as they are meant; those without a value are as if they were not there.
  var pairs: [Label] {
    var pairs: [Label] = []
    var rest = labels
    while let equals = rest.firstIndex(of: 0x3D), let quote = rest[equals...].firstIndex(of: 0x22) {
      let name = rest[..<equals].filter { $0 != 0x20 && $0 != 0x09 && $0 != 0x2C }
      var value: [UInt8] = []
      var index = rest.index(after: quote)
      while index < rest.endIndex, rest[index] != 0x22 {
        var byte = rest[index]
        if byte == 0x5C {
          index = rest.index(after: index)
          guard index < rest.endIndex else { break }
          byte = rest[index] == 0x6E ? 0x0A : rest[index]
        }
        value.append(byte)
        index = rest.index(after: index)
      }
      if !value.isEmpty {
        pairs.append(Label(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
      }
      guard index < rest.endIndex else { break }
      rest = rest[rest.index(after: index)...]
    }
    return pairs
  }

  /// The value, and the time in milliseconds since 1970 when the program told one.
  var reading: (value: Double, time: Int64?) {
    let words = value.split { $0 == 0x20 || $0 == 0x09 }
    let number = words.first.flatMap { Double(String(Substring($0))) } ?? .nan
    return (number, words.count > 1 ? Int64(String(Substring(words[1]))) : nil)
  }
}
