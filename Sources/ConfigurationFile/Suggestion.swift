/// The nearest known word for a misspelt one.
enum Suggestion {
  /// nil when nothing is near enough to be meant: at most a third of the letters, and at most 3, may differ.
  static func nearest(to word: String, among known: [String]) -> String? {
    guard word.utf8.count <= 64 else { return nil }
    let limit = max(1, min(3, (word.count + 1) / 3))
    let lower = word.lowercased()
    let ranked = known.map { (distance(Array(lower), Array($0.lowercased())), $0) }
    if let best = ranked.min(by: { $0.0 < $1.0 }), best.0 <= limit { return best.1 }
    return known.first { $0.count >= 4 && (lower.hasPrefix($0) || ($0.hasPrefix(lower) && lower.count >= 3)) }
  }

  /// Insertions, deletions, changes and swaps of neighbours (optimal string alignment).
  static func distance(_ a: [Character], _ b: [Character]) -> Int {
    if a.isEmpty || b.isEmpty { return max(a.count, b.count) }
    var before: [Int] = []
    var previous = Array(0...b.count)
    for i in 1...a.count {
      var row = [i] + Array(repeating: 0, count: b.count)
      for j in 1...b.count {
        let change = a[i - 1] == b[j - 1] ? 0 : 1
        row[j] = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + change)
        if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] { row[j] = min(row[j], before[j - 2] + 1) }
      }
      before = previous
      previous = row
    }
    return previous[b.count]
  }
}
