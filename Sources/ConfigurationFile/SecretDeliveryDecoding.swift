import Secrets
import Vocabulary

/// How secrets reach the app besides files, and what follows a change.
extension ConfigurationDecoder {
  func sharedMemory(_ view: TreeView) -> SharedMemoryConfiguration? {
    guard view.exists else { return nil }
    let names = view["values"].elements
    if names.isEmpty, view["values"].exists {
      view.error("`\(view.path)` names no secret", "add `values: [NAME]` with names of `secrets.values`")
    }
    for name in names {
      if let text = name.text, !secretNames.contains(text), !acceptsAnySecret { reportUndeclared(text, at: name) }
    }
    var seen: Set<String> = []
    var memory = SharedMemoryConfiguration(values: names.compactMap(\.text).filter { seen.insert($0).inserted })
    memory.path = view["path"].filePath
    memory.owner = root["app"]["user"].text
    return memory
  }

  func secretSocket(_ view: TreeView) -> SecretSocketConfiguration? {
    guard view.exists, let path = view["path"].filePath else { return nil }
    var socket = SecretSocketConfiguration(path: path)
    socket.users = view["uids"].texts
    if !view["uids"].exists, let user = root["app"]["user"].text { socket.users = [user] }
    return socket
  }

  func fileSet(_ view: TreeView) -> String? {
    guard let name = view.text else { return nil }
    let isName = name.utf8.allSatisfy { byte in
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x2D
        || byte == 0x5F
    }
    guard isName, (1...64).contains(name.utf8.count) else {
      view.error("`\(view.path)` is not a name", "write up to 64 letters, digits, `-` and `_`, for example `set: web`")
      return nil
    }
    return name
  }

  /// One link switches them, so they are in one directory.
  func checkSets(_ view: TreeView) {
    var places: [String: String] = [:]
    for element in view.elements {
      guard let name = element["set"].text, let path = element["path"].filePath else { continue }
      let directory = FilePath.directory(of: path)
      if let known = places[name], known != directory {
        element["path"].error(
          "the files of the set `\(PlainText.shown(name))` are in \(known) and in \(directory)",
          "put them into one directory, or give them two names")
      }
      places[name] = places[name] ?? directory
    }
  }

  func changeActions(_ view: TreeView) -> [ChangeAction] {
    var actions: [ChangeAction] = []
    let timeout = view["timeout"].duration ?? .seconds(30)
    if let signal = view["signal"].signal { actions.append(.signal(signal)) }
    if view["restart"].bool == true { actions.append(.restart) }
    if view["exec"].exists {
      let command = view["exec"].texts
      if (command.first ?? "").isEmpty, !view.isBroken("exec") {
        view["exec"].error("`\(view.path).exec` is empty", "write `exec: [program, argument]`")
      }
      actions.append(.exec(command, timeout: timeout))
    }
    if let url = view["http"].text { actions.append(.http(url, timeout: timeout)) }
    return actions
  }
}
