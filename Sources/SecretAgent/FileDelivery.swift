import Glibc
import Logging
import Secrets
import Synchronization
import Vocabulary

/// The files that carry secrets to the app: written atomically when their content changes, those of one set together, put
/// back when somebody deletes them, removed at stop. No content is kept: a hash tells whether the app knows it.
final class FileDelivery: Sendable {
  struct Target: Sendable {
    var path: String
    var mode: UInt32
    var owner: uid_t?
    var group: gid_t?
    var set: FileSet?
  }

  private let targets: [Target]
  /// Hashes, with the key of the process, of what was delivered, by index.
  private let delivered = Mutex<[Int: Int]>([:])

  init(_ files: [SecretFileConfiguration], _ absolute: (String) -> String) throws(FileFailure) {
    var targets: [Target] = []
    for file in files {
      let path = absolute(file.path)
      targets.append(
        Target(
          path: path, mode: file.mode, owner: try file.owner.map(Account.user),
          group: try file.group.map(Account.group),
          set: file.set.map { FileSet(directory: PlainFile.parent(of: path), name: $0) }))
    }
    self.targets = targets
  }

  /// Indices of files that are written together: each file, or each set.
  var units: [[Int]] {
    var units: [[Int]] = []
    for index in targets.indices {
      let set = targets[index].set
      if set != nil, let known = units.firstIndex(where: { targets[$0[0]].set == set }) {
        units[known].append(index)
      } else {
        units.append([index])
      }
    }
    return units
  }

  /// Writes the files of a unit unless they hold these octets already. Returns the indices of those whose content is not
  /// what was delivered before, or was there before.
  func deliver(_ unit: [Int], _ texts: [[UInt8]]) throws(FileFailure) -> [Int] {
    let known = delivered.withLock { $0 }
    var changed: [Int] = []
    for (index, text) in zip(unit, texts) {
      let isSame = holds(targets[index], text)
      if !isSame || known[index].map({ $0 != Self.hash(text) }) ?? false { changed.append(index) }
    }
    try write(unit, texts)
    delivered.withLock { for (index, text) in zip(unit, texts) { $0[index] = Self.hash(text) } }
    return changed
  }

  private func holds(_ target: Target, _ text: [UInt8]) -> Bool {
    guard PlainFile.mode(target.path) == target.mode, PlainFile.holds(target.path, text) else { return false }
    return FileSet.link(of: target.path) == target.set?.target(of: target.path)
  }

  private func write(_ unit: [Int], _ texts: [[UInt8]]) throws(FileFailure) {
    guard let set = targets[unit[0]].set else {
      let target = targets[unit[0]]
      if holds(target, texts[0]) { return }
      return try PlainFile.replace(
        target.path, texts[0], mode: target.mode, owner: target.owner, group: target.group)
    }
    let files = unit.map { targets[$0] }
    if zip(files, texts).allSatisfy({ holds($0, $1) }), set.holdsOnly(files.map(\.path)) { return }
    try set.replace(zip(files, texts).map { ($0, $1) })
  }

  private static func hash(_ text: [UInt8]) -> Int {
    var hasher = Hasher()
    text.withUnsafeBytes { hasher.combine(bytes: $0) }
    return hasher.finalize()
  }

  /// Absolute paths of what was delivered.
  var paths: Set<String> { Set(delivered.withLock { $0.keys.map { targets[$0].path } }) }

  /// Every set.
  var sets: Set<FileSet> { Set(targets.compactMap(\.set)) }

  /// Writes files again that are gone; `render` gives the content of a file by its index. When it is not what was
  /// delivered, the delivery that is due tells the app.
  func restore(_ logger: Logger, _ render: (Int) throws -> [UInt8]) {
    let known = delivered.withLock { $0 }
    for unit in units {
      guard unit.allSatisfy({ known[$0] != nil }),
        let gone = unit.first(where: { PlainFile.signature(targets[$0].path) == nil })
      else { continue }
      let path = targets[gone].path
      do {
        var texts: [[UInt8]] = []
        defer { for text in texts { text.erase() } }
        for index in unit { texts.append(try render(index)) }
        try write(unit, texts)
        logger.warning("secret file \(path) was deleted by somebody else; it is back")
      } catch {
        logger.error("secret file \(path) was deleted by somebody else and cannot be put back: \(error)")
      }
    }
  }

  /// Removes every delivered file.
  func remove() {
    let indices = delivered.withLock { delivered in
      defer { delivered = [:] }
      return Array(delivered.keys)
    }
    for index in indices { unlink(targets[index].path) }
    for set in sets { set.remove() }
  }
}
