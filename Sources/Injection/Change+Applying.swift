package import Vocabulary

extension JSONNode {
  package var items: [JSONNode] { if case .array(let items) = self { items } else { [] } }
  package var members: [(key: String, value: JSONNode)] { if case .object(let members) = self { members } else { [] } }

  /// Equal, whatever the order of members.
  package func isSame(as other: JSONNode) -> Bool {
    switch (self, other) {
    case (.object(let left), .object(let right)):
      left.count == right.count
        && left.allSatisfy { member in right.contains { $0.key == member.key && member.value.isSame(as: $0.value) } }
    case (.array(let left), .array(let right)):
      left.count == right.count && zip(left, right).allSatisfy { $0.isSame(as: $1) }
    default: self == other
    }
  }

  /// The value at a path; nil when there is none.
  package func value(at path: some Collection<String>) -> JSONNode? {
    guard let first = path.first else { return self }
    switch self {
    case .object: return self[first]?.value(at: path.dropFirst())
    case .array(let items):
      guard let index = Int(first), items.indices.contains(index) else { return nil }
      return items[index].value(at: path.dropFirst())
    default: return nil
    }
  }

  /// The document after one change.
  package func applying(_ change: Change) throws(InjectionError) -> JSONNode {
    switch change {
    case .add(let path, let value): try edited(path[...], adding: value)
    case .remove(let path): try edited(path[...], adding: nil)
    }
  }

  private func edited(_ path: ArraySlice<String>, adding value: JSONNode?) throws(InjectionError) -> JSONNode {
    guard let name = path.first else { throw InjectionError("a change without a place") }
    let isLast = path.count == 1
    switch self {
    case .object(var members):
      let place = members.firstIndex { $0.key == name }
      if !isLast {
        guard let place else { throw InjectionError("there is no `\(name)` to change") }
        members[place].value = try members[place].value.edited(path.dropFirst(), adding: value)
      } else if let place {
        if let value { members[place].value = value } else { members.remove(at: place) }
      } else if let value {
        members.append((name, value))
      }
      return .object(members)
    case .array(var items):
      guard let index = Int(name), index >= 0, index < items.count + (isLast && value != nil ? 1 : 0) else {
        throw InjectionError("there is no item \(name) to change")
      }
      if !isLast {
        items[index] = try items[index].edited(path.dropFirst(), adding: value)
      } else if let value {
        items.insert(value, at: index)
      } else {
        items.remove(at: index)
      }
      return .array(items)
    default: throw InjectionError("`\(name)` is asked of a single value")
    }
  }
}

extension Change {
  var path: [String] {
    switch self {
    case .add(let path, _), .remove(let path): path
    }
  }

  /// The same change in a document whose member `name` is what stood at `path`.
  func relative(to path: [String], under name: String) -> Change {
    switch self {
    case .add(let place, let value): .add([name] + place.dropFirst(path.count), value)
    case .remove(let place): .remove([name] + place.dropFirst(path.count))
    }
  }

  /// As an operation of a JSON Patch (RFC 6902), its path a JSON Pointer (RFC 6901).
  package var patch: JSONNode {
    let pointer = path.map { "/" + $0.replacing("~", with: "~0").replacing("/", with: "~1") }.joined()
    switch self {
    case .add(_, let value):
      return .object([("op", .string("add")), ("path", .string(pointer)), ("value", value)])
    case .remove: return .object([("op", .string("remove")), ("path", .string(pointer))])
    }
  }
}
