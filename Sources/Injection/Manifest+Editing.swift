import Vocabulary

/// Changes of the text that leave every other character as it was: comments, order, quotes.
extension Manifest {
  /// Carries out a change in the document of that number. The result is read again and must mean what the change means:
  /// what cannot be edited in place (behind an alias, an unusual layout) is an error, never a wrong manifest.
  package func applying(_ change: Change, to document: Int) throws(InjectionError) -> Manifest {
    let before = documents
    var wanted = before
    wanted[document] = try before[document].applying(change)
    let pieces = try edit(change, roots[document])
    let after = try Manifest(pieces)
    let now = after.documents
    guard now.count == wanted.count, zip(now, wanted).allSatisfy({ $0.isSame(as: $1) }) else {
      throw InjectionError(
        "`\(change.path.joined(separator: "."))` cannot be changed where it stands; "
          + "write this part of the manifest in block style, without anchors")
    }
    return after
  }

  private func edit(_ change: Change, _ root: Node) throws(InjectionError) -> String {
    let path = change.path
    guard let name = path.last, let parent = node(path.dropLast(), root) else {
      throw InjectionError("there is no `\(path.dropLast().joined(separator: "."))` in the text")
    }
    switch change {
    case .remove: return remove(name, from: parent)
    case .add(_, let value):
      guard case .mapping(let entries, _) = parent.content, let present = entries.first(where: { $0.key == name })
      else {
        return add(name, value, to: parent)
      }
      return replace(present, value)
    }
  }

  private func node(_ path: some Collection<String>, _ root: Node) -> Node? {
    guard let first = path.first else { return root }
    switch root.content {
    case .mapping(let entries, _):
      return entries.first { $0.key == first }.flatMap { node(path.dropFirst(), $0.value) }
    case .sequence(let items, _):
      guard let index = Int(first), items.indices.contains(index) else { return nil }
      return node(path.dropFirst(), items[index])
    case .scalar, .alias: return nil
    }
  }

  // MARK: Adding

  private func add(_ name: String, _ value: JSONNode, to parent: Node) -> String {
    switch parent.content {
    case .mapping(let entries, isFlow: true):
      let entry = JSONNode.quote(name) + ": " + value.json
      guard let last = entries.last else { return inserting(entry, at: parent.start + 1) }
      return inserting(", " + entry, at: last.value.end)
    case .mapping(let entries, isFlow: false):
      let column = column(of: entries.first?.start ?? parent.start)
      return inserting(lines: BlockText.entry(name, value, indent: column), after: parent.end)
    case .sequence(let items, isFlow: true):
      guard let index = Int(name), index < items.count else {
        guard let last = items.last else { return inserting(value.json, at: parent.start + 1) }
        return inserting(", " + value.json, at: last.end)
      }
      return inserting(value.json + ", ", at: items[index].start)
    case .sequence(let items, isFlow: false):
      let lines = BlockText.item(value, indent: column(of: parent.start))
      guard let index = Int(name), index < items.count else { return inserting(lines: lines, after: parent.end) }
      return inserting(lines.joined(), at: lineStart(of: index == 0 ? parent.start : items[index].start))
    case .scalar, .alias: return string
    }
  }

  /// A key that is there without a value, or with an empty list or map.
  private func replace(_ entry: Node.Entry, _ value: JSONNode) -> String {
    let lines = BlockText.entry(entry.key, value, indent: column(of: entry.start))
    return replacing(lineStart(of: entry.start)..<lineEnd(after: entry.value.end), with: lines.joined())
  }

  // MARK: Removing

  private func remove(_ name: String, from parent: Node) -> String {
    switch parent.content {
    case .mapping(let entries, let isFlow):
      guard let index = entries.firstIndex(where: { $0.key == name }) else { return string }
      let spans = entries.map { $0.start..<max($0.value.end, $0.start) }
      return isFlow ? removingFlow(index, spans) : removingLines(spans[index])
    case .sequence(let items, let isFlow):
      guard let index = Int(name), items.indices.contains(index) else { return string }
      let spans = items.map { $0.start..<$0.end }
      return isFlow ? removingFlow(index, spans) : removingLines(spans[index])
    case .scalar, .alias: return string
    }
  }

  private func removingLines(_ span: Range<Int>) -> String {
    replacing(lineStart(of: span.lowerBound)..<lineEnd(after: span.upperBound), with: "")
  }

  /// With the comma that parts it from a neighbour.
  private func removingFlow(_ index: Int, _ spans: [Range<Int>]) -> String {
    if index > 0 { return replacing(spans[index - 1].upperBound..<spans[index].upperBound, with: "") }
    let end = spans.count > 1 ? spans[1].lowerBound : spans[0].upperBound
    return replacing(spans[0].lowerBound..<end, with: "")
  }

  // MARK: Places

  private func lineStart(of place: Int) -> Int {
    (text[..<place].lastIndex(of: "\n")).map { $0 + 1 } ?? 0
  }

  /// Behind the line break that ends the line of the last character before `place`.
  private func lineEnd(after place: Int) -> Int {
    (text[max(place - 1, 0)...].firstIndex(of: "\n")).map { $0 + 1 } ?? text.count
  }

  private func column(of place: Int) -> Int { place - lineStart(of: place) }

  private func inserting(lines: [String], after place: Int) -> String {
    let end = lineEnd(after: place)
    let isOpen = end == text.count && text.last != "\n"
    return inserting((isOpen ? "\n" : "") + lines.joined(), at: end)
  }

  private func inserting(_ addition: String, at place: Int) -> String { replacing(place..<place, with: addition) }

  private func replacing(_ range: Range<Int>, with addition: String) -> String {
    var result = String.UnicodeScalarView()
    result.append(contentsOf: text[..<range.lowerBound])
    result.append(contentsOf: addition.unicodeScalars)
    result.append(contentsOf: text[range.upperBound...])
    return String(result)
  }
}
